"""Revocation, and what is published of it: lists (CRL) and answers (OCSP)."""
