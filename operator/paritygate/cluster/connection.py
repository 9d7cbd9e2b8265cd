"""Where the API server is and how to be let in: from the pod that we run in, or from a kubeconfig file."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from paritygate.errors import UsageError

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Connection:
    """An API server and our credentials."""

    server: str
    namespace: str
    ca: bytes | None = None
    """PEM; None = the machine's own authorities."""
    insecure: bool = False
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    """Read anew for every request: the kubelet replaces bound tokens within the hour."""

    def authorization(self) -> dict[str, str]:
        """Headers that say who we are."""
        token = self.token_file.read_text(encoding="ascii").strip() if self.token_file else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}

    def tls(self) -> ssl.SSLContext | None:
        """None = plain HTTP."""
        if not self.server.startswith("https"):
            return None
        context = ssl.create_default_context(cadata=self.ca.decode() if self.ca else None)
        if self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.certificate and self.key:
            # The ssl module reads client certificates from files only.
            with tempfile.TemporaryDirectory() as folder:
                certificate, key = Path(folder, "certificate"), Path(folder, "key")
                certificate.write_bytes(self.certificate)
                key.write_bytes(self.key)
                context.load_cert_chain(certificate, key)
        return context


def connection(environment: Mapping[str, str], account: Path = _ACCOUNT) -> Connection:
    """The connection that `KUBECONFIG` names, else the pod's own, else ~/.kube/config. UsageError: there is none."""
    stated = environment.get("KUBECONFIG")
    if stated:
        return from_kubeconfig(Path(stated.split(os.pathsep)[0]))
    if (account / "token").exists():
        return from_service_account(environment, account)
    usual = Path.home() / ".kube" / "config"
    if usual.exists():
        return from_kubeconfig(usual)
    raise UsageError("no cluster is known: set KUBECONFIG to a kubeconfig file, or run in a pod with a service account")


def from_service_account(environment: Mapping[str, str], account: Path = _ACCOUNT) -> Connection:
    """The connection of the pod that we run in."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise UsageError("KUBERNETES_SERVICE_HOST is not set although there is a service account; is this a pod?")
    host = f"[{host}]" if ":" in host else host
    return Connection(
        server=f"https://{host}:{port}",
        namespace=(account / "namespace").read_text(encoding="ascii").strip(),
        ca=(account / "ca.crt").read_bytes(),
        token_file=account / "token",
    )


def from_kubeconfig(file: Path) -> Connection:
    """The current context of a kubeconfig file. UsageError: it is unreadable, incomplete, or needs a plug-in."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        context = _named(content, "contexts", "context", content["current-context"])
        cluster = _named(content, "clusters", "cluster", context["cluster"])
        user = _named(content, "users", "user", context["user"])
        server = str(cluster["server"]).rstrip("/")
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise UsageError(f"{file}: not a usable kubeconfig ({error!r}); check it with kubectl config view") from error
    if "exec" in user or "auth-provider" in user:
        raise UsageError(f"{file}: user {context['user']!r} logs in by a plug-in; use a token or a certificate")
    return Connection(
        server=server,
        namespace=str(context.get("namespace", "default")),
        ca=_content(cluster, "certificate-authority", file),
        insecure=bool(cluster.get("insecure-skip-tls-verify", False)),
        certificate=_content(user, "client-certificate", file),
        key=_content(user, "client-key", file),
        token=user.get("token"),
        token_file=file.parent / user["tokenFile"] if "tokenFile" in user else None,
    )


def _named(content: Mapping[str, Any], many: str, one: str, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(item[one] for item in content[many] if item["name"] == name)
    return found


def _content(entry: Mapping[str, Any], field: str, file: Path) -> bytes | None:
    if f"{field}-data" in entry:
        return base64.b64decode(entry[f"{field}-data"])
    return (file.parent / entry[field]).read_bytes() if field in entry else None
