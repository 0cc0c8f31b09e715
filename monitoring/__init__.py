"""The metrics block, its write side (metrics, tracing) and its read side (health, alerts, history, exports)."""
