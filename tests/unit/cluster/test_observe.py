"""What the planner is told of Jobs, pods, Services and Deployments in every state that they can be in."""

import copy
import json
from datetime import timedelta

import pytest

from control_plane.scripts import OUT_OF_MEMORY, Outcome
from doubles.cluster import KEY, NAMESPACE, NOW, Cluster, pod_of, settings, stamp
from paritygate.cluster.attempts import settles
from paritygate.cluster.observe import observe

LATER = timedelta(minutes=5)
DIED = Outcome(exit_code=1)
TOLD_WHY = Outcome(
    exit_code=3, message=json.dumps({"failure": "Configuration", "reason": "ModelUnloadable", "message": "no class X"})
)
IDENTITY = f"sha256:{'7' * 64}"


def seen(cluster, later=LATER):
    cluster.look()
    return observe(cluster.cache.snapshot(KEY), settings(), NOW + later, None)


def attempt(cluster, later=LATER):
    """What a person would want to know of the one attempt, in a line."""
    (one,) = seen(cluster, later).attempts
    why = one.failure or one.waiting
    return " ".join(
        filter(None, (one.state.value, one.at and f"at {one.at.value}", why and f"{why.failure}/{why.reason}"))
    )


def converting(**spec):
    cluster = Cluster(**spec)
    cluster.settle()
    return cluster


def validating():
    cluster = converting()
    cluster.finish()
    cluster.settle()
    return cluster


def with_pod(cluster, change=lambda _: None, *, ends=None, job_status=None, drop=()):
    """Puts a pod of the Job that runs, changed by `change`, and the Job's own status."""
    job = cluster.job
    pod = pod_of(job, ends or {})
    pod["status"]["phase"] = "Running"
    for one in (*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]):
        if one["name"] in drop:
            one["state"] = {"waiting": {"reason": "PodInitializing"}}
    change(pod)
    cluster.api.put(pod)
    if job_status is not None:
        cluster.api.put({**job, "status": job_status})
    return cluster


def state(container, **kind):
    def change(pod):
        for one in (*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]):
            if one["name"] == container:
                one["state"] = kind

    return change


def status(**fields):
    return lambda pod: pod["status"].update(initContainerStatuses=[], containerStatuses=[], **fields)


def condition(kind, verdict, **more):
    return status(phase="Pending", conditions=[{"type": kind, "status": verdict, **more}])


def failed(reason="PodFailurePolicy", at=NOW):
    return {"conditions": [{"type": "Failed", "status": "True", "reason": reason, "lastTransitionTime": stamp(at)}]}


WAITS = ("fetch", "capture", "convert", "publish")
RUNNING = {"running": {"startedAt": stamp(NOW)}}


@pytest.mark.parametrize(
    ("change", "drop", "line"),
    [
        (status(), (), "Running at Assess"),
        (state("fetch", **RUNNING), WAITS[1:], "Running at Assess"),
        (state("capture", **RUNNING), WAITS[2:], "Running at Capture"),
        (state("convert", **RUNNING), WAITS[3:], "Running at Convert"),
        (state("publish", **RUNNING), (), "Running at Convert"),
        (state("fetch", waiting={"reason": "ErrImagePull"}), WAITS[1:],
         "Running at Assess Configuration/ImageUnavailable"),
        (state("fetch", waiting={"reason": "InvalidImageName"}), WAITS[1:],
         "Running at Assess Configuration/ImageUnavailable"),
        (state("fetch", waiting={"reason": "CreateContainerConfigError"}), WAITS[1:],
         "Running at Assess Configuration/ContainerInvalid"),
        (state("fetch", waiting={"reason": "PodInitializing"}), WAITS, "Running at Assess"),
        (condition("PodScheduled", "False", reason="Unschedulable"), (),
         "Running at Assess Infrastructure/CapacityMissing"),
        (condition("PodScheduled", "False", reason="SchedulingGated"), (), "Running at Assess"),
    ],
    ids=["a pod without a word", "fetching", "capturing", "converting", "publishing", "no image for minutes",
         "no image name", "a container that cannot be made", "a pod that starts", "no node",
         "a gate before scheduling"],
)  # fmt: skip
def test_a_job_that_runs_is_told_with_where_it_is_and_what_holds_it_up(change, drop, line):
    assert attempt(with_pod(converting(), change, drop=drop)) == line


def test_a_job_without_pods_runs():
    assert attempt(converting()) == "Running at Assess"


def test_an_image_gets_two_minutes_before_it_counts_as_missing():
    cluster = with_pod(converting(), state("fetch", waiting={"reason": "ImagePullBackOff"}))
    assert attempt(cluster, timedelta(seconds=119)).endswith("Infrastructure/ImageUnavailable")
    assert attempt(cluster, timedelta(seconds=121)).endswith("Configuration/ImageUnavailable")


@pytest.mark.parametrize(
    ("ends", "line"),
    [
        ({"fetch": DIED}, "Failed at Assess Infrastructure/ProcessDied"),
        ({"capture": DIED}, "Failed at Capture Infrastructure/ProcessDied"),
        ({"convert": DIED}, "Failed at Convert Infrastructure/ProcessDied"),
        ({"publish": DIED}, "Failed at Convert Infrastructure/ProcessDied"),
        ({"capture": TOLD_WHY}, "Failed at Capture Configuration/ModelUnloadable"),
        ({"convert": TOLD_WHY}, "Failed at Convert Configuration/ModelUnloadable"),
        ({"convert": OUT_OF_MEMORY}, "Failed at Convert Configuration/OutOfMemory"),
        ({"convert": Outcome(exit_code=3, message='{"fail')}, "Failed at Convert Infrastructure/ProcessDied"),
        ({"convert": Outcome(exit_code=143)}, "Failed at Convert Infrastructure/ProcessDied"),
        ({}, "Succeeded at Convert"),
        ({"publish": Outcome(message='{"kind": "Publ')}, "Failed at Convert Infrastructure/EvidenceMissing"),
    ],
    ids=["fetch died", "capture died", "convert died", "publish died", "capture says why", "convert says why",
         "out of memory", "a message cut short", "killed", "all well", "complete with a message cut short"],
)  # fmt: skip
def test_a_convert_job_that_ended_is_told_by_the_container_that_failed(ends, line):
    cluster = converting()
    cluster.finish(**ends)
    assert attempt(cluster) == line


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        ({}, "Succeeded at Validate"),
        ({"publish": Outcome(message="")}, "Failed at Validate Infrastructure/EvidenceMissing"),
        ({"candidate": Outcome(restarts=1)}, "Failed at Validate Infrastructure/CandidateDied"),
        ({"validate": DIED}, "Failed at Validate Infrastructure/ProcessDied"),
        ({"validate": OUT_OF_MEMORY}, "Failed at Validate Configuration/OutOfMemory"),
    ],
    ids=["with evidence", "without a message", "a candidate that was started again", "validate died", "out of memory"],
)
def test_a_validate_job_that_ended_is_told_by_what_it_published(outcome, line):
    cluster = validating()
    cluster.finish(**outcome)
    assert [a for a in lines(cluster) if "Validate" in a] == [line]


def lines(cluster, later=LATER):
    found = []
    for one in seen(cluster, later).attempts:
        why = one.failure
        found.append(f"{one.state.value} at {one.at.value}" + (f" {why.failure}/{why.reason}" if why else ""))
    return found


@pytest.mark.parametrize("outcome", [{"candidate": Outcome(restarts=1)}, {"publish": Outcome(message="{}")}])
def test_a_job_whose_evidence_does_not_count_leaves_no_receipt(outcome):
    cluster = validating()
    before = seen(cluster).receipts
    cluster.finish(**outcome)
    assert seen(cluster).receipts == before


@pytest.mark.parametrize(
    "conditions", [[], [{"type": "Complete", "status": "False"}], failed()["conditions"]],
    ids=["has not ended", "is not complete", "failed"],
)  # fmt: skip
@pytest.mark.parametrize("at", [converting, validating], ids=["convert", "validate"])
def test_what_a_job_published_counts_for_nothing_while_it(at, conditions):
    cluster = at()
    before = seen(cluster).receipts
    job = cluster.finish()
    cluster.api.put({**job, "status": {**job["status"], "conditions": conditions}})
    assert seen(cluster).receipts == before


def test_evidence_for_another_stage_is_damaged_and_leaves_no_receipt():
    cluster = validating()
    job = cluster.job
    job["metadata"]["annotations"]["paritygate.dev/digest"] = f"sha256:{'9' * 64}"
    cluster.api.put(job)
    before = seen(cluster).receipts
    cluster.finish()
    assert "Failed at Validate Configuration/EvidenceInvalid" in lines(cluster)
    assert seen(cluster).receipts == before


def published(cluster, change):
    """What the pod of a finished Job published, changed by a test."""
    pod = next(p for p in cluster.api.all("Pod") if p["metadata"]["name"].startswith("churn-"))
    (said,) = [c["state"]["terminated"] for c in pod["status"]["containerStatuses"] if c["name"] == "publish"]
    message = json.loads(said["message"])
    change(message["receipts"])
    said["message"] = json.dumps(message)
    cluster.api.put(pod)


def test_a_convert_job_is_not_believed_about_what_it_does_not_judge():
    cluster = converting()
    job = cluster.finish()
    digest = job["metadata"]["annotations"]["paritygate.dev/digest"]
    published(cluster, lambda receipts: receipts.append({**receipts[0], "stage": "Validate", "digest": digest}))
    assert [r.stage.value for r in seen(cluster).receipts] == ["Assess", "Capture", "Convert"]


def test_a_validate_job_is_not_believed_about_what_it_does_not_make():
    cluster = validating()
    cluster.finish()
    (convert,) = [j for j in cluster.api.all("Job") if j["metadata"]["labels"]["paritygate.dev/job"] == "convert"]
    judging = next(j for j in cluster.api.all("Job") if j["metadata"]["labels"]["paritygate.dev/job"] == "validate")
    judging["metadata"]["annotations"] |= convert["metadata"]["annotations"]
    cluster.api.put(judging)
    cluster.api.drop("Job", NAMESPACE, convert["metadata"]["name"])
    there = cluster.migration
    cluster.api.put({key: value for key, value in there.items() if key != "status"})
    pods = [p["metadata"]["name"] for p in cluster.api.all("Pod") if "-convert-" in p["metadata"]["name"]]
    for name in pods:
        cluster.api.drop("Pod", NAMESPACE, name)
    published(cluster, lambda receipts: receipts[0].update(stage="Assess", summary=None))
    assert seen(cluster).receipts == ()


GONE = Outcome(
    exit_code=3,
    message=json.dumps({"failure": "Infrastructure", "reason": "ArtefactLost", "message": "sha256:1 is not there"}),
)


def jobs_of(cluster):
    return [j["metadata"]["name"].rsplit("-", 3)[-3] + j["metadata"]["name"][-2:] for j in cluster.api.all("Job")]


def finish_all(cluster):
    """Both Jobs, or what is left of them, end well."""
    for _ in range(2):
        cluster.pass_time(60)
        cluster.settle()
        cluster.finish()
    cluster.settle()


def lost(**spec):
    """A cluster at the moment when the first validate Job did not find what was converted."""
    cluster = converting(**spec)
    cluster.finish()
    cluster.pass_time(60)
    cluster.settle()
    cluster.finish(fetch=GONE)
    return cluster


@pytest.mark.parametrize("gone", ["nothing", "the convert Job"])
def test_what_was_lost_in_the_store_is_made_anew_and_judged(gone):
    cluster = lost()
    if gone == "the convert Job":
        for one in [*cluster.api.all("Job"), *cluster.api.all("Pod")]:
            if "-convert-" in one["metadata"]["name"]:
                cluster.api.drop(one["kind"], NAMESPACE, one["metadata"]["name"])
    finish_all(cluster)
    assert cluster.condition("ParityVerified")["status"] == "True"
    assert jobs_of(cluster) == (
        ["convert-1", "convert-2", "validate-1", "validate-2"] if gone == "nothing" else
        ["convert-1", "validate-1", "validate-2"]
    )  # fmt: skip
    cluster.come_to_serve()
    assert cluster.condition("Ready")["reason"] == "Promoted"


def test_what_an_older_job_left_does_not_count_while_a_newer_one_does_it_again():
    cluster = lost()
    cluster.pass_time(60)
    cluster.settle()
    for one in [*cluster.api.all("Job"), *cluster.api.all("Pod")]:
        if "-validate-" in one["metadata"]["name"]:
            cluster.api.drop(one["kind"], NAMESPACE, one["metadata"]["name"])
    cluster.settle()
    assert jobs_of(cluster) == ["convert-1", "convert-2"]
    finish_all(cluster)
    assert jobs_of(cluster) == ["convert-1", "convert-2", "validate-1"]


def test_a_store_that_loses_everything_is_tried_as_often_as_anything_else_and_no_more():
    cluster = lost(jobs={"retries": 1})
    cluster.pass_time(60)
    cluster.settle()
    cluster.finish()
    cluster.pass_time(60)
    cluster.settle()
    cluster.finish(fetch=GONE)
    for _ in range(5):
        cluster.pass_time(600)
        cluster.settle()
    assert cluster.condition("Stalled")["reason"] == "RetriesExhausted"
    assert "ArtefactLost" in cluster.condition("Stalled")["message"]
    assert jobs_of(cluster) == ["convert-1", "convert-2", "validate-2"]


def test_what_was_judged_since_stays_judged_when_jobs_that_succeeded_are_removed():
    cluster = lost()
    finish_all(cluster)
    for one in cluster.api.all("Job"):
        if any(c["type"] == "Complete" for c in one["status"]["conditions"]):
            cluster.api.drop("Job", NAMESPACE, one["metadata"]["name"])
    cluster.pass_time(3600)
    cluster.start()
    cluster.settle()
    assert jobs_of(cluster) == ["validate-1"]
    assert cluster.condition("ParityVerified")["status"] == "True"


def test_every_finished_stage_names_the_job_that_brought_it_also_to_an_operator_that_saw_none_of_it():
    cluster = Cluster()
    cluster.promote()
    stages = cluster.migration["status"]["stages"]
    jobs = {j["metadata"]["labels"]["paritygate.dev/job"]: j["metadata"]["name"] for j in cluster.api.all("Job")}
    convert, validate = jobs["convert"], jobs["validate"]
    assert [s["job"] for s in stages] == [convert, convert, convert, validate]
    there = cluster.migration
    cluster.api.put({key: value for key, value in there.items() if key != "status"})
    cluster.start()
    cluster.settle()
    assert cluster.migration["status"]["stages"] == stages


def test_the_job_and_the_attempt_that_brought_a_result_are_told_and_not_those_that_failed():
    cluster = converting()
    cluster.finish(convert=DIED)
    cluster.pass_time(60)
    cluster.settle()
    second = cluster.finish()["metadata"]["name"]
    cluster.settle()
    told = [(s["name"], s["attempt"], s["job"]) for s in cluster.migration["status"]["stages"][:3]]
    assert told == [(name, 2, second) for name in ("Assess", "Capture", "Convert")]
    for one in [*cluster.api.all("Job"), *cluster.api.all("Pod")]:
        if "-convert-" in one["metadata"]["name"]:
            cluster.api.drop(one["kind"], NAMESPACE, one["metadata"]["name"])
    cluster.start()
    cluster.settle()
    assert [(s["name"], s["attempt"], s["job"]) for s in cluster.migration["status"]["stages"][:3]] == told


@pytest.mark.parametrize(
    ("job_status", "change", "line"),
    [
        (failed("DeadlineExceeded"), None, "Failed at Assess Configuration/DeadlineExceeded"),
        (failed("BackoffLimitExceeded"), None, "Failed at Assess Infrastructure/PodLost"),
        (failed(), status(phase="Failed", reason="Evicted", message="low on memory"),
         "Failed at Assess Infrastructure/Evicted"),
        (failed(), status(phase="Failed", conditions=[{"type": "DisruptionTarget", "status": "True"}]),
         "Failed at Assess Infrastructure/PodLost"),
        (failed(), status(phase="Failed", reason="NodeLost"), "Failed at Assess Infrastructure/PodLost"),
    ],
    ids=["over Kubernetes' own deadline", "its pods are gone", "evicted", "taken down", "its node was lost"],
)  # fmt: skip
def test_a_job_that_failed_without_a_container_saying_so(job_status, change, line):
    cluster = converting()
    if change is None:
        cluster.api.put({**cluster.job, "status": job_status})
    else:
        with_pod(cluster, change, job_status=job_status)
    assert attempt(cluster) == line


@pytest.mark.parametrize("condition_type", ["Complete", "Failed"])
@pytest.mark.parametrize("pods", ["none", "running"])
def test_a_pod_gets_some_seconds_for_its_last_word(condition_type, pods):
    cluster = converting()
    ended = {"conditions": [{"type": condition_type, "status": "True", "lastTransitionTime": stamp(NOW)}]}
    if pods == "running":
        with_pod(cluster, state("convert", **RUNNING), job_status=ended)
    else:
        cluster.api.put({**cluster.job, "status": ended})
    assert lines(cluster, timedelta(seconds=14))[0].startswith("Running")
    assert lines(cluster, timedelta(seconds=15))[0].startswith("Failed")
    assert settles(cluster.cache.snapshot(KEY), NOW + timedelta(seconds=14))
    assert not settles(cluster.cache.snapshot(KEY), NOW + timedelta(seconds=15))
    assert not settles(cluster.cache.snapshot(KEY), NOW - timedelta(hours=1))  # the clock was set back


def test_a_job_that_kueue_holds_back_waits_and_its_deadline_does_not_run():
    cluster = converting(jobs={"queueName": "gpu", "deadline": "10m"})
    job = cluster.job
    cluster.api.put({**job, "spec": {**job["spec"], "suspend": True}})
    cluster.pass_time(7 * 86_400)
    (one,) = seen(cluster, timedelta(days=7)).attempts
    assert (one.state, one.waiting.reason) == ("Running", "JobSuspended")
    assert "queue gpu of Kueue has no room" in one.waiting.message
    cluster.reconcile()
    assert cluster.job["metadata"].get("annotations", {}).get("paritygate.dev/cancelled") is None
    assert cluster.condition("Ready")["reason"] == "JobSuspended"


def test_a_job_that_we_stopped_failed_for_the_reason_that_we_wrote_on_it():
    cluster = converting(jobs={"deadline": "10m"})
    cluster.pass_time(601)
    cluster.reconcile()
    (one,) = seen(cluster).attempts
    assert (one.state, one.failure.reason) == ("Failed", "DeadlineExceeded")


# --- what is ours


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job["metadata"].update(ownerReferences=[{"uid": "another", "controller": True}]),
        lambda job: job["metadata"].pop("ownerReferences"),
        lambda job: job["metadata"]["ownerReferences"][0].update(controller=False),
    ],
    ids=["of another migration", "of nobody", "only mentioned"],
)
def test_a_job_of_somebody_else_is_no_attempt_and_no_evidence(change):
    cluster = converting()
    job = cluster.finish()
    change(job)
    cluster.api.put(job)
    found = seen(cluster)
    assert found.attempts == ()
    assert {r.stage for r in found.receipts} == set()


def test_a_pod_of_somebody_else_says_nothing():
    cluster = converting()
    cluster.finish()
    (pod,) = cluster.api.all("Pod")
    pod["metadata"]["ownerReferences"] = [{"uid": "another", "controller": True}]
    cluster.api.put(pod)
    assert attempt(cluster) == "Failed at Assess Infrastructure/EvidenceMissing"


@pytest.mark.parametrize(
    ("label", "number"),
    [("3", 3), ("x", 1), ("-1", 1), (None, 1)],
    ids=["as we wrote it", "not a number", "negative", "removed"],
)
def test_the_number_of_an_attempt_survives_what_people_do_to_labels(label, number):
    cluster = converting()
    job = cluster.job
    job["metadata"]["labels"]["paritygate.dev/attempt"] = label
    if label is None:
        del job["metadata"]["labels"]["paritygate.dev/attempt"]
    cluster.api.put(job)
    (one,) = seen(cluster).attempts
    assert one.number == number


def test_an_attempt_for_an_earlier_generation_is_stale():
    cluster = converting()
    assert [a.stale for a in seen(cluster).attempts] == [False]
    cluster.edit(serving={"replicas": 3})
    assert [a.stale for a in seen(cluster).attempts] == [True]


# --- what the run goes by


def upgraded(**images):
    """A configuration with other images than before."""
    known = {use: {"name": f"registry.example/{use}@sha256:{'8' * 64}"} for use in ("worker", "server")}
    return {"images": {**known, **images}}


def told(digest):
    """What a worker says of itself."""
    return {"SKLearn": {"converter": digest, "source": digest}}


def original(**identities):
    """A configuration whose images say this of themselves."""
    images = {use: {"name": f"registry.example/{use}@sha256:{digit * 64}"}
              for use, digit in (("worker", "1"), ("server", "2"))}  # fmt: skip
    return {"images": {use: {**image, **identities.get(use, {})} for use, image in images.items()}}


NAMED = pytest.mark.parametrize(
    "named", [{}, {"worker": {"identity": told(IDENTITY)}, "server": {"identity": IDENTITY}}],
    ids=["by their names", "by their own identities"],
)  # fmt: skip


@NAMED
def test_images_of_a_run_stay_when_the_operator_is_upgraded(named):
    cluster = Cluster(original(**named))
    cluster.promote()
    at_rest = cluster.migration
    cluster.pass_time(3600)
    cluster.start(**upgraded())
    cluster.api.requests.clear()
    cluster.settle()
    assert cluster.api.writes() == []
    assert cluster.migration == at_rest


@NAMED
@pytest.mark.parametrize("finished", [False, True], ids=["while it converts", "while it validates"])
def test_an_upgrade_in_the_middle_of_a_run_does_not_start_it_anew(finished, named):
    cluster = Cluster(original(**named))
    cluster.settle()
    if finished:
        cluster.finish()
        cluster.settle()
    jobs = cluster.api.all("Job")
    cluster.start(
        **upgraded(worker={"name": f"registry.example/w@sha256:{'8' * 64}", "identity": told(f"sha256:{'6' * 64}")})
    )
    cluster.settle()
    assert [j["metadata"]["name"] for j in cluster.api.all("Job")] == [j["metadata"]["name"] for j in jobs]
    cluster.finish()
    cluster.settle()
    images = {c["image"] for c in cluster.api.all("Job")[-1]["spec"]["template"]["spec"]["initContainers"]}
    assert images == {f"registry.example/worker@sha256:{'1' * 64}", f"registry.example/server@sha256:{'2' * 64}"}


def test_a_change_of_the_spec_takes_the_images_of_today():
    cluster = converting()
    cluster.start(**upgraded())
    cluster.edit(runID="again")
    cluster.settle()
    assert {c["image"] for c in cluster.job["spec"]["template"]["spec"]["initContainers"]} == {
        f"registry.example/worker@sha256:{'8' * 64}"
    }


def runtime(cluster, **fields):
    cluster.look()
    return observe(cluster.cache.snapshot(KEY), settings(**fields), NOW, None).inputs.runtime


def test_the_runtime_is_what_the_image_says_of_itself_where_nothing_else_is_asked_for():
    def named(**more):
        return {"images": {"worker": {"name": f"w@sha256:{'1' * 64}"},
                           "server": {"name": f"s@sha256:{'2' * 64}", "identity": IDENTITY}}, **more}  # fmt: skip

    cluster = Cluster(named())
    cluster.settle()
    cluster.finish()
    found = [runtime(cluster, **named()), runtime(cluster, **named(nodeSelector={"cpu": "x"}))]
    cluster.edit(serving={"resources": {"limits": {"memory": "2Gi"}}})
    found.append(runtime(cluster, **named()))
    assert found[0] == IDENTITY
    assert len(set(found)) == 3


# --- status


def test_a_status_that_is_not_ours_to_read_is_none():
    cluster = converting()
    there = cluster.migration
    there["status"] = {"conditions": "damaged"}
    cluster.api.put(there)
    assert seen(cluster).status is None


def test_finished_stages_are_remembered_when_their_jobs_are_gone():
    cluster = Cluster()
    cluster.promote()
    for kind in ("Job", "Pod"):
        for one in cluster.api.all(kind):
            cluster.api.drop(kind, NAMESPACE, one["metadata"]["name"])
    assert [r.stage.value for r in seen(cluster).receipts] == ["Assess", "Capture", "Convert", "Validate"]
    cluster.settle()
    assert cluster.api.all("Job") == []


def test_a_verdict_in_the_status_counts_for_its_own_stage_only():
    cluster = Cluster()
    cluster.promote()
    for kind in ("Job", "Pod"):
        for one in cluster.api.all(kind):
            cluster.api.drop(kind, NAMESPACE, one["metadata"]["name"])
    there = cluster.migration
    stage = next(s for s in there["status"]["stages"] if s["name"] == "Validate")
    stage["digest"] = f"sha256:{'9' * 64}"
    cluster.api.put(there)
    assert [r.stage.value for r in seen(cluster).receipts] == ["Assess", "Capture", "Convert"]


# --- what serves


def deployed(cluster, change):
    (there,) = cluster.api.all("Deployment")
    change(there)
    cluster.api.put(there)
    (found,) = seen(cluster).revisions
    return found


def less_available(item):
    item["status"]["availableReplicas"] = 0


def not_observed(item):
    item["spec"]["minReadySeconds"] = 1


def not_updated(item):
    item["status"]["updatedReplicas"] = 0


def scaled_away(item):
    item["spec"]["replicas"] = 0


@pytest.mark.parametrize(
    ("change", "ready"),
    [
        (lambda _: None, True),
        (less_available, False),
        (not_observed, False),
        (not_updated, False),
        (scaled_away, False),
    ],
    ids=["all answer", "none answers", "the numbers are of an earlier generation", "old pods answer", "scaled to zero"],
)
def test_a_revision_is_ready_by_numbers(change, ready):
    cluster = Cluster()
    cluster.promote()
    assert deployed(cluster, copy.copy(change)).ready is ready


def test_a_revision_that_never_came_up_is_failed_with_what_kubernetes_says():
    cluster = Cluster()
    cluster.promote()

    def change(item):
        item["status"] = {"observedGeneration": item["metadata"]["generation"], "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
             "message": "has timed out"},
        ]}  # fmt: skip

    found = deployed(cluster, change)
    assert (found.failure.reason, found.ready) == ("RevisionFailed", False)
    assert "has timed out" in found.failure.message


def test_traffic_is_where_the_service_that_is_named_leads():
    cluster = Cluster()
    cluster.promote()
    (deployment,) = cluster.api.all("Deployment")
    found = seen(cluster)
    assert (found.traffic, found.pointed, found.url) == (
        deployment["metadata"]["name"], True, "http://churn.ns.svc.cluster.local",
    )  # fmt: skip
    cluster.edit(serving={"replicas": 1, "serviceName": "shop"})
    found = seen(cluster)
    assert (found.traffic, found.pointed, found.url) == (
        deployment["metadata"]["name"], False, "http://shop.ns.svc.cluster.local",
    )  # fmt: skip


def test_a_pod_that_takes_the_place_of_another_says_why_and_where_it_is():
    """Pods of a Job have random names: which is the newer one, their names do not say."""
    cluster = converting()
    lost = pod_of(cluster.job, {})
    lost["metadata"] |= {"name": "churn-zzzzz", "uid": "lost"}
    lost["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "the node is shut down"}
    cluster.api.put(lost)
    fresh = pod_of(cluster.job, {})
    fresh["metadata"] |= {"name": "churn-aaaaa", "uid": "fresh"}
    fresh["status"] |= {"phase": "Pending", "initContainerStatuses": [], "containerStatuses": []}
    cluster.api.put(fresh)
    (one,) = seen(cluster).attempts
    assert (one.state, one.at) == ("Running", "Assess")
    assert one.replaced == "pod churn-zzzzz was evicted: the node is shut down"
