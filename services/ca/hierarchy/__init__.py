"""Roots and the intermediates below them: what they are, how they are kept, and how they change."""
