"""The record in numbers and lists: what is on it, what ends, what is kept no longer."""
