"""What the client sends, and what it makes of answers; against a small HTTP server of its own."""

import asyncio
import json

import pytest
from aiohttp import web

from paritygate.cluster.client import JOBS, MIGRATIONS, PAGE, PODS, Client, RateLimit
from paritygate.cluster.connection import Connection
from paritygate.errors import Conflict, Forbidden, Gone, Missing, Refused, RightsMissing, Throttled, Unavailable


class Server:
    """Answers with what a test queues, and records what it is asked."""

    def __init__(self):
        self.asked, self.answers = [], []

    async def handle(self, request):
        text = await request.text()
        self.asked.append((request.method, request.path, dict(request.query), request.content_type, text))
        status, body, headers = self.answers.pop(0) if self.answers else (200, {}, {})
        if status == 0:
            request.transport.close()
            await asyncio.sleep(0)
        if status == -1:
            await asyncio.sleep(1)
        return web.Response(
            status=max(status, 200), text=body if isinstance(body, str) else json.dumps(body), headers=headers
        )

    def queue(self, status, body=None, **headers):
        self.answers.append(
            (status, {} if body is None else body, {k.replace("_", "-"): v for k, v in headers.items()})
        )


def talk(script, **options):
    async def main():
        server = Server()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        connection = Connection(f"http://127.0.0.1:{port}", "default", token="secret")
        try:
            async with Client(connection, **options) as client:
                return await script(client, server)
        finally:
            await runner.cleanup()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (401, Forbidden), (403, Forbidden), (404, Missing), (409, Conflict), (410, Gone), (422, Refused),
     (429, Throttled), (500, Unavailable), (503, Unavailable)],
)  # fmt: skip
def test_every_error_has_its_type_and_says_what_was_asked_and_answered(status, kind):
    async def script(client, server):
        server.queue(status, {"kind": "Status", "message": "because"})
        with pytest.raises(kind, match=f"GET /api/v1/namespaces/ns/pods/p: HTTP {status}: because") as caught:
            await client.get(PODS, "ns", "p")
        assert caught.value.status == status

    talk(script)


WHO = 'User "system:serviceaccount:a:b"'


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (f'jobs.batch is forbidden: {WHO} cannot create resource "jobs" in API group "batch" in', RightsMissing),
        (f'mm "m" is forbidden: {WHO} cannot patch resource "modelmigrations/status" in API group "p"', RightsMissing),
        ('pods "p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot', Forbidden),
        ('pods "p" is forbidden: exceeded quota: small, requested: pods=1, used: pods=5, limited: pods=5', Forbidden),
    ],
    ids=["a verb", "a subresource", "a standard", "a quota"],
)
def test_a_right_that_is_missing_is_told_from_what_admission_refuses(said, kind):
    async def script(client, server):
        server.queue(403, {"kind": "Status", "message": said})
        with pytest.raises(Forbidden) as caught:
            await client.get(PODS, "ns", "p")
        assert type(caught.value) is kind

    talk(script)


def test_the_server_says_how_long_it_wants_to_be_left_alone():
    async def script(client, server):
        server.queue(429, "slow down", Retry_After="7")
        with pytest.raises(Throttled, match="slow down") as caught:
            await client.get(PODS, "ns", "p")
        assert caught.value.retry_after == 7

    talk(script)


@pytest.mark.parametrize("status", [0, -1], ids=["a broken connection", "a timeout"])
def test_a_write_without_an_answer_may_have_been_carried_out(status):
    async def script(client, server):
        server.queue(status)
        with pytest.raises(Unavailable, match="POST"):
            await client.create(JOBS, {"metadata": {"namespace": "ns", "name": "j"}})

    talk(script, timeout=0.3)


def test_lists_are_read_in_pages_and_their_items_say_what_they_are():
    async def script(client, server):
        server.queue(200, {"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]})
        server.queue(200, {"metadata": {}, "items": [{"metadata": {"name": "b"}}]})
        found = [item async for item in client.pages(MIGRATIONS, None, selector="x=y")]
        assert [(i["kind"], i["metadata"]["name"]) for i in found] == [("ModelMigration", "a"), ("ModelMigration", "b")]
        assert [a[2] for a in server.asked] == [
            {"limit": str(PAGE), "labelSelector": "x=y"},
            {"limit": str(PAGE), "labelSelector": "x=y", "continue": "more"},
        ]
        assert server.asked[0][1] == "/apis/paritygate.dev/v1alpha1/modelmigrations"

    talk(script)


def test_each_verb_is_sent_as_the_server_wants_it():
    async def script(client, server):
        body = {"metadata": {"namespace": "ns", "name": "j"}}
        await client.create(JOBS, body, dry_run=True)
        await client.apply(JOBS, body)
        await client.merge(MIGRATIONS, "ns", "m", {"status": {}}, subresource="status")
        await client.json_patch(JOBS, "ns", "j", [{"op": "test", "path": "/a", "value": 1}])
        await client.replace(JOBS, body)
        root = "/apis/batch/v1/namespaces/ns/jobs"
        assert [a[:4] for a in server.asked] == [
            ("POST", root, {"fieldManager": "paritygate", "dryRun": "All"}, "application/json"),
            ("PATCH", f"{root}/j", {"fieldManager": "paritygate", "force": "true"}, "application/apply-patch+yaml"),
            ("PATCH", "/apis/paritygate.dev/v1alpha1/namespaces/ns/modelmigrations/m/status",
             {"fieldManager": "paritygate"}, "application/merge-patch+json"),
            ("PATCH", f"{root}/j", {"fieldManager": "paritygate"}, "application/json-patch+json"),
            ("PUT", f"{root}/j", {}, "application/json"),
        ]  # fmt: skip

    talk(script)


@pytest.mark.parametrize(
    ("status", "then", "deleted"),
    [(200, None, True), (404, None, False), (409, (200, "u2"), False), (409, (404, ""), False)],
)
def test_only_the_object_that_was_seen_is_deleted(status, then, deleted):
    async def script(client, server):
        server.queue(status, {"message": "the UID in the precondition does not match"})
        if then:
            server.queue(then[0], {"metadata": {"uid": then[1]}})
        assert await client.delete(JOBS, "ns", "j", uid="u1") is deleted
        assert json.loads(server.asked[0][4]) == {"propagationPolicy": "Background", "preconditions": {"uid": "u1"}}

    talk(script)


def test_what_is_still_there_does_not_count_as_deleted():
    async def script(client, server):
        server.queue(409, {"message": "as a busy server may say"})
        server.queue(200, {"metadata": {"uid": "u1"}})
        with pytest.raises(Conflict):
            await client.delete(JOBS, "ns", "j", uid="u1")

    talk(script)


def test_requests_keep_to_the_rate():
    async def main():
        loop = asyncio.get_running_loop()
        limit, began = RateLimit(rate=50, burst=2), loop.time()
        for _ in range(6):
            await limit.take()
        return loop.time() - began

    assert 0.07 <= asyncio.run(main()) < 0.5


def test_every_request_is_counted():
    counted = []

    class Counter:
        def asked(self, verb, resource, status):
            counted.append((verb, resource, status))

    async def script(client, server):
        server.queue(404)
        with pytest.raises(Missing):
            await client.get(PODS, "ns", "p")
        server.queue(0)
        with pytest.raises(Unavailable):
            await client.create(PODS, {"metadata": {"namespace": "ns"}})

    talk(script, watcher=Counter())
    assert counted == [("GET", "pods", 404), ("POST", "pods", 0)]
