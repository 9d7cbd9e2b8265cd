"""The command line: thin, everything that it does is done elsewhere."""

from paritygate.cli.main import main

__all__ = ["main"]
