"""What happened to a migration on the API server, told as text that a person reads like a story."""
