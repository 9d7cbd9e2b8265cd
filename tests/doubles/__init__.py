"""Stand-ins for what is slow or far away; tests/contract holds them to what they stand in for."""
