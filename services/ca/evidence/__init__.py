"""One file that proves one certificate."""
