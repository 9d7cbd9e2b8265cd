"""A Kubernetes control plane for tests: etcd, API server, controllers and scheduler, and a stand-in for the kubelet."""
