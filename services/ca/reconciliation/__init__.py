"""Record, log, lists and answers against each other, while the authority runs."""
