"""The operator's clock is set forward and back by an hour, again and again: it must come to the same end."""

import itertools
from datetime import timedelta

import pytest

from faults.crew import Crew
from faults.world import differences, in_thread, migrating, together, whole_migration
from paritygate import clock

pytestmark = pytest.mark.timeout(600)

JUMPS = {
    "forward and back": (1, 0),
    "back and forward": (-1, 0),
    "two hours at a time": (1, -1),
    "forward for good": (1, 1),
    "back for good": (-1, -1),
}
"""Hours by which the clock differs from that of the API server, from one write to the next; in turn."""
DEADLINE = {"deadline": "4h"}
"""A clock that is set beyond a deadline lets it pass, as Kubernetes' own clocks do."""


class Jumping:
    """A clock that is set at every write of an operator."""

    def __init__(self, hours, differs=timedelta()):
        self._hours, self._differs = itertools.cycle(hours), differs
        self.seen = set()

    def __call__(self, request):
        if request.writes:
            self._differs = timedelta(hours=next(self._hours))

    def now(self):
        self.seen.add(self._differs)
        return clock.now() + self._differs

    def given_to(self, operator):
        operator._reconciler._now = operator._lease._now = self.now


async def every_jump(plane):
    found = {}
    async with migrating(plane) as world:

        async def one(name, hours):
            namespace, jumping, ahead = await world.namespace(), Jumping(hours), Jumping((), timedelta(days=1))
            async with Crew(world, namespace, jumping, prepare=jumping.given_to) as crew:
                await crew.until_leading()
                async with Crew(world, namespace, name="replica-2", prepare=ahead.given_to) as other:
                    await whole_migration(world, namespace, jobs=DEADLINE)
                    await crew.rest()
            found[name] = world.normalised(namespace), jumping, crew, other, await world.told(namespace)

        await together(one("true", (0,)), *(one(name, hours) for name, hours in JUMPS.items()))
    return found


@pytest.fixture(scope="module")
def ends(control_plane, migrations):  # noqa: ARG001 - the server must know ModelMigration
    return in_thread(every_jump(control_plane))


@pytest.mark.parametrize("name", JUMPS)
def test_a_clock_that_jumps_changes_nothing_that_a_migration_comes_to(ends, name):
    end, jumping, crew, _, told = ends[name]
    assert differences(end, ends["true"][0]) == {}
    assert jumping.seen >= {timedelta(hours=hours) for hours in JUMPS[name]}
    assert crew.writes
    assert told == {"Promoted": 2}


@pytest.mark.parametrize("name", JUMPS)
def test_a_replica_whose_clock_is_a_day_ahead_waits_until_the_lease_has_run_out(ends, name):
    _, _, crew, other, _ = ends[name]
    assert any(one.plural == "leases" for one in other.proxy.requests)
    # Where this machine is slow the Lease is lost, and it may lead then.
    assert crew.crashes or other.writes == []
