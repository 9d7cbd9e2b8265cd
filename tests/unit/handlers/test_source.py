"""kopf as a mere source of events: it asks for what is ours only, compares nothing, and remembers nothing."""

import asyncio

import kopf

from paritygate.handlers import source


def configured(*, namespaced=False):
    settings = kopf.OperatorSettings()
    source.configure(settings, namespaced=namespaced)
    return settings


def test_only_our_children_and_only_pods_of_jobs_are_asked_for():
    selectors = {str(key.any_name or key.plural): value for key, value in configured().watching.label_selectors.items()}
    ours = "app.kubernetes.io/managed-by=paritygate"
    assert selectors == {
        "jobs": ours, "pods": f"{ours},paritygate.dev/job", "deployments": ours, "services": ours,
    }  # fmt: skip


def test_namespaces_and_definitions_are_followed_only_where_all_namespaces_are():
    assert configured(namespaced=True).scanning.disabled
    assert not configured().scanning.disabled


def test_no_object_is_copied_to_be_compared():
    persistence, body = configured().persistence, {"spec": {"a": 1}}
    essence = persistence.diffbase_storage.build(body=body)
    assert persistence.progress_storage.clear(essence=essence) == {}
    assert persistence.diffbase_storage.fetch(body=body) is None
    assert persistence.progress_storage.fetch(key="k", body=body) is None


def test_no_object_is_remembered():
    memories = source.Forgetful()
    first, second = (asyncio.run(memories.recall({"metadata": {"uid": "u"}})) for _ in range(2))
    assert first is not second
    assert not list(memories.iter_all_memories())
