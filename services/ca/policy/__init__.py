"""What is certified: names, keys, profiles, and the name constraints of an issuer. Pure."""
