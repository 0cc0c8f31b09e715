"""The metrics block, its write side (metrics, tracing) and its read side (snapshot, health, alerts, history, exports)."""
