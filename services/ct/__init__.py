"""The Certificate Transparency log (RFC 6962): every certificate of this house, in an order that nobody can change."""
