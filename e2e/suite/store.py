"""An S3 server in the cluster, with the examples' models in it."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import Any, Final

from control_plane.client import Object
from suite import pods
from suite.access import Cluster, Image

NAMESPACE: Final = "e2e-store"
PORT: Final = 9000
ENDPOINT: Final = f"http://s3.{NAMESPACE}.svc:{PORT}"
BUCKETS: Final = ("models", "artefacts")
SECRET: Final = "artefact-store"  # noqa: S105 - its name
_KEYS: Final = "s3-root"
_REGION: Final = "us-east-1"


class Store:
    """The server, as it is known to who uploads and to migrations."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        held = cluster.api.get("Secret", _KEYS, NAMESPACE)["data"]
        self._access, self._key = (base64.b64decode(held[name]).decode() for name in ("access", "secret"))

    def secret(self, namespace: str, *, name: str = SECRET, allowed: bool = True, **changed: str) -> Object:
        """The Secret that migrations name; `changed` replaces keys of it."""
        labels = {"paritygate.dev/allowed": "true"} if allowed else {}
        data = {
            "AWS_ACCESS_KEY_ID": self._access, "AWS_SECRET_ACCESS_KEY": self._key, "AWS_REGION": _REGION,
            "AWS_ENDPOINT": ENDPOINT, "AWS_ALLOW_HTTP": "true", **changed,
        }  # fmt: skip
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}

    def upload(self, folder: Path, bucket: str = "models") -> None:
        """Brings all files below a folder, under their paths in it."""
        with self._cluster.forwarded(NAMESPACE, "svc/s3", PORT) as address:
            there = self._bucket(address, bucket)
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    there.put(path.relative_to(folder).as_posix(), path)

    def listed(self, bucket: str, prefix: str) -> list[str]:
        """Names of objects."""
        with self._cluster.forwarded(NAMESPACE, "svc/s3", PORT) as address:
            return [one["path"] for part in self._bucket(address, bucket).list(prefix) for one in part]

    def read(self, bucket: str, name: str) -> bytes:
        """An object."""
        with self._cluster.forwarded(NAMESPACE, "svc/s3", PORT) as address:
            return bytes(self._bucket(address, bucket).get(name).bytes())

    def _bucket(self, address: str, bucket: str) -> Any:
        from obstore.store import S3Store

        return S3Store(
            bucket, endpoint=f"http://{address}", access_key_id=self._access, secret_access_key=self._key,
            region=_REGION, virtual_hosted_style_request=False, client_options={"allow_http": True},
        )  # fmt: skip


def bring_up(cluster: Cluster, image: Image, base: Image) -> Store:
    """Starts the server, unless it is there. `base`: an image that makes folders, which are the buckets."""
    api = cluster.api
    if not cluster.has(NAMESPACE) or api.find("Secret", _KEYS, NAMESPACE) is None:
        for one in _objects(image, base):
            api.apply(one, force="true")
    cluster.kubectl("rollout", "status", "deployment/s3", "--timeout=90s", namespace=NAMESPACE, seconds=100)
    return Store(cluster)


def _objects(image: Image, base: Image) -> list[Object]:
    access, key = secrets.token_hex(10), secrets.token_hex(20)
    labels = {"app.kubernetes.io/name": "s3"}
    data = {"/data": {"emptyDir": {}}}
    server = pods.restricted(
        "s3", NAMESPACE, image.reference, ["/program", "--port", f":{PORT}", "posix", "/data"],
        volumes=data, environment={"ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": key}, labels=labels,
        restartPolicy="Always",
    )  # fmt: skip
    server["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    folders = pods.restricted(
        "folders", NAMESPACE, base.reference, ["mkdir", "-p", *(f"/data/{name}" for name in BUCKETS)], volumes=data
    )
    server["spec"]["initContainers"] = [{**folders["spec"]["containers"][0], "name": "folders"}]
    metadata = {"name": "s3", "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": labels},
                "strategy": {"type": "Recreate"},
                "template": {"metadata": {"labels": labels}, "spec": server["spec"]},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": PORT, "targetPort": PORT}]},
        },
        # Last: it says that all of it is there.
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": _KEYS, "namespace": NAMESPACE},
            "stringData": {"access": access, "secret": key},
        },
    ]
