"""What holds for the repository as a whole: documentation and generated files fit the code."""

import ast
import re
import runpy
import tomllib
from pathlib import Path

import pytest

from paritygate.core import verdict  # the package is importable although operator/ is no package
from paritygate.worker.findings import RULES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "paritygate"
ERRORS = {"ConfigurationError", "InfrastructureError", "AgentError", "StageError"}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*/*.md")])
REASON = re.compile(r"[A-Z][A-Za-z0-9]+")


def headings(page):
    return re.findall(r"^## (\S+)$", (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8"), re.MULTILINE)


def reasons_in(tree):
    """Reasons that a module gives, as literals: of errors, and as `reason=`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        given = [node.args[0]] if name in ERRORS and node.args else []
        given += [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
        for value in given:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def test_operator_is_no_package():
    assert verdict.__file__ == str(PACKAGE / "core" / "verdict.py")
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "tests" / "operator").exists()


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_reason_is_explained(module):
    reasons = set(reasons_in(ast.parse(module.read_text(encoding="utf-8"))))
    assert all(REASON.fullmatch(reason) for reason in reasons)
    assert reasons <= set(headings("reasons.md"))


def test_every_finding_is_explained():
    assert set(RULES) <= set(headings("findings.md"))


def said(node):
    """A text of the code as people may come to see it, with … for what is filled in; None = it is no text."""
    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"%[srd]", "…", text)
        case ast.JoinedStr(values=parts):
            return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in parts)
        case _:
            return None


@pytest.fixture(scope="module")
def texts():
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))
    return "\n".join(text.replace("\n", " ") for tree in trees for node in ast.walk(tree) if (text := said(node)))


def sections(page):
    text = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    return dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("reason", headings("reasons.md"))
def test_a_reason_looks_as_it_is_shown(reason, texts):
    shown = " ".join(line.removeprefix("> ") for line in sections("reasons.md")[reason].splitlines() if line[:1] == ">")
    assert shown, "no words of its message"
    # Messages are put together of parts, such as what failed and what it said.
    for clause in re.split(r"[:;] ", shown):
        assert re.search("[^\n]*?".join(map(re.escape, clause.split("…"))), texts), clause


@pytest.mark.parametrize("page", ["reasons.md", "findings.md"])
def test_headings_are_in_order_and_stand_once(page):
    found = headings(page)
    assert found == sorted(set(found))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    prose = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for link, _, anchor in re.findall(r"\]\(([^)#]*)(#([^)]*))?\)", prose):
        if "://" not in link:
            there = page.parent / link if link else page
            assert there.exists(), link
            assert not anchor or anchor in anchors(there), f"{link}#{anchor}"


def anchors(page):
    """As GitHub makes them of headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in found}


def test_what_is_generated_is_committed():
    generated = runpy.run_path(str(ROOT / "tools" / "generate.py"))["generated"]()
    stale = [str(path) for path, content in generated.items() if (ROOT / path).read_text(encoding="utf-8") != content]
    assert stale == [], "run `make generate`"


def test_every_dependency_says_why():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text(encoding="utf-8").lower()
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(item for name, items in extras.items() if name != "dev" for item in items)]
    names = {re.split(r"[\[<>=; ]", item)[0] for item in wanted} - {"paritygate"}
    assert [name for name in sorted(names) if name.lower() not in page] == []


def test_locks_name_no_index():
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text, lock.name
        assert "--hash=sha256:" in text
        assert "-url" not in text


def test_the_server_is_installed_without_training_frameworks():
    lock = (ROOT / "requirements" / "server.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    assert not names & {"torch", "scikit-learn", "lightgbm", "xgboost-cpu", "pandas", "onnx"}


def test_the_shortest_manifest_of_the_readme_is_one():
    from paritygate.api.manifest import parse_manifest

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (manifest,) = re.findall(r"```yaml\n(apiVersion.*?)```", text, re.DOTALL)
    assert parse_manifest(manifest, "README.md").metadata.name == "churn"
