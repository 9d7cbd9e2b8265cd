"""What of the Helm chart follows from the models: its copy of the CRD, and the schema of its values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from paritygate.api import crd
from paritygate.cluster.settings import Settings

CHART: Final = Path("charts/paritygate")
_FROM_OTHER_VALUES: Final = ("images", "namespaces")
_DIGEST: Final = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_FREE: Final = {"type": "object"}
"""Of Kubernetes' own shape, which the API server checks."""


def files() -> dict[Path, str]:
    """Path relative to the repository → content."""
    return {
        CHART / "files" / "crd.yaml": crd.crd_yaml(),
        CHART / "values.schema.json": json.dumps(values_schema(), indent=2) + "\n",
    }


def values_schema() -> dict[str, Any]:
    """Closed: a value that the chart does not know is refused. `config` is the operator's own configuration."""
    settings = Settings.model_json_schema(mode="validation", by_alias=True)
    definitions = settings.pop("$defs")
    configured = {name: field for name, field in settings["properties"].items() if name not in _FROM_OTHER_VALUES}
    said = definitions["WorkerImage"]["properties"]["identity"]
    names = {"type": "array", "items": _TEXT, "uniqueItems": True}
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
                operator=_FLAG, jobs=_closed(enabled=_FLAG, egress={"type": "array", "items": _FREE})
            ),
            metrics=_closed(service=_FLAG),
            # What Helm hands to a chart that others depend on.
            **{"global": _FREE},
        ),
    }


def _closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}
