"""What can be in the way of a cluster."""


class Unavailable(Exception):
    """There can be no such cluster here; the message says what is missing, and what else to do."""
