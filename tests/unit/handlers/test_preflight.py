"""What the operator asks before it begins, and what it says when it cannot."""

import asyncio
import re
from pathlib import Path

import pytest
import yaml

from paritygate.errors import ConfigurationError, Missing
from paritygate.handlers.preflight import RIGHTS, require

CHART = Path(__file__).parents[3] / "charts/paritygate/templates/_helpers.tpl"


class Api:
    """Grants all rights but some, and may lack the definition."""

    def __init__(self, denied=(), *, defined=True):
        self.asked, self._denied, self._defined = [], denied, defined

    async def create(self, _, body):
        one = body["spec"]["resourceAttributes"]
        self.asked.append(one)
        return {"status": {"allowed": (one["verb"], one["resource"]) not in self._denied}}

    async def pages(self, *_):
        if not self._defined:
            raise Missing("404")
        yield {}


def ask(api, *namespaces):
    asyncio.run(require(api, namespaces, ("system", "the-lease")))


def test_every_right_is_asked_for_in_every_namespace_and_those_of_the_lease_in_its_own():
    api = Api()
    ask(api, "a", "b")
    of_lease = [one for one in api.asked if one["resource"] == "leases"]
    assert [(o["verb"], o["namespace"], o["name"]) for o in of_lease] == [
        ("get", "system", "the-lease"), ("create", "system", ""), ("update", "system", "the-lease"),
    ]  # fmt: skip
    each = [sum(one["namespace"] == namespace for one in api.asked) for namespace in ("a", "b")]
    assert each == [sum(len(right.verbs) for right in RIGHTS)] * 2


def test_rights_that_are_missing_are_named_by_resource_and_place():
    with pytest.raises(ConfigurationError) as caught:
        ask(Api({("create", "jobs"), ("delete", "jobs"), ("get", "leases")}), "a")
    assert caught.value.reason == "RightsMissing"
    assert "create, delete jobs.batch in namespace a; get leases.coordination.k8s.io in namespace system." in str(
        caught.value
    )


def test_an_operator_of_all_namespaces_says_so():
    with pytest.raises(ConfigurationError, match="list pods in all namespaces"):
        ask(Api({("list", "pods")}))


def test_a_cluster_without_the_definition_is_told_how_to_get_it():
    with pytest.raises(ConfigurationError, match="paritygate crd"):
        ask(Api(defined=False))


def test_the_chart_grants_every_right_that_is_asked_for():
    text = re.search(r'define "paritygate.rules" -}}(.*?){{- end -}}', CHART.read_text(), re.DOTALL).group(1)
    rules = yaml.safe_load("\n".join(line for line in text.splitlines() if "{{" not in line))
    granted = {
        (group, resource, verb) for r in rules for group in r["apiGroups"] for resource in r["resources"]
        for verb in r["verbs"]
    }  # fmt: skip
    wanted = {
        (right.resource.group, "/".join(filter(None, (right.resource.plural, right.subresource))), verb)
        for right in RIGHTS
        for verb in right.verbs
    }
    assert wanted <= granted
    assert {resource for _, resource, _ in granted - wanted} == {"secrets", "serviceaccounts"}
