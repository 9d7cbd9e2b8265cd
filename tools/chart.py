"""What of the Helm chart follows from elsewhere: its copy of the CRD, the schema of its values and their reference, the
operator's defaults, and the dashboard.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import dashboard
import values
import yaml

from paritygate.api import addresses, crd
from paritygate.cluster.settings import Caps, Floors, Settings, Unchecked
from paritygate.core.rollout import DEFAULT_REPLICAS

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = Path("charts/paritygate")
_FROM_OTHER_VALUES: Final = ("images", "namespaces")
_DIGEST: Final = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_LABELS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_FREE: Final = {"type": "object"}
"""Of Kubernetes' own shape, which the API server checks."""


def files() -> dict[Path, str]:
    """Path relative to the repository → content."""
    return {
        CHART / "files" / "crd.yaml": crd.crd_yaml(),
        CHART / "files" / "defaults.yaml": defaults(),
        CHART / "files" / "dashboard.json": dashboard.dashboard(),
        CHART / "values.schema.json": json.dumps(values_schema(), indent=2) + "\n",
        Path("docs/reference/chart-values.md"): values.reference(
            (ROOT / CHART / "values.yaml").read_text(encoding="utf-8"), values_schema()
        ),
    }


def defaults() -> str:
    """What the operator goes by where `config` says nothing, as far as templates need it."""
    found = {
        "floors": Floors().model_dump(mode="json", by_alias=True, exclude_none=True),
        "caps": Caps().model_dump(mode="json", by_alias=True),
        "resync": Unchecked.model_fields["resync"].default,
        "replicas": DEFAULT_REPLICAS,
        "schemes": list(addresses.IN_A_CLUSTER),
        "hint": addresses.HINT,
        "cut": addresses.CUT,
    }
    return "# Generated from the models by `make generate`; change those.\n" + yaml.safe_dump(
        found, sort_keys=False, width=120
    )


def values_schema() -> dict[str, Any]:
    """Closed: a value that the chart does not know is refused. `config` is the operator's own configuration."""
    settings = Settings.model_json_schema(mode="validation", by_alias=True)
    definitions = settings.pop("$defs")
    configured = {name: field for name, field in settings["properties"].items() if name not in _FROM_OTHER_VALUES}
    said = definitions["WorkerImage"]["properties"]["identity"]
    names = {"type": "array", "items": _TEXT, "uniqueItems": True}
    # They come to stand in quotes.
    who = {"type": "array", "items": {"type": "string", "pattern": "^[^'\\\\]+$"}, "uniqueItems": True}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": definitions,
        **_closed(
            images=_closed(
                operator=_closed(repository=_TEXT, tag=_TEXT, digest=_DIGEST),
                worker=_closed(repository=_TEXT, digest=_DIGEST, identity=said),
                server=_closed(repository=_TEXT, digest=_DIGEST, identity=_DIGEST),
                pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
                pullSecrets={"type": "array", "items": _FREE},
            ),
            namespaces=names,
            config=_closed(**configured),
            crds=_closed(install=_FLAG, keep=_FLAG),
            replicas={"type": "integer", "minimum": 1, "maximum": 9},
            resources=_FREE,
            nodeSelector=_FREE,
            tolerations={"type": "array", "items": _FREE},
            affinity=_FREE,
            priorityClassName=_TEXT,
            podAnnotations=_FREE,
            serviceAccount=_closed(create=_FLAG, name=_TEXT, annotations=_FREE),
            secretNames=names,
            networkPolicy=_closed(
                operator=_FLAG,
                apiServerPorts={
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1, "maximum": 65535},
                    "minItems": 1,
                },
                jobs=_closed(enabled=_FLAG, egress={"type": "array", "items": _FREE}),
            ),
            admissionPolicy=_closed(
                enabled=_FLAG,
                actions={
                    "type": "array",
                    "items": {"enum": ["Deny", "Warn", "Audit"]},
                    "uniqueItems": True,
                    "minItems": 1,
                    "not": {"allOf": [{"contains": {"const": "Deny"}}, {"contains": {"const": "Warn"}}]},
                },
                exempt=_closed(users=who, groups=who),
            ),
            metrics=_closed(
                service=_FLAG,
                serviceMonitor=_closed(
                    enabled=_FLAG, labels=_LABELS, interval={"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
                ),
                alerts=_closed(enabled=_FLAG, labels=_LABELS, selector=_TEXT),
                dashboard=_closed(enabled=_FLAG, labels=_LABELS, annotations=_LABELS),
            ),
            # What Helm hands to a chart that others depend on.
            **{"global": _FREE},
        ),
    }


def _closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}
