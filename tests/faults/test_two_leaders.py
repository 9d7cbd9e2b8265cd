"""Two replicas: who cannot renew the Lease stops before the other begins, and what it sent late changes nothing."""

import asyncio

from control_plane.migrations import migration
from faults.crew import Crew
from faults.proxy import CUT, Fault
from faults.world import in_thread, migrating
from paritygate.handlers.operator import Deposed


async def deposed(plane):
    async with migrating(plane) as world:
        namespace = await world.namespace()
        release, held = asyncio.Event(), []

        def isolates(request):
            """From its first validate Job on, which is on its way for long, it reaches the Lease no more."""
            if request.label == "POST jobs validate 1" and not held:
                held.append(request)
                return Fault(delivers=True, waits=release)
            return CUT if held and request.plural == "leases" else None

        async with Crew(world, namespace, isolates, name="first") as first:
            await world.create(migration(namespace))
            await world.until(namespace, "the first replica is cut off", lambda: held)
            async with Crew(world, namespace, name="second") as second:
                await world.until_ready(namespace, "Promoted")
                before = world.normalised(namespace)
                release.set()
                await world.until(namespace, "the late write arrives", lambda: held[0].status, 30)
                await second.rest()
                sent = [w.at for w in first.lives[0].writes if w is not held[0]]
                assert sent
                assert max(sent) < second.writes[0].at
                assert held[0].status == 409
                assert [type(one) for one in first.crashes] == [Deposed]
                assert world.normalised(namespace) == before
            assert not [w for life in first.lives[1:] for w in life.writes]


def test_the_deposed_replica_writes_no_more_and_its_late_write_is_refused(control_plane, migrations):  # noqa: ARG001
    in_thread(deposed(control_plane))
