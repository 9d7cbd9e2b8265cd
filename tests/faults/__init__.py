"""Faults on the wire between the operator and a real API server, and an auditor who watches what comes of them."""
