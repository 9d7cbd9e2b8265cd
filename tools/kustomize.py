"""What `kubectl apply -k deploy` installs: the chart as helm renders it by default, so that the two are one.

What belongs to Helm alone is left out, and the ConfigMap is left to kustomize, which names it by its content: pods are
then made anew when the configuration changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from paritygate.api import crd

ROOT: Final = Path(__file__).resolve().parent.parent
DEPLOY: Final = Path("deploy")
_ELSEWHERE: Final = ("ConfigMap", "CustomResourceDefinition")
"""The one is made by kustomize, the other lies in `crds`."""
NAMESPACE: Final = "paritygate-system"
_NAME: Final = "paritygate"
_UNKNOWN: Final = f"sha256:{'0' * 64}"
_HEADER: Final = "# Generated from the Helm chart by `make generate`; change that.\n"
_PARTS: Final = {
    "operator/rbac.yaml": ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    "operator/admission.yaml": ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    "operator/operator.yaml": ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"),
}
_CONFIGURATION: Final = """# What Jobs run and what serves, by digest; and all else that is for you to say:
# docs/reference/operator-configuration.md.
"""


def files() -> dict[Path, str]:
    """Path relative to the repository → content. FileNotFoundError: no helm; CalledProcessError: it refuses."""
    objects = list(_rendered())
    (config,) = (one for one in objects if one["kind"] == "ConfigMap")
    parts = {path: [one for one in objects if one["kind"] in kinds] for path, kinds in _PARTS.items()}
    left = {one["kind"] for one in objects} - {kind for kinds in (*_PARTS.values(), _ELSEWHERE) for kind in kinds}
    if left:
        raise ValueError(f"objects of the chart that belong to no file of {DEPLOY}: {', '.join(left)}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    parts["operator/namespace.yaml"] = [namespace]
    generator = {"name": _NAME, "namespace": NAMESPACE, "files": ["configuration/operator.yaml"]}
    inside = sorted(Path(path).name for path in parts if path.startswith("operator/"))
    parts |= {
        "kustomization.yaml": [_kustomization(resources=["../crds", "operator"])],
        "../crds/kustomization.yaml": [_kustomization(resources=[crd.FILE_NAME])],
        "operator/kustomization.yaml": [_kustomization(resources=inside, configMapGenerator=[generator])],
    }
    found = {
        Path(os.path.normpath(DEPLOY / path)): _HEADER + yaml.safe_dump_all(some, sort_keys=False, width=120)
        for path, some in parts.items()
    }
    text = config["data"]["operator.yaml"].replace(_UNKNOWN, "sha256:…")
    return found | {DEPLOY / "operator/configuration/operator.yaml": _CONFIGURATION + text}


def _kustomization(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **fields}


def _rendered() -> Iterator[dict[str, Any]]:
    installed = ROOT / ".build" / "tools" / "helm"
    helm = str(installed) if installed.exists() else shutil.which("helm")
    if helm is None:
        raise FileNotFoundError(
            "there is no helm to render the chart with; `make generate` installs it on Linux x86-64"
        )
    digests = [f"--set=images.{name}.digest={_UNKNOWN}" for name in ("worker", "server")]
    command = [helm, "template", _NAME, str(ROOT / "charts" / "paritygate"), "--namespace", NAMESPACE, *digests]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our arguments
    for one in yaml.safe_load_all(ended.stdout):
        if one:
            yield _without_helm(one)


def _without_helm(one: dict[str, Any]) -> dict[str, Any]:
    """Without what says that Helm made it, or tells Helm what to do."""
    metadata = one["metadata"]
    for part in ("labels", "annotations"):
        kept = {key: value for key, value in metadata.get(part, {}).items() if not key.startswith("helm.sh/")}
        kept.pop("app.kubernetes.io/managed-by", None)
        metadata = {key: value for key, value in metadata.items() if key != part} | ({part: kept} if kept else {})
    found = {**one, "metadata": metadata}
    if found["kind"] == "Deployment":
        template = found["spec"]["template"]
        # Its ConfigMap has another name whenever its content is another.
        del template["metadata"]["annotations"]
    return found
