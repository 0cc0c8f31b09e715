"""The services of the tree and what they are all built from: worker shell, calls between workers, database."""
