"""The plan on Kubernetes: what is observed there, how actions become objects, and the one status write."""
