"""The same plan as in a cluster, carried out by processes on one machine."""
