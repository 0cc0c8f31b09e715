"""The transport between the hosts of this house: calls over QUIC, one stream each, both ends with certificates."""
