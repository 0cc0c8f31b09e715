"""The look at each certificate, octet by octet, by code of its own. Pure."""
