"""The supervisor: starts every worker, notices when one dies or hangs, and replaces it. It knows nothing of PKI."""
