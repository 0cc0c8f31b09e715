"""The HTTPS interface: authenticates, parses and limits requests, asks other services, and answers in HTTP's terms."""
