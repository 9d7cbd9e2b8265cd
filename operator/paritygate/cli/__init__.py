"""The command line: thin, everything that it does is done elsewhere."""
