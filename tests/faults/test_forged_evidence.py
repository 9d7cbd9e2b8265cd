"""What a Job hands in is believed only as far as it fits what was asked: nothing else ever comes to serve."""

import json

import pytest

from control_plane.migrations import migration
from faults.crew import Crew
from faults.world import Evidence, in_thread, migrating

OTHER = "sha256:" + "0" * 64


def receipt(change):
    """A forgery of the one receipt of a validate Job."""

    def forge(message):
        found = json.loads(message)
        change(found["receipts"][0])
        return json.dumps(found)

    return forge


def summary(**fields):
    return receipt(lambda one: one["summary"].update(fields))


def subject(**fields):
    return receipt(lambda one: one["summary"]["subject"].update(fields))


def last_check(**fields):
    return receipt(lambda one: one["summary"]["checks"][-1].update(fields))


FORGERIES = {
    "truncated": lambda message: message[: len(message) // 2],
    "empty": lambda _: "",
    "no-json": lambda _: "Passed",
    "no-receipt": lambda message: json.dumps({**json.loads(message), "receipts": []}),
    "other-stage": receipt(lambda one: one.update(digest=OTHER)),
    "other-report": summary(stage=OTHER),
    "other-candidate": subject(candidate=OTHER),
    "other-runtime": subject(runtime=OTHER),
    "other-policy": subject(policy=OTHER),
    "other-dataset": subject(dataset=OTHER),
    "failed-line": last_check(result="Failed"),
    "above-limit": last_check(measured=2),
    "not-blocking": last_check(blocking=False),
    "no-lines": summary(checks=[]),
    "no-summary": receipt(lambda one: one.pop("summary")),
}


class Forger(Evidence):
    """Hands in something else than what the validate Job came to."""

    def __init__(self, true, forge):
        super().__init__(true)
        self._forge = forge

    def published(self, order):
        message = super().published(order)
        return self._forge(message) if order.job == "Validate" else message


async def forged(plane):
    found = {}
    async with migrating(plane) as world:
        namespace = await world.namespace()
        for name, forge in FORGERIES.items():
            world.works[f"{namespace}/{name}"] = Forger(world.true, forge)
        async with Crew(world, namespace, settings={"caps": {"activeRunsPerNamespace": 20}}) as crew:
            for name in FORGERIES:
                await world.create(migration(namespace, name, jobs={"retries": 0}))

            def stalled(name):
                status = (world.find("ModelMigration", namespace, name) or {}).get("status", {})
                told = [c["reason"] for c in status.get("conditions", ()) if c["type"] == "Stalled"]
                return told[0] if told else None

            for name in FORGERIES:
                found[name] = await world.until(namespace, f"{name} is stalled", lambda name=name: stalled(name))
            await crew.rest()
            found = {name: (reason, stalled(name)) for name, reason in found.items()}
            assert world.of("Deployment", namespace) == []
            assert world.of("Service", namespace) == []
    return found


@pytest.fixture(scope="module")
def outcomes(control_plane, migrations):  # noqa: ARG001 - the server must know ModelMigration
    return in_thread(forged(control_plane))


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_evidence_serves_nobody(outcomes, name):
    first, last = outcomes[name]
    assert first == last
    assert first in {"EvidenceInvalid", "RetriesExhausted"}
