"""What the scenarios are told in: a cluster to act on, ParityGate in it, models in a bucket, clients that ask."""
