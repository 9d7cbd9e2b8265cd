"""The operator's process: kopf as the source of events, and what an administrator sees of it."""
