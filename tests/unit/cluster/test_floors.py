"""A manifest can tighten and not loosen, and every field that it loosens is named."""

import pytest

from paritygate.cluster.floors import violations

DATASET = {"uri": "s3://models/holdout.parquet", "label": "churned"}
IMAGE = "registry.example/team/model:1.2"


def judged(**fields):
    return {"validation": {"dataset": DATASET, **fields}}


def answering_in(image):
    return {"source": {"format": "SKLearn", "uri": "s3://m/m.pkl", "environment": {"image": {"name": image}}}}


@pytest.mark.parametrize(
    ("floor", "spec_fields", "said"),
    [
        ({"loosestEquivalence": "Numeric"}, {"target": {"format": "ONNX", "equivalence": "Decision"}},
         "spec.target.equivalence is Decision; this cluster takes Numeric or stricter"),
        ({"loosestEquivalence": "Decision"},
         {"target": {"format": "ONNX", "candidate": {"uri": "s3://m/c.onnx", "equivalence": "Metric"}},
          **judged(metrics=[{"name": "accuracy", "maxDrop": "0.01"}])},
         "spec.target.candidate.equivalence is Metric; this cluster takes Decision or stricter"),
        ({"maxFlipRate": "0.001"}, {},
         "spec.validation.decisions.maxFlipRate is 0.01 by default; this cluster takes at most 0.001"),
        ({"maxFlipRate": "0.001"}, judged(decisions={"maxFlipRate": "2e-3"}),
         "spec.validation.decisions.maxFlipRate is 2e-3; this cluster takes at most 0.001"),
        ({"maxTieRate": "0.01"}, {}, "spec.validation.decisions.maxTieRate is 0.02 by default"),
        ({"maxFlipRate": "0.01"},
         {"validation": {"dataset": {**DATASET, "slices": [{"column": "country", "maxFlipRate": "0.5"}]}}},
         "spec.validation.dataset.slices[country].maxFlipRate is 0.5"),
        ({"maxDrop": "0.01"},
         {"validation": {"dataset": {**DATASET, "slices": [{"column": "country", "maxDrop": "0.5"}]}}},
         "spec.validation.dataset.slices[country].maxDrop is 0.5"),
        ({"maxDrop": "0.01"}, judged(metrics=[{"name": "f1", "maxDrop": "0.02"}]),
         "spec.validation.metrics[f1].maxDrop is 0.02; this cluster takes at most 0.01"),
        ({"rtol": "1e-3"}, judged(numeric={"rtol": "0.01"}), "spec.validation.numeric.rtol is 0.01"),
        ({"atol": "1e-6"}, judged(numeric={"atol": "1e-5"}), "spec.validation.numeric.atol is 1e-5"),
        ({"rtol": "1e-3"}, judged(numeric={"outputs": [{"name": "y", "rtol": "0.01"}]}),
         "spec.validation.numeric.outputs[y].rtol is 0.01"),
        ({"atol": "1e-6"}, judged(numeric={"outputs": [{"name": "y", "atol": "1"}]}),
         "spec.validation.numeric.outputs[y].atol is 1;"),
        ({"minConfidence": "0.99"}, {},
         "spec.validation.confidence is 0.95 by default; this cluster takes at least 0.99"),
        ({"registries": ["registry.example/other"]}, answering_in(IMAGE),
         f"spec.source.environment.image.name is '{IMAGE}'; images must come from registry.example/other"),
        ({"registries": ["registry.example"]}, answering_in("registry.example.evil.org/model"), "must come from"),
        ({"registries": ["registry.example/team"]}, answering_in("registry.example/team-b/model"), "must come from"),
        ({"registries": ["registry.example"]}, answering_in("model:1.2"), "must come from"),
    ],
)  # fmt: skip
def test_a_manifest_that_loosens_a_floor_is_refused_by_the_field(settings, spec, floor, spec_fields, said):
    (found,) = violations(spec(**spec_fields), settings(floors=floor))
    assert said in found


@pytest.mark.parametrize(
    ("cap", "spec_fields", "said"),
    [
        ({"deadline": "30m"}, {}, "spec.jobs.deadline is 1h by default; this cluster takes at most 30m"),
        ({"deadline": "30m"}, {"jobs": {"deadline": "31m"}}, "spec.jobs.deadline is 31m; this cluster"),
        ({"retries": 1}, {}, "spec.jobs.retries is 2 by default; this cluster takes at most 1"),
        ({"replicas": 2}, {"serving": {"replicas": 3}}, "spec.serving.replicas is 3; this cluster takes at most 2"),
        ({"replicas": 1}, {}, "spec.serving.replicas is 2 by default; this cluster takes at most 1"),
        ({"replicas": 4}, {"serving": {"autoscaling": {"maxReplicas": 5}}},
         "spec.serving.autoscaling.maxReplicas is 5; this cluster takes at most 4"),
    ],
)  # fmt: skip
def test_a_manifest_that_asks_for_more_than_a_cap_is_refused_by_the_field(settings, spec, cap, spec_fields, said):
    (found,) = violations(spec(**spec_fields), settings(caps=cap))
    assert said in found


@pytest.mark.parametrize(
    "spec_fields",
    [
        judged(confidence="0.99", decisions={"maxFlipRate": "0.001", "maxTieRate": "0"}, numeric={"rtol": "1e-3"},
               metrics=[{"name": "f1", "maxDrop": "0.01"}, {"name": "accuracy"}]),
        {**judged(confidence="0.999", decisions={"maxFlipRate": "0", "maxTieRate": "0.001"}),
         **answering_in("registry.example/team/a/b@sha256:" + "a" * 64)},
    ],
    ids=["at the floors", "above them"],
)  # fmt: skip
def test_a_manifest_that_keeps_to_the_floors_is_taken(settings, spec, spec_fields):
    floors = {
        "loosestEquivalence": "Numeric", "maxFlipRate": "0.001", "maxTieRate": "0.001", "maxDrop": "0.01",
        "rtol": "0.001", "atol": "0", "minConfidence": "0.99", "registries": ["registry.example/team/"],
    }  # fmt: skip
    assert violations(spec(**spec_fields), settings(floors=floors)) == []


def test_where_nothing_is_configured_nothing_is_refused_but_what_cannot_work(settings, spec):
    assert violations(spec(**judged(numeric={"rtol": "9"}, confidence="0.5")), settings()) == []
    local = {"source": {"format": "SKLearn", "uri": "m", "environment": {"virtualenv": {"requirements": ["numpy"]}}}}
    (found,) = violations(spec(**local), settings())
    assert "in a cluster state environment.image" in found


def test_replicas_do_not_count_where_nothing_serves(settings, spec):
    only = {"rollout": {"strategy": "ValidateOnly"}, "serving": {"replicas": 9}}
    assert violations(spec(**only), settings(caps={"replicas": 1})) == []


def test_every_field_is_named_at_once(settings, spec):
    found = violations(
        spec(jobs={"deadline": "2h", "retries": 9}),
        settings(floors={"minConfidence": "0.99"}, caps={"deadline": "1h", "retries": 3}),
    )
    assert [sentence.split()[0] for sentence in found] == [
        "spec.validation.confidence", "spec.jobs.deadline", "spec.jobs.retries",
    ]  # fmt: skip
