"""The look at each certificate, octet by octet, by code that shares nothing with what makes them. Pure."""
