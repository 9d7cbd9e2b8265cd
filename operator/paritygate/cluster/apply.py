"""Carries out the planner's actions, each with the preconditions that make it safe to repeat and to come late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from paritygate.api.artifacts import FailureClass, StageFailure, StageName
from paritygate.api.orders import JobOrder
from paritygate.api.report import Verdict
from paritygate.api.spec import ClaimTemplate, DeletionPolicy, Storage
from paritygate.api.status import InputDigests
from paritygate.cluster import references
from paritygate.cluster.cache import CANCELLED, Cache, Object, Snapshot, ended, owner_uid
from paritygate.cluster.client import (
    AUTOSCALERS,
    BUDGETS,
    CLAIMS,
    DEPLOYMENTS,
    JOBS,
    MIGRATIONS,
    PODS,
    SERVICES,
    Client,
    Resource,
)
from paritygate.cluster.manifests import jobs, pods, serving
from paritygate.cluster.observe import Pinned, pinned, service_name, status_of
from paritygate.cluster.settings import Settings
from paritygate.core.actions import (
    Action,
    AdjustRevision,
    ApplyRevision,
    CancelStage,
    DiscardAttempt,
    Grounds,
    RetireRevision,
    SetTraffic,
    StartStage,
)
from paritygate.core.conditions import timestamp
from paritygate.core.observed import Observed
from paritygate.errors import ConfigurationError, Conflict, Forbidden, Missing, Refused

_DELETED_WHEN_CANCELLED = frozenset({"Suspended", "Superseded"})
_KINDS = {resource.kind: resource for resource in (JOBS, DEPLOYMENTS, SERVICES, BUDGETS, AUTOSCALERS, CLAIMS)}


@dataclass(frozen=True)
class Scene:
    """What actions are carried out on."""

    snapshot: Snapshot
    observed: Observed
    settings: Settings

    @cached_property
    def run(self) -> Pinned:
        """What the run goes by."""
        return pinned(self.observed.name, self.observed.spec, self.observed.status, self.settings)

    @property
    def owner(self) -> pods.Owner:
        """The migration."""
        return pods.Owner(self.snapshot.key.namespace, self.observed.name, self.observed.uid, self.observed.generation)

    @property
    def jobs(self) -> list[Object]:
        """Jobs of the migration; others may carry its label."""
        return [job for job in self.snapshot.of("Job") if owner_uid(job) == self.observed.uid]

    @property
    def pointers(self) -> list[Object]:
        """Services that lead to a revision of the migration."""
        return [s for s in self.snapshot.of("Service") if pods.REVISION in s["spec"].get("selector", {})]


class Applier:
    """Carries out actions. ConfigurationError: somebody must change something; ClusterError: try again."""

    def __init__(self, client: Client, cache: Cache, settings: Settings) -> None:
        self._client, self._cache, self._settings = client, cache, settings

    async def carry_out(self, action: Action, scene: Scene) -> None:
        """Carries out one action."""
        match action:
            case StartStage():
                await self._start(action, scene)
            case CancelStage():
                await self._cancel(action, scene)
            case ApplyRevision():
                await self._apply_revision(action, scene)
            case SetTraffic():
                await self._set_traffic(action, scene)
            case AdjustRevision():
                await self._adjust(action, scene)
            case RetireRevision():
                await self._retire(action, scene)
            case DiscardAttempt():
                for job in scene.snapshot.of("Job"):
                    if job["metadata"]["name"] == action.job and ended(job) and owner_uid(job) == scene.observed.uid:
                        await self._delete(JOBS, job)

    def _storage(self, scene: Scene) -> tuple[Storage, str]:
        """Where artefacts are kept, and where that is stated."""
        stated, default = scene.observed.spec.storage, self._settings.defaults.storage
        if stated is not None:
            return stated, "spec.storage"
        if default is None:
            raise ConfigurationError("InvalidSpec", "spec.storage is missing and this cluster has no default")
        return default, "defaults.storage"

    async def _store(self, storage: Storage, scene: Scene) -> pods.StoreAccess:
        if storage.claim_template is not None:
            await self._claim(storage.claim_template, scene)
        return pods.store_access(storage, scene.owner.namespace, scene.owner.name)

    async def _claim(self, template: ClaimTemplate, scene: Scene) -> None:
        """Makes the claim of a template, or takes over the one that an earlier migration of the name left."""
        body = serving.claim(scene.owner, template, scene.observed.spec.deletion_policy)
        there = (await self._create(CLAIMS, body, _is_labelled))["metadata"]
        if "deletionTimestamp" in there or owner_uid({"metadata": there}) not in {None, scene.owner.uid}:
            raise Conflict(f"claim {there['name']} goes with an earlier migration; it is made anew when it is gone")
        wanted = body["metadata"].get("ownerReferences")
        if there.get("ownerReferences") != wanted:
            await self._merge(CLAIMS, there["namespace"], there["name"], {"metadata": {"ownerReferences": wanted}})

    async def _start(self, action: StartStage, scene: Scene) -> None:
        storage, field = self._storage(scene)
        named = references.of_jobs(scene.observed.spec, storage, field)
        await references.require_allowed(self._client, scene.owner.namespace, named)
        store = await self._store(storage, scene)
        run, judged = scene.run, action.stage is StageName.VALIDATE
        inputs = scene.observed.inputs
        order = JobOrder(
            job="Validate" if judged else "Convert",
            migration=scene.observed.name,
            spec=scene.observed.spec,
            recipe=run.recipe,
            environment=run.environment,
            converter=run.converter,
            runtime=run.runtime,
            server_identity=run.runtime if run.runtime == run.candidate else None,
            store=store.uri,
            pinned=InputDigests(**vars(inputs)) if inputs else None,
            stage=action.digest if judged else None,
            artefacts=dict(action.inputs) if judged else {},
            kept=tuple(sorted(action.kept)) if judged and action.kept is not None else None,
        )
        body = jobs.job(
            jobs.JobPlan(
                scene.owner, scene.observed.spec, order, action.digest if judged else run.sought, action.attempt,
                run.worker, run.server, store, self._settings.defaults, self._settings.node_selector,
            )
        )  # fmt: skip
        if any(job["metadata"]["name"] == body["metadata"]["name"] for job in scene.jobs):
            return
        await self._try_pod(body)
        await self._create(JOBS, body, lambda there: owner_uid(there) == scene.observed.uid)

    async def _try_pod(self, job: Object) -> None:
        """A Job whose pods admission refuses would be taken and never run: its pod is tried first, without effect."""
        metadata, template = job["metadata"], job["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            **template,
            "metadata": {**template["metadata"], "namespace": metadata["namespace"], "name": metadata["name"]},
        }
        try:
            await self._client.create(PODS, pod, dry_run=True)
        except (Forbidden, Refused) as error:
            raise ConfigurationError(
                "PodRefused", f"the pod of Job {metadata['name']} is not admitted: {error}"
            ) from error
        except Conflict:
            return

    async def _cancel(self, action: CancelStage, scene: Scene) -> None:
        job = next((one for one in scene.jobs if one["metadata"]["name"] == action.job), None)
        if job is None or ended(job):
            return
        if action.reason in _DELETED_WHEN_CANCELLED:
            await self._delete(JOBS, job)
            return
        # Kept, as the record of why it ended; suspending it takes its pods down.
        why = StageFailure(
            failure=FailureClass.CONFIGURATION, reason=action.reason, message=action.message
        ).model_dump_json(by_alias=True)
        metadata = job["metadata"]
        patch = {"metadata": {"uid": metadata["uid"], "annotations": {CANCELLED: why}}, "spec": {"suspend": True}}
        self._cache.apply(None, await self._client.merge(JOBS, metadata["namespace"], metadata["name"], patch))

    async def _apply_revision(self, action: ApplyRevision, scene: Scene) -> None:
        await self._live(action.grounds, scene)
        storage, field = self._storage(scene)
        named = references.of_serving(storage, field)
        await references.require_allowed(self._client, scene.owner.namespace, named)
        store, run = await self._store(storage, scene), scene.run
        order = JobOrder(
            job="Serve",
            migration=scene.observed.name,
            store=store.uri,
            artefacts={StageName.CONVERT: action.grounds.candidate, StageName.VALIDATE: action.verdict},
        )
        plan = serving.RevisionPlan(
            scene.owner, action.name, scene.observed.spec, action.grounds, order, run.worker, run.server, store,
            self._settings.defaults, scene.observed.traffic == action.name, self._settings.node_selector,
            action.replicas,
        )  # fmt: skip
        body = serving.deployment(plan)
        there = await self._create(DEPLOYMENTS, body, _is_labelled)
        if serving.strayed(there, body):
            await self._restore(there, body)

    async def _restore(self, there: Object, body: Object) -> None:
        """Brings a Deployment back to what passed. ConfigurationError: something changes it whenever it is written."""
        metadata = there["metadata"]
        operations: list[Object] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {"op": "replace", "path": "/spec/template", "value": body["spec"]["template"]},
            {"op": "add", "path": "/metadata/annotations", "value": {
                **metadata.get("annotations", {}), **body["metadata"]["annotations"]}},
        ]  # fmt: skip
        try:
            after = await self._client.json_patch(DEPLOYMENTS, metadata["namespace"], metadata["name"], operations)
        except Refused as error:
            raise Conflict(f"Deployment {metadata['name']} changed meanwhile; it is observed again") from error
        self._cache.apply(None, after)
        if serving.altered(after):
            raise ConfigurationError(
                "RevisionMismatch",
                f"what Deployment {metadata['name']} runs is changed whenever it is written, likely by an admission "
                "webhook: it would not be what passed. Exempt objects with the label "
                f"{pods.MANAGED_BY}={pods.MANAGER}",
            )

    async def _live(self, grounds: Grounds, scene: Scene) -> Object:
        """The migration as it is now. Conflict: it is another by now than the plan was made for."""
        live = await self._client.get(MIGRATIONS, scene.owner.namespace, scene.owner.name)
        metadata = live["metadata"]
        if (metadata["uid"], metadata["generation"]) != (grounds.uid, grounds.generation):
            raise Conflict(f"migration {scene.snapshot.key} changed since it was observed; it is observed again")
        if "deletionTimestamp" in metadata:
            raise Conflict(f"migration {scene.snapshot.key} is being deleted")
        return live

    async def _set_traffic(self, action: SetTraffic, scene: Scene) -> None:
        grounds, namespace = action.grounds, scene.owner.namespace
        status = status_of(await self._live(grounds, scene))
        verdict = status.verdict if status else None
        if verdict is None or (verdict.result, verdict.report_digest) != (Verdict.PASSED, grounds.report):
            raise Conflict(f"report {grounds.report} is not the one that stands in the status; it is observed again")
        deployment = await self._client.get(DEPLOYMENTS, namespace, action.revision)
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
        wanted = service_name(scene.observed.name, scene.observed.spec)
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
            await self._merge(DEPLOYMENTS, metadata["namespace"], metadata["name"], nobodys)
        if scene.observed.spec.serving.autoscaling is not None:
            await self._merge(AUTOSCALERS, metadata["namespace"], metadata["name"], nobodys)

    async def _protect(self, revision: str, scene: Scene) -> None:
        """Only what is about to serve needs a budget; what is tried may be taken down."""
        body = serving.budget(scene.owner, revision, scene.observed.spec.deletion_policy)
        there = await self._create(BUDGETS, body, _is_labelled)
        if bool(there["metadata"].get("ownerReferences")) is not ("ownerReferences" in body["metadata"]):
            references = {"ownerReferences": body["metadata"].get("ownerReferences")}
            await self._merge(BUDGETS, scene.owner.namespace, revision, {"metadata": references})

    async def _adjust(self, action: AdjustRevision, scene: Scene) -> None:
        """The Deployment last: it is what says that all is in line."""
        namespace, spec = scene.owner.namespace, scene.observed.spec
        deployment = await self._client.get(DEPLOYMENTS, namespace, action.name)
        await self._autoscale(action.name, scene)
        ownership = {"metadata": serving.owners(scene.owner, spec.deletion_policy) or {"ownerReferences": None}}
        owned = [(BUDGETS, action.name), *((SERVICES, s["metadata"]["name"]) for s in scene.pointers)]
        if self._storage(scene)[0].claim_template is not None:
            owned.append((CLAIMS, pods.template_claim(scene.owner.name)))
        for resource, name in owned:
            await self._merge(resource, namespace, name, ownership)
        await self._merge(DEPLOYMENTS, namespace, action.name, serving.scale_patch(deployment, spec, scene.owner))

    async def _autoscale(self, name: str, scene: Scene) -> None:
        namespace, spec = scene.owner.namespace, scene.observed.spec
        if spec.serving.autoscaling is not None:
            body = serving.autoscaler(spec.serving.autoscaling, scene.owner, name, spec.deletion_policy)
            there = await self._create(AUTOSCALERS, body, _is_labelled)
            references = {"ownerReferences": body["metadata"].get("ownerReferences")}
            if (
                there["spec"] != body["spec"]
                or there["metadata"].get("ownerReferences") != references["ownerReferences"]
            ):
                await self._merge(AUTOSCALERS, namespace, name, {"metadata": references, "spec": body["spec"]})
            return
        try:
            there = await self._client.get(AUTOSCALERS, namespace, name)
        except Missing:
            return
        if _is_labelled(there):
            await self._delete(AUTOSCALERS, there)

    async def _merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> None:
        """Changes what is there; what is not needs no change."""
        try:
            self._cache.apply(None, await self._client.merge(resource, namespace, name, patch))
        except Missing:
            return

    async def _point(self, body: Object) -> None:
        """Moves the pointer in one write: a merge would keep old keys of the selector."""
        metadata = body["metadata"]
        there = await self._create(SERVICES, body, _is_labelled)
        if there["spec"].get("selector") == body["spec"]["selector"]:
            return
        version = there["metadata"]["resourceVersion"]
        operations: list[Object] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": "/spec/selector", "value": body["spec"]["selector"]},
            {"op": "add", "path": "/metadata/annotations", "value": {
                **there["metadata"].get("annotations", {}), **metadata["annotations"]}},
        ]  # fmt: skip
        try:
            moved = await self._client.json_patch(SERVICES, metadata["namespace"], metadata["name"], operations)
        except Refused as error:
            raise Conflict(f"Service {metadata['name']} changed meanwhile; it is observed again") from error
        self._cache.apply(None, moved)

    async def _retire(self, action: RetireRevision, scene: Scene) -> None:
        namespace = scene.owner.namespace
        wanted = service_name(scene.observed.name, scene.observed.spec)
        for name in {wanted, *(s["metadata"]["name"] for s in scene.pointers)}:
            await self._not_led_to(namespace, name, action.name)
        for resource in (AUTOSCALERS, BUDGETS, DEPLOYMENTS):
            try:
                there = await self._client.get(resource, namespace, action.name)
            except Missing:
                continue
            if _is_labelled(there) and there["metadata"]["labels"].get(pods.MIGRATION) == scene.owner.name:
                await self._delete(resource, there)

    async def _not_led_to(self, namespace: str, service: str, revision: str) -> None:
        try:
            there = await self._client.get(SERVICES, namespace, service)
        except Missing:
            return
        if there["spec"].get("selector", {}).get(pods.REVISION) == revision:
            raise Conflict(f"Service {service} leads to {revision} again; it is observed again")

    async def _create(self, resource: Resource, body: Object, ours: Callable[[Object], bool]) -> Object:
        """Creates, or finds what an earlier try created. ConfigurationError (NameConflict): it is somebody else's."""
        metadata = body["metadata"]
        try:
            there = await self._client.create(resource, body)
        except Conflict:
            there = await self._client.get(resource, metadata["namespace"], metadata["name"])
            if (
                not ours(there)
                or there["metadata"].get("labels", {}).get(pods.MIGRATION) != metadata["labels"][pods.MIGRATION]
            ):
                raise ConfigurationError(
                    "NameConflict",
                    f"{resource.kind} {metadata['name']} exists and is not of this migration; rename the migration, "
                    f"or remove it: kubectl delete {resource.plural} -n {metadata['namespace']} {metadata['name']}",
                ) from None
            if "deletionTimestamp" in there["metadata"] and resource is not CLAIMS:  # a claim is waited for with words
                raise Conflict(
                    f"{resource.kind} {metadata['name']} is being deleted; it is made anew after that"
                ) from None
        self._cache.apply(None, {"apiVersion": resource.api_version, "kind": resource.kind, **there})
        return there

    async def _delete(self, resource: Resource, item: Object) -> None:
        metadata = item["metadata"]
        await self._client.delete(resource, metadata["namespace"], metadata["name"], uid=metadata["uid"])
        self._cache.apply("DELETED", {"apiVersion": resource.api_version, "kind": resource.kind, **item})


def _is_labelled(item: Object) -> bool:
    return bool(item["metadata"].get("labels", {}).get(pods.MANAGED_BY) == pods.MANAGER)
