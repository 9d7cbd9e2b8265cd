"""What transcripts make of the writes that they are told of."""

from stories.recorder import MIGRATION, Seen
from stories.text import told

OURS = {"app.kubernetes.io/managed-by": "paritygate", "paritygate.dev/migration": "m"}
A, B = "a" * 64, "b" * 64


def migration(version, phase="", conditions=(), event="MODIFIED", name="m", message=""):
    row = (("NAME", name), ("READY", ""), ("PHASE", phase), ("AGE", str(version)), ("MESSAGE", message))
    item = {"metadata": {"name": name}, "status": {"conditions": list(conditions)}}
    return Seen(version, MIGRATION, event, item, row)


def job(version, event="ADDED", name="m-convert-0123abcd-1"):
    item = {"metadata": {"name": name, "labels": OURS}, "spec": {}, "status": {}}
    return Seen(version, "Job", event, item)


def deployment(version, available=0, event="MODIFIED"):
    item = {"metadata": {"name": "m-0123abcd", "labels": OURS}, "spec": {"replicas": 1}}
    return Seen(version, "Deployment", event, {**item, "status": {"availableReplicas": available}})


def event(version, reason, about="m", by="paritygate.dev/operator"):
    item = {"metadata": {"name": f"m.{version}"}, "involvedObject": {"name": about}, "reportingComponent": by}
    return Seen(version, "Event", "ADDED", {**item, "type": "Normal", "reason": reason, "message": "so"})


def lines(*story):
    return told("T", story, "m").splitlines()[2:]


def test_a_line_is_told_when_something_changed_and_age_is_nothing():
    found = lines(migration(1, "Assessing", message="one"), migration(2, "Assessing", message="one"), migration(3, "X"))
    assert [line.split() for line in found] == [["NAME", "READY", "PHASE"], ["m", "Assessing"], ["one"], ["m", "X"]]


def test_a_condition_is_told_when_its_status_or_reason_changes_and_when_it_goes():
    def stalled(reason):
        return {"type": "Stalled", "status": "True", "reason": reason, "message": f"why {reason}"}

    found = lines(
        *(migration(n, conditions=c) for n, c in enumerate(([stalled("A")], [stalled("A")], [stalled("B")], [])))
    )
    said = [line.strip() for line in found if "Stalled" in line]
    assert said == ["Stalled=True (A): why A", "Stalled=True (B): why B", "Stalled goes"]


def test_what_differs_between_runs_is_a_letter_that_stays():
    text = f"artefact sha256:{B}, then sha256:{A}, then s3://x/{B} at 2026-01-01T00:00:00Z in test-0123456789"
    found = lines(
        migration(1, message=text), job(2), job(3, name="m-validate-deadbeef-2"), deployment(4, event="ADDED")
    )
    assert "artefact sha256:A, then sha256:B, then s3://x/A at TIME in default" in found[2]
    assert [line.split()[1] for line in found[3:]] == ["m-convert-a-1", "m-validate-b-2", "m-r1"]


def test_events_stand_beside_the_status_that_they_are_of():
    story = (migration(1, "RollingOut"), deployment(2, event="ADDED"), deployment(3, 1), event(4, "P"), event(5, "Q"))
    found = [line.strip() for line in lines(*story)]
    assert found[2:] == [
        "event  Normal P: so",
        "event  Normal Q: so",
        "Deployment m-r1 is brought up",
        "Deployment m-r1 is ready",
    ]


def test_what_others_are_told_of_and_what_others_own_is_left_out():
    stranger = Seen(1, "Service", "ADDED", {"metadata": {"name": "s"}, "spec": {}})
    assert lines(event(1, "P", about="n"), event(2, "P", by="kubelet"), stranger, migration(3, name="n")) == []


def test_children_that_go_with_their_migration_are_told_in_the_order_of_their_birth():
    first, second = "m-convert-0000aaaa-1", "m-convert-0000bbbb-1"
    story = [job(1, name=first), job(2, name=second), migration(3), migration(4, event="DELETED")]
    story += [job(5, "DELETED", second), job(6, "DELETED", first)]
    assert [line.strip() for line in lines(*story)][-3:] == [
        "ModelMigration m is gone",
        "Job m-convert-a-1 is deleted",
        "Job m-convert-b-1 is deleted",
    ]
