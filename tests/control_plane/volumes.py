"""A stand-in for a storage class: it makes the volumes that claims wait for."""

from control_plane.client import Client, Object


def provide(api: Client, namespace: str, claim: str) -> Object:
    """Makes a volume for a claim, once there is one, and gives the claim when it is bound to it."""
    wanted = api.until("PersistentVolumeClaim", claim, namespace, lambda _: True)
    spec = wanted["spec"]
    name = f"{namespace}-{claim}"
    api.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": spec["resources"]["requests"],
                "accessModes": spec["accessModes"],
                "storageClassName": spec.get("storageClassName", ""),
                "claimRef": {"namespace": namespace, "name": claim, "uid": wanted["metadata"]["uid"]},
                "hostPath": {"path": f"/none-such/{name}"},
            },
        }
    )
    return api.until("PersistentVolumeClaim", claim, namespace, lambda found: found["status"].get("phase") == "Bound")
