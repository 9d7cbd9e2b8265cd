"""What an image says of itself, for the operator's configuration."""

import json

from paritygate import installation
from paritygate.api.spec import SourceFormat
from paritygate.cluster.settings import WorkerImage
from paritygate.worker.__main__ import main


def test_the_worker_says_what_the_configuration_takes_and_one_machine_uses(capsys):
    assert main(["identity"]) == 0
    image = WorkerImage.model_validate(
        {"name": f"registry.example/worker@sha256:{'1' * 64}", "identity": json.loads(capsys.readouterr().out)}
    )
    for source_format in SourceFormat:
        found = image.environments(source_format)
        assert found.converter == installation.converter_digest(source_format)
        assert found.source == installation.source_digest(source_format)
