"""The reference of the chart's values says something of each, and of no other."""

import re
from pathlib import Path

import chart
import values

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / chart.CHART / "values.yaml").read_text(encoding="utf-8")


def leaves(schema, path=()):
    """Paths of all that may be stated and is not a group of others."""
    for name, inner in schema["properties"].items():
        if "properties" in inner and (*path, name) != ("config",):
            yield from leaves(inner, (*path, name))
        else:
            yield ".".join((*path, name))


def test_every_value_that_is_taken_is_listed_with_its_meaning_and_no_other():
    page = (ROOT / "docs/reference/chart-values.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    told = {path: meaning for path, _, _, meaning in rows}
    # What Helm hands to charts that others depend on is nobody's to state.
    wanted = set(leaves(chart.values_schema())) - {"global"}
    groups = {path for path in told if any(other.startswith(f"{path}.") for other in wanted)}
    assert set(told) - groups == wanted
    assert [path for path, meaning in told.items() if not meaning.strip()] == []


def test_defaults_are_those_of_the_file():
    found = {one.path: one.default for one in values.read(TEXT)}
    assert found["replicas",] == 2
    assert found["admissionPolicy", "actions"] == ["Deny"]
    assert found["metrics", "dashboard", "labels"] == {"grafana_dashboard": "1"}


def test_a_comment_above_and_one_beside_are_one_and_a_comment_apart_is_nobody_s():
    read = values.read("# of the file\n\n# above\nname: 1  # beside\ngroup:\n  # inside\n  other: {}\n")
    assert [(one.path, one.said, one.default) for one in read] == [
        (("name",), "above beside", 1), (("group",), "", {"other": {}}), (("group", "other"), "inside", {}),
    ]  # fmt: skip
