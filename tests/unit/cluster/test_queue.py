"""What the work queue promises, on a clock of its own."""

import asyncio
from collections import defaultdict

import pytest

from paritygate.cluster.queue import FIRST_BACKOFF, LONGEST_BACKOFF, Priority, WorkQueue, backoff


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self):
        super().__init__()
        self.virtual = 0.0

    def time(self):
        return self.virtual

    def _run_once(self):
        due = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        if not self._ready and due:
            self.virtual = max(self.virtual, min(due))
        super()._run_once()


class Worker:
    """Records what is worked on, and does what a test says."""

    def __init__(self):
        self.seen = []
        self.gives = {}
        self.raises = defaultdict(int)
        self.takes = 0.0
        self.running = defaultdict(int)
        self.most_at_once = 0
        self.most_per_key = 0

    async def __call__(self, key):
        self.running[key] += 1
        self.most_at_once = max(self.most_at_once, sum(self.running.values()))
        self.most_per_key = max(self.most_per_key, *self.running.values())
        self.seen.append((asyncio.get_running_loop().time(), key))
        await asyncio.sleep(self.takes)
        self.running[key] -= 1
        if self.raises[key]:
            self.raises[key] -= 1
            raise ConnectionError(key)
        return self.gives.pop(key, None)

    @property
    def keys(self):
        return [key for _, key in self.seen]


class Recorder:
    def __init__(self):
        self.depths, self.waits, self.works, self.retries = [], [], [], 0

    def depth(self, waiting):
        self.depths.append(waiting)

    def waited(self, seconds):
        self.waits.append(seconds)

    def worked(self, seconds, *, failed):
        self.works.append((seconds, failed))

    def retried(self):
        self.retries += 1


@pytest.fixture
def play():
    """Runs `script(queue, worker)` beside the queue on virtual time, then stops the queue."""

    def run(script, workers=1, spread=lambda: 1.0, worker=None, **more):
        worker = worker or Worker()

        async def main():
            queue = WorkQueue(worker, workers=workers, spread=spread, **more)
            running = asyncio.create_task(queue.run())
            await script(queue, worker)
            queue.stop()
            await running

        loop = VirtualLoop()
        try:
            loop.run_until_complete(asyncio.wait_for(main(), 10_000))
        finally:
            loop.close()
        return worker

    return run


def test_a_key_added_many_times_is_worked_on_once(play):
    async def script(queue, _):
        for _ in range(5):
            queue.add("a")
        await asyncio.sleep(1)

    assert play(script).keys == ["a"]


def test_a_key_added_while_it_is_worked_on_comes_once_more_and_never_twice_at_a_time(play):
    async def script(queue, worker):
        worker.takes = 5
        queue.add("a")
        await asyncio.sleep(1)
        queue.add("a", Priority.LOW)
        queue.add("a")
        await asyncio.sleep(20)

    worker = play(script, workers=4)
    assert worker.seen == [(0.0, "a"), (5.0, "a")]
    assert worker.most_per_key == 1


def test_what_just_happened_goes_before_what_a_listing_brings(play):
    async def script(queue, _):
        for key in ("l1", "l2", "l3"):
            queue.add(key, Priority.LOW)
        queue.add("h1")
        queue.add("l3")
        await asyncio.sleep(1)

    assert play(script).keys == ["h1", "l3", "l1", "l2"]


def test_no_more_keys_than_workers_are_worked_on_at_once(play):
    async def script(queue, worker):
        worker.takes = 1
        for key in range(10):
            queue.add(key)
        await asyncio.sleep(10)

    worker = play(script, workers=3)
    assert worker.most_at_once == 3
    assert sorted(worker.keys) == list(range(10))


def test_a_key_that_fails_comes_back_later_and_later_and_starts_anew_after_a_success(play):
    async def script(queue, worker):
        worker.raises["a"] = 3
        queue.add("a")
        await asyncio.sleep(100)
        worker.raises["a"] = 1
        queue.add("a")
        await asyncio.sleep(100)

    times = [time for time, _ in play(script).seen]
    assert times == pytest.approx([0, 0.2, 0.6, 1.4, 100, 100.2])


def test_events_do_not_shorten_the_backoff_of_a_key_that_fails_while_they_come(play):
    async def script(queue, worker):
        worker.takes = 1
        worker.raises["a"] = 1
        queue.add("a")
        await asyncio.sleep(0.5)
        queue.add("a")
        await asyncio.sleep(100)

    assert [time for time, _ in play(script).seen] == pytest.approx([0, 1.2])


def test_the_wait_is_spread_and_never_below_what_the_server_asked_for(play):
    class Asked(Exception):
        retry_after = 7.0

    waits = []

    async def work(_):
        raise Asked if len(waits) == 1 else ConnectionError

    async def script(queue, _):
        queue.add("a")
        await asyncio.sleep(10)

    play(script, spread=lambda: 0.5, worker=work, failed=lambda _k, _e, seconds: waits.append(seconds))
    assert waits[:2] == [0.1, 7.0]


def test_backoff_doubles_up_to_its_end():
    assert [backoff(n) for n in (1, 2, 3)] == [FIRST_BACKOFF, 0.4, 0.8]
    assert backoff(50) == LONGEST_BACKOFF


def test_a_plan_returns_at_the_exact_time_and_the_earliest_counts(play):
    async def script(queue, worker):
        worker.gives["a"] = 30.0
        queue.add("a")
        await asyncio.sleep(1)
        queue.add_after("b", 9.0)
        queue.add_after("b", 4.0)
        queue.add_after("b", 20.0)
        await asyncio.sleep(100)

    assert play(script).seen == [(0.0, "a"), (5.0, "b"), (30.0, "a")]


def test_a_reconcile_answers_the_times_asked_for_before_it(play):
    async def script(queue, _):
        queue.add_after("a", 50.0)
        await asyncio.sleep(1)
        queue.add("a")
        await asyncio.sleep(100)

    assert [time for time, _ in play(script).seen] == [1.0]


def test_a_forgotten_key_does_not_come_back(play):
    async def script(queue, worker):
        worker.raises["a"] = 1
        queue.add("a")
        queue.add_after("b", 5)
        await asyncio.sleep(0.1)
        queue.forget("a")
        queue.forget("b")
        assert queue.idle
        await asyncio.sleep(100)

    assert play(script).keys == ["a"]


def test_stopping_finishes_what_is_worked_on_and_takes_nothing_more(play):
    async def script(queue, worker):
        worker.takes = 5
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(1)

    worker = play(script)
    assert worker.keys == ["a"]
    assert worker.running["a"] == 0


def test_the_oldest_key_is_known_while_it_waits_and_while_it_is_worked_on(play):
    ages = []

    async def script(queue, worker):
        worker.takes = 10
        ages.append(queue.oldest())
        queue.add("a")
        await asyncio.sleep(4)
        queue.add("b")
        ages.append(queue.oldest())
        await asyncio.sleep(8)
        ages.append((queue.oldest(), queue.waiting))
        await asyncio.sleep(20)
        ages.append(queue.oldest())

    play(script)
    assert ages == [0.0, 4.0, (2.0, 0), 0.0]


def test_metrics_hear_of_depth_waits_durations_and_retries(play):
    hooks = Recorder()

    async def script(queue, worker):
        worker.takes = 2
        worker.raises["b"] = 1
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(100)

    play(script, hooks=hooks)
    assert hooks.waits == [0.0, 2.0, 0.0]
    assert hooks.works == [(2.0, False), (2.0, True), (2.0, False)]
    assert hooks.retries == 1
    assert max(hooks.depths) == 2
    assert hooks.depths[-1] == 0
