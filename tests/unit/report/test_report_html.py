"""The page: what stands where, that it needs nothing from outside, and that strings cannot become markup."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

from paritygate.api.report import ParityReport, Severity, Verdict
from paritygate.report.html import MOST_MEASUREMENTS, render

VOID = {"meta", "br", "img", "hr", "input", "link"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    def text(self) -> str:
        parts = (child if isinstance(child, str) else child.text() for child in self.children)
        return re.sub(r"\s+", " ", " ".join(parts)).strip()

    def all(self, tag: str) -> list[Element]:
        found: list[Element] = []
        for child in self.children:
            if isinstance(child, Element):
                found += [child] if child.tag == tag else []
                found += child.all(tag)
        return found

    def section(self, identifier: str) -> Element:
        return next(s for s in self.all("section") if s.attributes["aria-labelledby"] == identifier)


class Tree(HTMLParser):
    """Builds elements and refuses tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("#document", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def page(report: ParityReport) -> Element:
    tree = Tree()
    tree.feed(render(report))
    tree.close()
    assert tree.open == [tree.root], "an element is not closed"
    return tree.root


def sections(root: Element) -> list[str | None]:
    return [section.attributes.get("aria-labelledby") for section in root.all("section")]


def test_every_report_is_well_formed_and_has_one_first_heading(any_report: ParityReport) -> None:
    root = page(any_report)
    assert len(root.all("h1")) == 1
    assert any_report.verdict in root.all("h1")[0].text()
    assert root.all("html")[0].attributes["lang"] == "en"
    assert any_report.verdict in root.all("title")[0].text()


def test_every_report_needs_nothing_from_outside_and_no_script(any_report: ParityReport) -> None:
    root = page(any_report)
    for tag in ("script", "link", "img", "iframe", "object", "form", "base"):
        assert root.all(tag) == [], tag
    assert "default-src 'none'" in (root.all("meta")[2].attributes["content"] or "")
    style = root.all("style")[0].text()
    assert "@import" not in style
    assert re.findall(r"url\((?!#)", style) == []


def test_no_element_has_an_event_handler_or_a_link(any_report: ParityReport) -> None:
    def walk(element: Element) -> None:
        for name in element.attributes:
            assert not name.startswith("on"), name
            assert name not in {"href", "src", "action"}, name
        for child in element.children:
            if isinstance(child, Element):
                walk(child)

    walk(page(any_report))


def test_markup_in_names_and_values_is_shown_as_text(hostile: ParityReport) -> None:
    root = page(hostile)
    assert "<script>alert('x')</script>" in root.section("verdict").text()
    assert "<img src=x" in root.section("worst").text()
    assert "<img src=x" in root.section("findings").text()


def test_every_table_has_a_caption_and_every_heading_a_scope(any_report: ParityReport) -> None:
    for table in page(any_report).all("table"):
        assert table.all("caption")
        for heading in table.all("th"):
            assert heading.attributes["scope"] in {"row", "col"}


def test_every_picture_says_in_words_what_it_shows(any_report: ParityReport) -> None:
    for picture in page(any_report).all("svg"):
        assert (
            picture.attributes.get("aria-label")
            or picture.attributes.get("aria-hidden") == "true"
            or picture.attributes.get("viewbox") == "0 0 26 14"
        )


def test_identifiers_are_unique(any_report: ParityReport) -> None:
    identifiers = re.findall(r'\bid="([^"]+)"', render(any_report))
    assert len(identifiers) == len(set(identifiers))


def test_the_same_report_gives_the_same_page(any_report: ParityReport) -> None:
    assert render(any_report) == render(any_report)


def test_a_passed_report_begins_with_sentence_and_smallest_damage(passed: ParityReport) -> None:
    first = page(passed).section("verdict").text()
    assert passed.sentence in first
    assert "Gate open" in first
    assert passed.smallest_damage is not None
    assert passed.smallest_damage in first


def test_a_passed_report_shows_no_failure_sections(passed: ParityReport) -> None:
    shown = sections(page(passed))
    assert not {"diagnosis", "worst", "missing"} & set(shown)
    assert {"checks", "judged", "not-judged", "environments", "digests"} <= set(shown)


def test_each_check_has_a_row_with_measured_limit_and_rows(passed: ParityReport) -> None:
    rows = page(passed).section("checks").all("tbody")[0].all("tr")
    assert len(rows) == len(passed.checks)
    decisions = next(row for row in rows if "Decisions" in row.text())
    cells = [cell.text() for cell in decisions.all("td")]
    assert "Passed" in cells[0]
    assert "reported only" in cells[0]
    assert cells[1].startswith("0% 0% to 0.15%")
    assert cells[2] == "1%"
    assert cells[4] == "2,000"


def test_a_failed_report_leads_with_what_went_wrong(failed: ParityReport) -> None:
    root = page(failed)
    assert sections(root)[:3] == ["verdict", "diagnosis", "worst"]
    story = root.section("diagnosis").text()
    assert failed.diagnosis is not None
    for part in (
        "Decisions",
        failed.diagnosis.where,
        failed.diagnosis.try_next,
        failed.diagnosis.reproduce,
        "Candidate.",
    ):
        assert part in story


def test_the_command_stands_alone_so_that_it_can_be_copied(failed: ParityReport) -> None:
    assert failed.diagnosis is not None
    assert [block.text() for block in page(failed).all("pre")] == [failed.diagnosis.reproduce]


def test_worst_rows_show_input_both_answers_error_and_margin(failed: ParityReport) -> None:
    rows = page(failed).section("worst").all("tbody")[0].all("tr")
    assert len(rows) == 5
    text = rows[0].text()
    for part in ("1,713", "label 1", "label 0", "0.996", "0.997", "plan prepaid", "tenure_months 3", "2 more columns"):
        assert part in text


def test_a_margin_that_no_row_has_takes_no_column(failed: ParityReport) -> None:
    assert "Source's margin" in page(failed).section("worst").text()
    content = failed.model_dump(mode="json", by_alias=True)
    for check in content["checks"]:
        for measurement in check["measurements"]:
            for row in measurement["worst"]:
                row["margin"] = None
    worst = page(ParityReport.model_validate_json(json.dumps(content))).section("worst")
    assert "Source's margin" not in worst.text()
    assert {len(row.all("td")) + len(row.all("th")) for row in worst.all("tr")} == {5}


def test_what_was_found_in_the_source_stands_beside_what_went_wrong(failed: ParityReport) -> None:
    story = page(failed).section("diagnosis").text()
    shown = [finding for finding in failed.findings if finding.rule in story]
    assert shown == [finding for finding in failed.findings if finding.severity is not Severity.INFO]
    assert shown


def test_the_failing_check_is_open_and_the_others_are_closed(failed: ParityReport) -> None:
    details = page(failed).section("measurements").all("details")
    assert [d.attributes["id"] for d in details if "open" in d.attributes] == ["check-decisions"]
    assert len(details) == len(failed.checks)


def test_differing_versions_are_marked_by_more_than_colour(passed: ParityReport) -> None:
    rows = page(passed).section("environments").all("tbody")[0].all("tr")
    marked = [row.all("th")[0].text() for row in rows if row.attributes.get("class") == "differs"]
    assert "numpy" in marked
    assert "scikit-learn" not in marked, "a package of one side alone is no difference"
    assert '.differs th::before { content: "≠' in render(passed)


def test_an_inconclusive_report_says_what_is_missing_and_how_many_rows(inconclusive: ParityReport) -> None:
    text = page(inconclusive).section("missing").text()
    assert "900 rows" in text
    assert "only 11 rows lie above the threshold" in text
    assert "0% to 2.12% lie on both sides of the limit 1%" in text


def test_a_report_without_checks_says_that_nothing_was_proved(empty: ParityReport) -> None:
    root = page(empty)
    assert empty.verdict is Verdict.INCONCLUSIVE
    assert "nothing was proved" in root.section("checks").text()
    assert "No row was compared" in render(empty)


def test_long_tables_are_cut_and_say_so(huge: ParityReport) -> None:
    text = page(huge).section("measurements")
    assert len(text.all("tbody")[0].all("tr")) == MOST_MEASUREMENTS
    assert "800 further measurements in report.json" in text.text()


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_a_word_a_symbol_and_a_consequence(passed: ParityReport, verdict: Verdict) -> None:
    first = page(passed.model_copy(update={"verdict": verdict})).section("verdict").text()
    assert verdict in first
    assert "Gate open" in first if verdict is Verdict.PASSED else "Gate closed" in first


def test_a_report_read_back_from_json_gives_the_same_page(
    passed: ParityReport, failed: ParityReport, hostile: ParityReport
) -> None:
    for report in (passed, failed, hostile):
        assert render(ParityReport.model_validate(report.to_dict())) == render(report)


def test_a_number_without_a_limit_is_reported_and_not_passed(limitless: ParityReport) -> None:
    root = page(limitless)
    row = next(r for r in root.section("checks").all("tbody")[0].all("tr") if "Metrics" in r.text())
    assert "Reported" in row.text()
    assert "Passed" not in row.text()
    details = next(d for d in root.all("details") if d.attributes.get("id") == "check-metrics")
    assert "Passed" not in details.text()
