"""Target formats: how a candidate is built and finished."""
