"""What is put into a new cluster: its DNS and its storage, as objects. Pure."""

from typing import Any

from cluster.layout import ADDRESS, DNS, STORAGE_CLASS, STORAGE_NAMESPACE

Object = dict[str, Any]


def objects() -> list[tuple[str, Object]]:
    """In the order in which they can be created, each with the path of its collection."""
    core = "/api/v1"
    return [
        (f"{core}/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STORAGE_NAMESPACE}}),
        (f"{core}/namespaces/{STORAGE_NAMESPACE}/configmaps", _scripts()),
        ("/apis/storage.k8s.io/v1/storageclasses", _storage_class()),
        (f"{core}/namespaces/kube-system/services", _dns_service()),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", _dns_endpoint()),
    ]


def _scripts() -> Object:
    """What the provisioner's pods run, as it is delivered with it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "local-path-config", "namespace": STORAGE_NAMESPACE},
        "data": {
            "setup": '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
            "teardown": '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
        },
    }


def _storage_class() -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {
                "storageclass.kubernetes.io/is-default-class": "true",
                # Volumes of type hostPath, the default, do not honour a pod's fsGroup.
                "defaultVolumeType": "local",
            },
        },
        "provisioner": "rancher.io/local-path",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _dns_service() -> Object:
    """Without a selector: CoreDNS is no pod."""
    ports = [
        {"name": name, "protocol": protocol, "port": 53} for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": DNS, "ports": ports},
    }


def _dns_endpoint() -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
        "ports": [
            {"name": "dns", "protocol": "UDP", "port": 53},
            {"name": "dns-tcp", "protocol": "TCP", "port": 53},
        ],
    }
