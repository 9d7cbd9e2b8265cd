"""Every rule is explained in docs/reference/findings.md with its own text, and every reason in reasons.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import paritygate.worker
from paritygate.worker.findings import RULES

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
WORKER = Path(paritygate.worker.__file__).parent


def sections(name: str) -> dict[str, str]:
    parts = re.split(r"(?m)^## ", (REFERENCE / name).read_text())[1:]
    return {title.strip(): " ".join(body.split()) for title, _, body in (part.partition("\n") for part in parts)}


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_has_its_heading_and_text(name: str) -> None:
    text = sections("findings.md")[name]
    assert RULES[name].why in text
    assert RULES[name].action in text
    assert text.startswith(f"*{RULES[name].severity.value}.*")


def test_headings_are_in_order() -> None:
    for name in ("findings.md", "reasons.md"):
        titles = list(sections(name))
        assert titles == sorted(titles)


def test_every_reason_of_the_worker_is_explained() -> None:
    raised = {
        reason
        for path in WORKER.rglob("*.py")
        for reason in re.findall(r"(?:Configuration|Infrastructure)Error\(\s*\"([A-Za-z]+)\"", path.read_text())
    }
    assert raised
    assert raised <= set(sections("reasons.md"))


def test_every_translated_class_is_listed() -> None:
    from paritygate.worker.sources._sklearn import fallback, outputs, writer

    assert outputs.TRANSLATION_MODULES
    text = (REFERENCE / "sklearn.md").read_text()
    known = {*writer.TRANSFORMERS, *writer.CLASSIFIERS, *writer.REGRESSORS, *fallback.KNOWN_WRONG}
    assert {name for name in known if f"`{name}`" not in text} == set()
