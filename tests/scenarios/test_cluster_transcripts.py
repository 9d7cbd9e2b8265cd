"""Stories of migrations on a real API server, told as a person would see them, and compared to the letter.

`PARITYGATE_WRITE_TRANSCRIPTS=1` writes them anew; then read them.
"""

import contextlib
import difflib
import os
import threading
from pathlib import Path

import pytest

from control_plane.kubelet import Kubelet
from control_plane.migrations import Work, migration, operating
from control_plane.scripts import OUT_OF_MEMORY, RUNS, Outcome
from paritygate.api.report import Verdict
from stories.recorder import Recorder
from stories.scene import Scene, paced
from stories.text import told

GOLDEN = Path(__file__).with_name("transcripts")
WRITE = "PARITYGATE_WRITE_TRANSCRIPTS"


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def telling(control_plane, migrations, namespace, work, request):
    """A scene whose story is compared at the end; titles and files are named as the tests are."""
    title = request.node.name.removeprefix("test_").replace("_", " ").capitalize()
    file = GOLDEN / f"{request.node.name.removeprefix('test_').replace('_', '-')}.txt"

    @contextlib.contextmanager
    def scene(name="churn", **settings):
        metadata = {"name": "store", "namespace": namespace, "labels": {"paritygate.dev/allowed": "true"}}
        migrations.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
        with (
            Recorder(control_plane, migrations, namespace) as recorder,
            Kubelet(control_plane, namespace, paced(work, recorder)),
            operating(control_plane, namespace, **settings),
        ):
            try:
                yield Scene(migrations, namespace, recorder)
            finally:
                found = told(title, recorder.story(), name)
                print(found)  # noqa: T201 - how far it came, where it does not come to its end
        compare(file, found)

    return scene


@pytest.fixture
def story(telling):
    with telling() as found:
        yield found


def compare(file, found):
    if os.environ.get(WRITE):
        file.write_text(found, encoding="utf-8")
        return
    wanted = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if found.splitlines() != wanted:
        lines = difflib.unified_diff(wanted, found.splitlines(), "golden", "now", lineterm="", n=6)
        pytest.fail("\n".join([f"{file.name} tells another story ({WRITE}=1 writes it anew):", *lines]), pytrace=False)


def source(name):
    return {"source": {"format": "SKLearn", "uri": f"s3://models/{name}.pkl"}}


APPLIES = "kubectl apply -f churn.yaml, with source.uri: s3://models/churn.pkl"


def edit(name):
    return f"kubectl edit mm churn, with source.uri: s3://models/{name}.pkl", source(name)


@pytest.fixture
def serving(story, namespace):
    """A story in which a first model serves."""
    story.applies(APPLIES, migration(namespace))
    story.comes_to("Promoted")
    return story


def test_a_model_that_passes_comes_to_serve(serving, work):
    serving.rests()
    assert work.jobs == ["Convert", "Validate"]


def test_a_model_that_differs_is_not_served(story, namespace, work):
    work.verdict = Verdict.FAILED
    story.applies(APPLIES, migration(namespace))
    story.comes_to("ParityFailed")


def test_too_few_rows_are_no_verdict(story, namespace, work):
    work.verdict = Verdict.INCONCLUSIVE
    story.applies(APPLIES, migration(namespace))
    story.comes_to("ParityInconclusive")


def test_the_first_model_goes_on_serving_while_a_second_one_fails(serving, work):
    work.verdict = Verdict.FAILED
    serving.edits(*edit("worse"))
    serving.comes_to("ParityFailed")


def test_the_spec_is_edited_in_the_middle_of_a_run(serving, work):
    work.fails["Convert"] = {"convert": RUNS}
    serving.edits(*edit("slow"))
    serving.comes_to("Converting")
    serving.edits(*edit("better"))
    serving.comes_to("Promoted", drained=True)


def test_the_spec_is_edited_while_a_candidate_is_judged(serving, work):
    work.fails["Validate"] = {"validate": RUNS}
    serving.edits(*edit("slow"))
    serving.comes_to("Validating")
    serving.edits(*edit("better"))
    serving.comes_to("Promoted", drained=True)


def test_a_run_is_suspended_and_resumed(serving, work):
    work.fails["Convert"] = {"convert": RUNS}
    serving.edits(*edit("better"))
    serving.comes_to("Converting")
    serving.edits("kubectl edit mm churn, with suspend: true", {"suspend": True})
    serving.comes_to("Suspended")
    serving.edits("kubectl edit mm churn, with suspend: false", {"suspend": False})
    serving.comes_to("Promoted", drained=True)


def test_the_spec_is_rolled_back(serving, work):
    serving.edits(*edit("better"))
    serving.comes_to("Promoted", drained=True)
    serving.edits(*edit("churn"))
    serving.comes_to("Promoted", drained=True)
    assert work.jobs == ["Convert", "Validate"] * 2


def test_what_was_rejected_stays_rejected(serving, work):
    work.verdict = Verdict.FAILED
    serving.edits(*edit("worse"))
    serving.comes_to("ParityFailed")
    work.verdict = Verdict.PASSED
    serving.edits(*edit("churn"))
    serving.comes_to("Promoted")
    serving.edits(*edit("worse"))
    serving.comes_to("ParityFailed")
    assert work.jobs == ["Convert", "Validate"] * 2


def test_a_container_dies_and_the_next_attempt_passes(story, namespace, work):
    work.fails["Convert"] = {"convert": Outcome(exit_code=1)}
    story.applies(APPLIES, migration(namespace))
    story.comes_to("Promoted")


def test_no_node_fits_until_the_manifest_is_corrected(story, namespace):
    selector = {"convert": {"nodeSelector": {"zone": "nowhere"}}}
    story.applies(f"{APPLIES} and jobs.convert.nodeSelector: {{zone: nowhere}}", migration(namespace, jobs=selector))
    story.comes_to("CapacityMissing")
    correct = {"jobs": {"convert": {"nodeSelector": None}}}
    story.edits("kubectl edit mm churn, without jobs.convert.nodeSelector", correct)
    story.comes_to("Promoted")


def test_a_node_is_drained_and_no_attempt_is_lost(story, namespace, work):
    work.fails["Convert"] = {"convert": Outcome(evicts="The node is shutting down.", disruption=True)}
    story.applies(APPLIES, migration(namespace))
    story.comes_to("Promoted")
    assert work.jobs == ["Convert", "Convert", "Validate"]


def test_a_container_needs_more_memory_than_it_may_have(story, namespace, work):
    work.fails["Convert"] = {"convert": OUT_OF_MEMORY}
    story.applies(APPLIES, migration(namespace))
    story.comes_to("OutOfMemory")
    more = {"jobs": {"convert": {"resources": {"limits": {"memory": "8Gi"}}}}}
    story.edits("kubectl edit mm churn, with spec.jobs.convert.resources.limits.memory: 8Gi", more)
    story.comes_to("Promoted")


def test_what_serves_stays_when_its_migration_is_deleted_and_is_taken_over_by_the_next(serving, namespace):
    serving.deletes("kubectl delete mm churn", goes=["Job"])
    serving.applies("kubectl apply -f churn.yaml, as before", migration(namespace))
    serving.comes_to("Promoted")


def test_what_serves_goes_with_its_migration_where_that_is_asked_for(story, namespace):
    story.applies(f"{APPLIES} and deletionPolicy: Delete", migration(namespace, deletionPolicy="Delete"))
    story.comes_to("Promoted")
    story.deletes("kubectl delete mm churn", goes=["Job", "Deployment", "Service"])


def test_a_migration_waits_for_its_turn(telling, namespace, work):
    at_work = threading.Event()
    work.fails["Convert"] = {"convert": Outcome(until=at_work)}
    with telling("fraud", caps={"activeRuns": 1, "activeRunsPerNamespace": 1}) as scene:
        scene.applies("kubectl apply -f churn.yaml", migration(namespace))
        scene.comes_to("Converting")
        scene.applies("kubectl apply -f fraud.yaml", migration(namespace, name="fraud"))
        scene.comes_to("Queued", name="fraud")
        scene.notes("churn is done")
        at_work.set()
        scene.comes_to("Promoted", name="fraud")


def test_every_transcript_belongs_to_a_story():
    stories = {f"{name.removeprefix('test_').replace('_', '-')}.txt" for name in globals() if name.startswith("test_")}
    assert {file.name for file in GOLDEN.iterdir()} <= stories
