"""The ModelMigration resource as a whole."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from paritygate.api.base import API_VERSION, MigrationName, Model
from paritygate.api.spec import ModelMigrationSpec
from paritygate.api.status import ModelMigrationStatus


class Metadata(BaseModel):
    """Object metadata. What Kubernetes adds (uid, annotations, …) is carried along, not read."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: MigrationName


class ModelMigration(Model):
    """Moves one model, and proves that nothing was lost."""

    api_version: Literal["paritygate.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelMigration"] = "ModelMigration"
    metadata: Metadata
    spec: ModelMigrationSpec
    status: ModelMigrationStatus | None = None
