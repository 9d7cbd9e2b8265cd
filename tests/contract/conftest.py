"""What contract tests share."""

import pytest

from control_plane.client import Client
from paritygate.api import crd


@pytest.fixture(scope="session")
def migrations(api: Client) -> Client:
    """A client of a server that knows ModelMigration."""
    definition = crd.crd()
    api.apply(definition, force="true")
    name = definition["metadata"]["name"]

    def served(found: dict) -> bool:
        told = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions") or ()}
        return told.get("Established") == "True" and told.get("NamesAccepted") == "True"

    found = api.until("CustomResourceDefinition", name, None, served)
    assert "NonStructuralSchema" not in {c["type"] for c in found["status"]["conditions"]}
    # Established is said before every handler serves it.
    api.until_served("ModelMigration")
    return api
