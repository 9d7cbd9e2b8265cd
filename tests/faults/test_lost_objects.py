"""Jobs and pods that go by hand or by TTL, and events that come late, twice, in another order or not at all."""

import asyncio
import random
import threading

from control_plane.migrations import migration
from control_plane.scripts import Outcome
from faults.crew import Crew
from faults.proxy import Fault
from faults.world import differences, in_thread, migrating, together, whole_migration

OFTEN = 2.0
"""Seconds between listings here; in production it is minutes."""


def often(operator):
    operator._resync = OFTEN


def hold(world, namespace, name, job):
    """Lets the container of a migration's next Job of a kind hang until the event is set."""
    held = threading.Event()
    work = world.works[f"{namespace}/{name}"]
    work.fails[job] = {job.lower(): Outcome(until=held)}
    return held


def job_of(world, namespace, name, kind):
    labels = {"paritygate.dev/migration": name, "paritygate.dev/job": kind.lower()}
    return next(
        (j for j in world.of("Job", namespace) if labels.items() <= j["metadata"]["labels"].items()), None
    )  # fmt: skip


def running_pod(world, namespace, name, kind):
    labels = {"paritygate.dev/migration": name, "paritygate.dev/job": kind.lower()}
    for pod in world.of("Pod", namespace):
        runs = pod["status"].get("phase") in {"Pending", "Running"} and pod["spec"].get("nodeName")
        if runs and labels.items() <= pod["metadata"]["labels"].items():
            return pod
    return None


async def deletes(world, namespace, name, job, what):
    """Something of a running Job is deleted; the migration must come to serve all the same."""
    held = hold(world, namespace, name, job)
    await world.create(migration(namespace, name))
    pod = await world.until(namespace, f"{name}: {job} runs", lambda: running_pod(world, namespace, name, job))
    doomed = pod if what == "Pod" else job_of(world, namespace, name, job)
    await world.delete(what, namespace, doomed["metadata"]["name"])
    held.set()
    await world.until_ready(namespace, "Promoted", 1, name)


async def deletes_ended(world, namespace, name, job):
    """A Job is deleted once it has ended, as its TTL would."""
    await world.create(migration(namespace, name))

    def ended():
        found = job_of(world, namespace, name, job)
        conditions = (found or {}).get("status", {}).get("conditions", ())
        return found if any(c["type"] == "Complete" for c in conditions) else None

    found = await world.until(namespace, f"{name}: {job} ended", ended)
    await world.delete("Job", namespace, found["metadata"]["name"])
    await world.until_ready(namespace, "Promoted", 1, name)


async def lost_jobs(plane):
    async with migrating(plane) as world:
        namespace = await world.namespace()
        async with Crew(world, namespace, settings={"caps": {"activeRunsPerNamespace": 20}}) as crew:
            await together(
                deletes(world, namespace, "a", "Convert", "Job"),
                deletes(world, namespace, "b", "Validate", "Job"),
                deletes(world, namespace, "c", "Convert", "Pod"),
                deletes(world, namespace, "d", "Validate", "Pod"),
                deletes_ended(world, namespace, "e", "Convert"),
                deletes_ended(world, namespace, "f", "Validate"),
            )
            await crew.rest()
            for job in world.of("Job", namespace):
                await world.delete("Job", namespace, job["metadata"]["name"])
            await world.until(namespace, "all Jobs are gone", lambda: not world.of("Job", namespace))
            await crew.rest()
            assert world.of("Job", namespace) == []
            for name in "abcdef":
                await world.until_ready(namespace, "Promoted", 1, name)


def test_jobs_and_pods_that_are_deleted_are_made_again_and_only_while_they_are_needed(control_plane, migrations):  # noqa: ARG001
    in_thread(lost_jobs(control_plane))


async def lose_job(world, namespace):
    """Deletes the convert Job, of which the operator is not told, and returns once it is gone."""
    doomed = job_of(world, namespace, "churn", "Convert")
    await world.delete("Job", namespace, doomed["metadata"]["name"])
    await world.until(namespace, "the Job is gone", lambda: job_of(world, namespace, "churn", "Convert") is None)


class LateWatch:
    """Jobs are listed for the watch only once the event is set: the operator's own listing goes before."""

    def __init__(self):
        self.begins = asyncio.Event()
        self._listings = 0

    def __call__(self, request):
        if request.label != "GET jobs":
            return None
        self._listings += 1
        return Fault(delivers=True, waits=self.begins) if self._listings == 2 else None


async def gone_early(plane):
    async with migrating(plane) as world:
        namespace = await world.namespace()
        held, late = hold(world, namespace, "churn", "Convert"), LateWatch()
        async with Crew(world, namespace, late) as crew:
            await world.create(migration(namespace))
            await world.until(namespace, "it runs", lambda: running_pod(world, namespace, "churn", "Convert"))
            await lose_job(world, namespace)
            late.begins.set()
            held.set()
            await world.until_ready(namespace, "Promoted")
            await crew.rest()


def test_a_deletion_before_the_watch_began_is_found_soon(control_plane, migrations):  # noqa: ARG001
    in_thread(gone_early(control_plane))


async def hidden(plane):
    async with migrating(plane) as world:
        namespace = await world.namespace()
        held = hold(world, namespace, "churn", "Convert")
        async with Crew(world, namespace, prepare=often) as crew:
            await world.create(migration(namespace))
            await world.until(namespace, "it runs", lambda: running_pod(world, namespace, "churn", "Convert"))
            crew.proxy.flowing.clear()
            await lose_job(world, namespace)
            crew.proxy.outdate()
            held.set()
            await world.until_ready(namespace, "Promoted")
            await crew.rest()


def test_a_deletion_that_no_watch_told_is_found_by_the_next_listing(control_plane, migrations):  # noqa: ARG001
    in_thread(hidden(control_plane))


async def disordered(plane, seeds):
    async with migrating(plane) as world:

        async def one(seed):
            namespace, chance = await world.namespace(), random.Random(seed)  # noqa: S311 - to be had again

            def disturb():
                return [chance.choice((0.0, chance.random())) for _ in range(chance.choice((0, 1, 1, 1, 2)))]

            async with Crew(world, namespace, prepare=often) as crew:
                if seed is not None:
                    crew.proxy.disturb = disturb
                await whole_migration(world, namespace)
                await crew.rest()
                return world.normalised(namespace)

        expected, *found = await together(one(None), *map(one, seeds))
        assert [differences(end, expected) for end in found] == [{}] * len(seeds)


def test_events_may_come_late_twice_in_any_order_or_never(control_plane, migrations):  # noqa: ARG001
    in_thread(disordered(control_plane, (1, 2, 3)))
