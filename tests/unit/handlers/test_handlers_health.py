"""Liveness and readiness, as a kubelet asks for them."""

import asyncio

import pytest
from aiohttp import ClientSession, web

from paritygate.handlers.health import Pulse, application


def pulse(**fields):
    return Pulse(**{"leading": True, "listed_ago": 5.0, "longest_listing": 1800.0, "oldest_key": 0.0, **fields})


def ask(path, found):
    async def main():
        runner = web.AppRunner(application(lambda: found, lambda: b"# HELP x x\n"))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        try:
            async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, await answer.text(), answer.headers["Content-Type"]
        finally:
            await runner.cleanup()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        (pulse(), 200, "ok"),
        (pulse(listed_ago=None), 200, "ok"),
        (pulse(listed_ago=1800.0), 200, "ok"),
        (pulse(listed_ago=1801.0), 503, "everything was last listed 1801 s ago"),
        (pulse(oldest_key=900.0), 200, "ok"),
        (pulse(oldest_key=901.0), 503, "a migration waits since 901 s"),
        (pulse(leading=False, listed_ago=9999.0, oldest_key=9999.0), 200, "ok"),
    ],
    ids=["all is well", "nothing was listed yet", "a listing is due", "a listing is overdue", "a key waits for long",
         "a key is stuck", "one that does not lead has nothing to do"],
)  # fmt: skip
def test_a_process_that_is_stuck_says_so_and_is_started_anew(found, status, said):
    assert ask("/livez", found)[:2] == (status, said)


@pytest.mark.parametrize(("leading", "said"), [(True, "leading"), (False, "standing by")])
def test_readiness_does_not_ask_for_leadership(leading, said):
    assert ask("/readyz", pulse(leading=leading, listed_ago=9999.0))[:2] == (200, said)


def test_metrics_state_the_format_that_prometheus_must_know():
    status, text, kind = ask("/metrics", pulse())
    assert (status, text) == (200, "# HELP x x\n")
    assert kind.startswith("text/plain; version=")
