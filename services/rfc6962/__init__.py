"""The log's formats and proofs (RFC 6962, C2SP): the log makes them and others verify them with the same functions."""
