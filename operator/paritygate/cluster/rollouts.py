"""Carries out what concerns revisions and the pointer to the one that serves."""

from __future__ import annotations

from paritygate.api.artifacts import StageName
from paritygate.api.orders import JobOrder
from paritygate.api.report import Verdict
from paritygate.api.spec import DeletionPolicy
from paritygate.cluster import references, revisions, stores
from paritygate.cluster.cache import Object
from paritygate.cluster.client import AUTOSCALERS, BUDGETS, CLAIMS, DEPLOYMENTS, MIGRATIONS, SERVICES
from paritygate.cluster.manifests import pods, serving
from paritygate.cluster.observe import status_of
from paritygate.cluster.scene import Scene
from paritygate.cluster.writes import Writes, is_ours, taken
from paritygate.core.actions import AdjustRevision, ApplyRevision, Grounds, RetireRevision, SetTraffic
from paritygate.core.conditions import timestamp
from paritygate.errors import ConfigurationError, Conflict, Missing


class Rollouts:
    """Revisions of migrations. Errors as in `Applier`."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes

    async def require_name(self, scene: Scene) -> None:
        """Says before the work, and not after it, that the Service cannot be had. ConfigurationError: NameConflict."""
        namespace, name = scene.owner.namespace, revisions.service_name(scene.observed.name, scene.observed.spec)
        if any(s["metadata"]["name"] == name for s in scene.snapshot.of("Service")):
            return
        try:
            there = await self._writes.client.get(SERVICES, namespace, name)
        except Missing:
            return
        if not is_ours(there, scene.owner.name):
            raise taken(SERVICES, namespace, name)

    async def bring_up(self, action: ApplyRevision, scene: Scene) -> None:
        """Makes the Deployment of a revision, or brings it back to what passed."""
        await self._live(action.grounds, scene)
        storage, field = stores.storage_of(scene)
        named = references.of_serving(storage, field)
        await references.require_allowed(self._writes.client, scene.owner.namespace, named)
        store, run = await stores.access(self._writes, storage, scene), scene.run
        order = JobOrder(
            job="Serve",
            migration=scene.observed.name,
            store=store.uri,
            artefacts={StageName.CONVERT: action.grounds.candidate, StageName.VALIDATE: action.verdict},
        )
        plan = serving.RevisionPlan(
            scene.owner, action.name, scene.observed.spec, action.grounds, order, run.worker, run.server, store,
            scene.settings.defaults, scene.observed.traffic == action.name, scene.settings.node_selector,
            action.replicas,
        )  # fmt: skip
        body = serving.deployment(plan)
        there = await self._writes.create(DEPLOYMENTS, body)
        if serving.strayed(there, body):
            await self._restore(there, body)

    async def _restore(self, there: Object, body: Object) -> None:
        """Brings a Deployment back to what passed. ConfigurationError: something changes it whenever it is written."""
        after = await self._writes.replace(DEPLOYMENTS, there, "template", body)
        if serving.altered(after):
            raise ConfigurationError(
                "RevisionMismatch",
                f"what Deployment {there['metadata']['name']} runs is changed whenever it is written, likely by an "
                "admission webhook: it would not be what passed. Exempt objects with the label "
                f"{pods.MANAGED_BY}={pods.MANAGER}",
            )

    async def _live(self, grounds: Grounds, scene: Scene) -> Object:
        """The migration as it is now. Conflict: it is another by now than the plan was made for."""
        live = await self._writes.client.get(MIGRATIONS, scene.owner.namespace, scene.owner.name)
        metadata = live["metadata"]
        if (metadata["uid"], metadata["generation"]) != (grounds.uid, grounds.generation):
            raise Conflict(f"migration {scene.snapshot.key} changed since it was observed; it is observed again")
        if "deletionTimestamp" in metadata:
            raise Conflict(f"migration {scene.snapshot.key} is being deleted")
        return live

    async def set_traffic(self, action: SetTraffic, scene: Scene) -> None:
        """Leads the Services to a revision that passed, by what is there at this moment."""
        grounds, namespace = action.grounds, scene.owner.namespace
        status = status_of(await self._live(grounds, scene))
        verdict = status.verdict if status else None
        if verdict is None or (verdict.result, verdict.report_digest) != (Verdict.PASSED, grounds.report):
            raise Conflict(f"report {grounds.report} is not the one that stands in the status; it is observed again")
        deployment = await self._writes.client.get(DEPLOYMENTS, namespace, action.revision)
        stamps = deployment["metadata"].get("annotations", {})
        wrong = [key for key, value in serving.stamps(grounds).items()
                 if key in {serving.CANDIDATE, serving.RUNTIME} and stamps.get(key) != value]  # fmt: skip
        if wrong:
            raise ConfigurationError(
                "RevisionMismatch", f"Deployment {action.revision} differs from what passed in {', '.join(wrong)}"
            )
        if scene.observed.spec.deletion_policy is DeletionPolicy.RETAIN:
            await self._release(deployment, scene)
        await self._protect(action.revision, scene)
        wanted = revisions.service_name(scene.observed.name, scene.observed.spec)
        since = scene.observed.traffic_since if scene.observed.traffic == action.revision else None
        promoted_at = timestamp(since or scene.observed.now)
        # Clients of an earlier serviceName come along, for as long as that Service is there.
        earlier = [s["metadata"]["name"] for s in scene.pointers if s["metadata"]["name"] != wanted]
        for name in (wanted, *earlier):
            await self._point(
                serving.service(
                    scene.owner, name, action.revision, grounds, promoted_at, scene.observed.spec.deletion_policy
                )
            )

    async def _release(self, deployment: Object, scene: Scene) -> None:
        """What serves outlives its migration; done before traffic moves, so that it is never taken down with it."""
        metadata, nobodys = deployment["metadata"], {"metadata": {"ownerReferences": None}}
        if metadata.get("ownerReferences"):
            await self._writes.merge(DEPLOYMENTS, metadata["namespace"], metadata["name"], nobodys)
        if scene.observed.spec.serving.autoscaling is not None:
            await self._writes.merge(AUTOSCALERS, metadata["namespace"], metadata["name"], nobodys)

    async def _protect(self, revision: str, scene: Scene) -> None:
        """Only what is about to serve needs a budget; what is tried may be taken down."""
        body = serving.budget(scene.owner, revision, scene.observed.spec.deletion_policy)
        await self._writes.own(BUDGETS, await self._writes.create(BUDGETS, body), body)

    async def adjust(self, action: AdjustRevision, scene: Scene) -> None:
        """Brings scale and owners in line; the Deployment last: it is what says that all is."""
        namespace, spec = scene.owner.namespace, scene.observed.spec
        deployment = await self._writes.client.get(DEPLOYMENTS, namespace, action.name)
        await self._autoscale(action.name, scene)
        ownership = {"metadata": serving.owners(scene.owner, spec.deletion_policy) or {"ownerReferences": None}}
        owned = [(BUDGETS, action.name), *((SERVICES, s["metadata"]["name"]) for s in scene.pointers)]
        if stores.storage_of(scene)[0].claim_template is not None:
            owned.append((CLAIMS, pods.template_claim(scene.owner.name)))
        for resource, name in owned:
            await self._writes.merge(resource, namespace, name, ownership)
        await self._writes.merge(
            DEPLOYMENTS, namespace, action.name, serving.scale_patch(deployment, spec, scene.owner)
        )

    async def _autoscale(self, name: str, scene: Scene) -> None:
        namespace, spec = scene.owner.namespace, scene.observed.spec
        if spec.serving.autoscaling is not None:
            body = serving.autoscaler(spec.serving.autoscaling, scene.owner, name, spec.deletion_policy)
            there = await self._writes.create(AUTOSCALERS, body)
            await self._writes.own(AUTOSCALERS, there, body)
            if there["spec"] != body["spec"]:
                await self._writes.merge(AUTOSCALERS, namespace, name, {"spec": body["spec"]})
            return
        try:
            there = await self._writes.client.get(AUTOSCALERS, namespace, name)
        except Missing:
            return
        if is_ours(there, scene.owner.name):
            await self._writes.delete(AUTOSCALERS, there)

    async def _point(self, body: Object) -> None:
        """Moves the pointer in one write."""
        there = await self._writes.create(SERVICES, body)
        if there["spec"].get("selector") != body["spec"]["selector"]:
            await self._writes.replace(SERVICES, there, "selector", body)

    async def retire(self, action: RetireRevision, scene: Scene) -> None:
        """Takes a revision down that no Service leads to at this moment."""
        namespace = scene.owner.namespace
        wanted = revisions.service_name(scene.observed.name, scene.observed.spec)
        for name in {wanted, *(s["metadata"]["name"] for s in scene.pointers)}:
            await self._not_led_to(namespace, name, action.name)
        for resource in (AUTOSCALERS, BUDGETS, DEPLOYMENTS):
            try:
                there = await self._writes.client.get(resource, namespace, action.name)
            except Missing:
                continue
            if is_ours(there, scene.owner.name):
                await self._writes.delete(resource, there)

    async def _not_led_to(self, namespace: str, service: str, revision: str) -> None:
        try:
            there = await self._writes.client.get(SERVICES, namespace, service)
        except Missing:
            return
        if there["spec"].get("selector", {}).get(pods.REVISION) == revision:
            raise Conflict(f"Service {service} leads to {revision} again; it is observed again")
