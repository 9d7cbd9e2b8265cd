"""Runs inside the source's own environment: Python ≥ 3.6, the standard library, numpy and the source's framework.

Imports nothing else of ours, so that it can be packed as a zipapp and run where ParityGate is not installed.
"""

from paritygate.agent.archive import build_zipapp

__all__ = ["build_zipapp"]
