"""The text formats of metrics, one module each; every module here has one `EXPORTER` (see `monitoring.export`)."""
