"""How a certificate comes about: read, decided, built, logged, signed."""
