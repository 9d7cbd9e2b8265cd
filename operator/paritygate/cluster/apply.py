"""Carries out the planner's actions, each with the preconditions that make it safe to repeat and to come late."""

from __future__ import annotations

from typing import Final

from paritygate.api.artifacts import FailureClass, StageFailure, StageName
from paritygate.api.orders import JobOrder
from paritygate.api.status import InputDigests
from paritygate.cluster import references, stores
from paritygate.cluster.cache import CANCELLED, Cache, Object, ended
from paritygate.cluster.client import JOBS, PODS, Client
from paritygate.cluster.manifests import jobs
from paritygate.cluster.rollouts import Rollouts
from paritygate.cluster.scene import Scene
from paritygate.cluster.writes import Writes
from paritygate.core.actions import (
    Action,
    AdjustRevision,
    ApplyRevision,
    CancelStage,
    DiscardAttempt,
    RetireRevision,
    SetTraffic,
    StartStage,
)
from paritygate.errors import ConfigurationError, Conflict, Forbidden, Refused, RightsMissing

_DELETED_WHEN_CANCELLED: Final = frozenset({"Suspended", "Superseded"})


class Applier:
    """Carries out actions. ConfigurationError: somebody must change something; ClusterError: try again."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self._writes = Writes(client, cache)
        self._rollouts = Rollouts(self._writes)

    async def carry_out(self, action: Action, scene: Scene) -> None:
        """Carries out one action."""
        match action:
            case StartStage():
                await self._start(action, scene)
            case CancelStage():
                await self._cancel(action, scene)
            case DiscardAttempt():
                await self._discard(action, scene)
            case ApplyRevision():
                await self._rollouts.bring_up(action, scene)
            case SetTraffic():
                await self._rollouts.set_traffic(action, scene)
            case AdjustRevision():
                await self._rollouts.adjust(action, scene)
            case RetireRevision():
                await self._rollouts.retire(action, scene)

    async def _start(self, action: StartStage, scene: Scene) -> None:
        if scene.observed.serving:
            await self._rollouts.require_name(scene)
        storage, field = stores.storage_of(scene)
        named = references.of_jobs(scene.observed.spec, storage, field)
        await references.require_allowed(self._writes.client, scene.owner.namespace, named)
        store = await stores.access(self._writes, storage, scene)
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
                run.worker, run.server, store, scene.settings.defaults, scene.settings.node_selector,
            )
        )  # fmt: skip
        if any(job["metadata"]["name"] == body["metadata"]["name"] for job in scene.jobs):
            return
        await self._try_pod(body)
        await self._writes.create(JOBS, body, scene.observed.uid)

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
            await self._writes.client.create(PODS, pod, dry_run=True)
        except RightsMissing:
            raise
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
            await self._writes.delete(JOBS, job)
            return
        # Kept, as the record of why it ended; suspending it takes its pods down.
        why = StageFailure(
            failure=FailureClass.CONFIGURATION, reason=action.reason, message=action.message
        ).model_dump_json(by_alias=True)
        metadata = job["metadata"]
        patch = {"metadata": {"uid": metadata["uid"], "annotations": {CANCELLED: why}}, "spec": {"suspend": True}}
        self._writes.seen(JOBS, await self._writes.client.merge(JOBS, metadata["namespace"], metadata["name"], patch))

    async def _discard(self, action: DiscardAttempt, scene: Scene) -> None:
        for job in scene.jobs:
            if job["metadata"]["name"] == action.job and ended(job):
                await self._writes.delete(JOBS, job)
