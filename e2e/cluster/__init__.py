"""A Kubernetes cluster for end-to-end tests; see docs/explanation/test-cluster.md."""
