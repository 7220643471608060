"""Reports as documents: each valid by its published schema or grammar, whatever the texts in it are."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.async_api import async_playwright

import infrastructure_sdk as isdk
from infrastructure_sdk import _core
from infrastructure_sdk.reports import FORMATS, prometheus
from infrastructure_sdk.reports.compliance import view_of
from infrastructure_sdk.reports.controls import FRAMEWORKS, TITLES, Control, controls_of
from infrastructure_sdk.reports.explanation import explain, explain_check
from infrastructure_sdk.reports.oscal import oscal_id
from made_reports import STATUSES, made_report

SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"


def validator(name: str) -> Any:
    text = (SCHEMAS / name).read_text()
    # Python's expressions have no classes of Unicode properties.
    text = text.replace("(\\\\p{L}|_)", "[^\\\\W\\\\d]").replace("(\\\\p{L}|\\\\p{N}|[.\\\\-_])", "[\\\\w.\\\\-]")
    assert "\\\\p{" not in text
    schema = json.loads(text)
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.fixture(scope="module")
def sarif_schema() -> Any:
    return validator("sarif-2.1.0-rtm.5.json")


@pytest.fixture(scope="module")
def oscal_schema() -> Any:
    return validator("oscal_assessment-results_schema.json")


def test_sarif_is_valid_and_tells_every_status(sarif_schema: Any) -> None:
    signed = made_report()
    log = json.loads(signed.export("sarif"))
    sarif_schema.validate(log)
    (run,) = log["runs"]
    assert len(run["tool"]["driver"]["rules"]) == len(run["results"]) == 50
    kinds = {result["properties"]["status"]: (result["kind"], result["level"] == "none") for result in run["results"]}
    assert kinds == {
        "pass": ("pass", True),
        "fail": ("fail", False),
        "waived": ("fail", False),
        "unknown": ("open", True),
        "not_applicable": ("notApplicable", True),
    }
    for result in run["results"]:
        assert ("suppressions" in result) == (result["properties"]["status"] == "waived")
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_oscal_is_valid_and_the_same_twice(oscal_schema: Any) -> None:
    signed = made_report()
    text = signed.export("oscal")
    assert text == made_report().export("oscal")
    assert text != made_report(session="s-b").export("oscal")
    document = json.loads(text)
    oscal_schema.validate(document)
    (result,) = document["assessment-results"]["results"]
    assert len(result["observations"]) == 50
    states = {finding["title"].split()[0]: finding["target"]["status"] for finding in result["findings"]}
    for state in view_of(signed.report, "nist-800-53").controls:
        if state.status == "not_applicable":
            assert state.control.id not in states
            continue
        found = states[state.control.id]
        assert found["state"] == ("satisfied" if state.status == "pass" else "not-satisfied")
        assert (found.get("reason") == "other") == (state.status == "unknown")
    observed = {observation["uuid"] for observation in result["observations"]}
    risks = {risk["uuid"] for risk in result["risks"]}
    for finding in result["findings"]:
        assert {item["observation-uuid"] for item in finding["related-observations"]} <= observed
        assert {item["risk-uuid"] for item in finding.get("related-risks", [])} <= risks
    assert {risk["status"] for risk in result["risks"]} == {"open", "deviation-approved"}


def test_every_control_is_in_the_published_catalogue() -> None:
    published = json.loads((SCHEMAS / "nist_800_53_rev5_titles.json").read_text())
    named = {c for check in _core.checks() for c in controls_of(check["controls"])}
    for control in named:
        assert control.title, control
        if control.framework == "nist-800-53":
            assert published[control.id] == control.title
    for framework, titles in TITLES.items():
        assert set(titles) == {control.id for control in named if control.framework == framework}
    for check in _core.checks():
        assert any(control.framework == "nist-800-53" for control in controls_of(check["controls"])), check["id"]


def test_a_control_is_worth_its_worst_check() -> None:
    order = ("fail", "unknown", "waived", "pass", "not_applicable")
    report = made_report().report
    for framework in FRAMEWORKS:
        view = view_of(report, framework)
        assert view.controls and sum(view.counts().values()) == len(view.controls)
        for state in view.controls:
            assert state.status == min((check.status for check in state.checks), key=order.index)
            assert all(state.control in controls_of(check.controls) for check in state.checks)
    ids = [state.control.id for state in view_of(report, "nist-800-53").controls]
    assert ids.index("SC-4") < ids.index("SC-28") < ids.index("SC-39") < ids.index("SC-39(1)")
    with pytest.raises(isdk.ValidationError) as caught:
        view_of(report, "iso")
    assert caught.value.context["field"] == "framework"


def test_junit_counts_what_it_holds() -> None:
    root = ElementTree.fromstring(made_report().export("junit"))
    cases = root.findall("testsuite/testcase")
    assert len(cases) == 50
    for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(root.attrib[count]) == len(root.findall(f"testsuite/testcase/{tag}")) > 0
    assert int(root.attrib["tests"]) == 50


def test_a_policy_report_has_the_words_of_its_kind() -> None:
    report = json.loads(made_report().export("policyreport"))
    assert (report["apiVersion"], report["kind"]) == ("wgpolicyk8s.io/v1alpha2", "PolicyReport")
    results = [result["result"] for result in report["results"]]
    assert report["summary"] == {word: results.count(word) for word in ("pass", "fail", "warn", "error", "skip")}
    assert re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", report["metadata"]["name"])
    for result in report["results"]:
        assert result["severity"] in ("critical", "high", "medium", "low", "info")
        assert all(isinstance(value, str) for value in result["properties"].values())


def test_prometheus_gauges_are_of_the_current_state() -> None:
    signed = made_report(session='s-"a"\\\n')
    text = prometheus.document(signed, now=1795780860.0)
    sample = re.compile(r'(\w+)\{((?:\w+="(?:[^"\\\n]|\\["\\n])*",?)*)\} (\S+)')
    values: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = sample.fullmatch(line)
            assert match, line
            values.setdefault(match[1], {})[match[2]] = float(match[3])
    states = list(values["isolation_check_state"].values())
    assert (states.count(0), states.count(1), states.count(2)) == (10, 20, 10)
    assert len(values["isolation_check_waived"]) == 10
    assert list(values["isolation_score_upper"].values()) == [10.0]
    assert all(age >= 0 for age in values["isolation_evidence_age_seconds"].values())
    assert sum(values["isolation_verdict"].values()) == 1


class Page(HTMLParser):
    """Counts what a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_orders_findings_and_holds_nothing_foreign() -> None:
    text = made_report().export("html")
    page = Page(text)
    assert page.tags["details"] == 50
    assert not {"script", "img", "link", "iframe", "form", "base", "object"} & set(page.tags)
    assert not {"src", "href", "onclick", "onload", "action"} & page.attributes
    headings = re.findall("<h3>([^<]+) <small>", text)
    assert headings == ["Failed", "Not seen", "Waived", "Passed", "Not applicable"]
    assert "it does not show that the collector told the truth" in page.words


hostile = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        ["</pre><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "]]>&\x00\x1b[31m", "\ud800", "' \" --"]
    ),
)


@settings(max_examples=15, deadline=None)
@given(hostile, hostile)
def test_no_text_breaks_a_document(sarif_schema: Any, oscal_schema: Any, reason: str, excerpt: str) -> None:
    signed = made_report(reason or "-", excerpt)
    plain = Page(made_report().export("html"))
    texts = {name: signed.export(name) for name in FORMATS}
    assert Page(texts["html"]).tags == plain.tags
    assert Page(texts["html"]).attributes == plain.attributes
    ElementTree.fromstring(texts["junit"].encode("utf-8", "replace"))
    sarif_schema.validate(json.loads(texts["sarif"]))
    oscal_schema.validate(json.loads(texts["oscal"]))
    json.loads(texts["policyreport"])


def test_an_unknown_format_names_the_known() -> None:
    with pytest.raises(isdk.ValidationError) as caught:
        made_report().export("pdf")
    assert caught.value.context == {"field": "format", "value": "pdf", "allowed": ", ".join(FORMATS)}


def test_explanations_tell_status_fix_and_evidence() -> None:
    report = made_report().report
    for status in STATUSES:
        finding = next(f for f in report.findings if f.status == status)
        text = str(explain(finding, report))
        assert finding.fix in text and finding.meaning in text and finding.reason in text
        assert ("Accepted by the owner" in text) == (status == "waived")
        assert (finding.evidence[0].excerpt in text) if finding.evidence else status == "unknown"
    about = explain_check("MEM-01")
    assert "a cluster's VM it would look at: exec:/proc/Q/ksm_stat" in str(about)
    assert about.status == "" and "E3" in str(about)
    with pytest.raises(isdk.NotFoundError):
        explain_check("MEM-99")


def test_controls_are_read_from_the_catalogue_s_text() -> None:
    found = controls_of("SC-39, AC-6; CIS 5.2.2-5.2.4")
    assert [str(c) for c in found if c.framework == "cis"] == ["CIS 5.2.2", "CIS 5.2.3", "CIS 5.2.4"]
    assert Control("soc2", "CC6.1") in found and Control("pci", "A1.1.1") in found
    assert oscal_id("SC-7(21)") == "sc-7.21"


async def test_the_page_can_be_read_in_a_browser(tmp_path: Path) -> None:
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert browser_path, "chromium is missing; ./dev installs it"
    place = tmp_path / "report.html"
    place.write_text(made_report(reason="<b>bold</b> & plain", excerpt="<script>x</script>").export("html"))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=browser_path, headless=True, args=["--no-sandbox", "--no-proxy-server"]
        )
        page = await browser.new_page(viewport={"width": 900, "height": 1200})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: complaints.append(request.url) if request.url[:5] != "file:" else None)
        await page.goto(place.as_uri())
        assert "Not isolated" in await page.inner_text("header")
        first = page.locator("details.finding").first
        assert not await first.locator(".evidence").first.is_visible()
        await first.locator("summary").click()
        assert await first.locator(".evidence").first.is_visible()
        assert "<script>x</script>" in await first.locator("pre").first.inner_text()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await browser.close()
    assert not complaints
