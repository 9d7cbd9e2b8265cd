"""Decisions. Pure functions of what is observed: no clock, no I/O, no third-party packages but the API's models."""
