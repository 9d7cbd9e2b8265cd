"""Command lines that the control plane alone and the one of a whole cluster have in common."""

from collections.abc import Iterable
from pathlib import Path


def etcd(folder: Path) -> tuple[str, ...]:
    """An etcd that never syncs to disk, on sockets in the folder: no port to choose, and nobody else gets in."""
    return (
        f"--data-dir={folder}/etcd", f"--listen-client-urls=unix://{folder}/client.sock",
        "--advertise-client-urls=http://localhost:2379", f"--listen-peer-urls=unix://{folder}/peer.sock",
        "--initial-advertise-peer-urls=http://localhost:2380", "--initial-cluster=default=http://localhost:2380",
        "--unsafe-no-fsync", "--log-level=warn", "--quota-backend-bytes=8589934592", "--snapshot-count=1000000",
    )  # fmt: skip


def server(folder: Path) -> tuple[str, ...]:
    """The API server's certificate, tokens and store. Nobody gets in without a name."""
    files = (
        "--token-auth-file=tokens.csv", "--tls-cert-file=server.crt", "--tls-private-key-file=server.key",
        "--service-account-key-file=accounts.key", "--service-account-signing-key-file=accounts.key",
    )  # fmt: skip
    return (
        *inside(folder, files), f"--etcd-servers=unix://{folder}/client.sock", f"--cert-dir={folder}",
        "--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
        "--anonymous-auth=false", "--allow-privileged=true", "--profiling=false",
    )  # fmt: skip


def controllers(folder: Path) -> tuple[str, ...]:
    """What the controller manager signs tokens with."""
    return inside(folder, ("--root-ca-file=ca.crt", "--service-account-private-key-file=accounts.key"))


def inside(folder: Path, flags: Iterable[str]) -> tuple[str, ...]:
    """Flags whose files lie in the folder."""
    return tuple(flag.replace("=", f"={folder}/", 1) for flag in flags)
