"""A migration in a cluster, in few words."""

import pytest

from paritygate.api.spec import ModelMigrationSpec
from paritygate.cluster.settings import Settings

WORKER = f"registry.example/worker@sha256:{'1' * 64}"
SERVER = f"registry.example/server@sha256:{'2' * 64}"
SPEC = {
    "source": {"format": "SKLearn", "uri": "s3://models/churn.pkl"},
    "target": {"format": "ONNX"},
    "validation": {"dataset": {"uri": "s3://models/holdout.parquet", "label": "churned"}},
    "storage": {"object": {"uri": "s3://artefacts/models", "secretName": "artefact-store"}},
}


def make_spec(**fields):
    return ModelMigrationSpec.model_validate({**SPEC, **fields})


def make_settings(**fields):
    return Settings.model_validate({"images": {"worker": {"name": WORKER}, "server": {"name": SERVER}}, **fields})


@pytest.fixture
def spec():
    return make_spec


@pytest.fixture
def settings():
    return make_settings
