"""JUnit XML: a suite for each layer, a case for each check.

Unknown is an error; not_applicable and waived are skipped, with their reason.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from infrastructure_sdk.isolation import Finding
    from infrastructure_sdk.reports.signed import SignedReport

# What XML 1.0 cannot carry.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(signed: SignedReport) -> str:
    """The report as JUnit XML."""
    report = signed.report
    name = f"isolation of {report.session_id}"
    root = ElementTree.Element("testsuites", {"name": _clean(name), **_counts(report.findings)})
    for layer in dict.fromkeys(finding.layer for finding in report.findings):
        findings = tuple(finding for finding in report.findings if finding.layer == layer)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            {"name": layer, "timestamp": report.created_at[:19], "hostname": "-", "time": "0", **_counts(findings)},
        )
        for finding in findings:
            _case(suite, finding)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)


def _counts(findings: tuple[Finding, ...]) -> dict[str, str]:
    def count(*statuses: str) -> str:
        return str(sum(finding.status in statuses for finding in findings))

    return {
        "tests": str(len(findings)),
        "failures": count("fail"),
        "errors": count("unknown"),
        "skipped": count("not_applicable", "waived"),
    }


def _case(suite: ElementTree.Element, finding: Finding) -> None:
    case = ElementTree.SubElement(
        suite,
        "testcase",
        {
            "classname": f"isolation.{finding.layer}",
            "name": _clean(f"{finding.check_id} {finding.title}"),
            "time": "0",
        },
    )
    reason = _clean(finding.reason)
    if finding.status == "fail":
        failure = ElementTree.SubElement(case, "failure", {"type": finding.severity, "message": reason})
        failure.text = _clean(f"{finding.meaning}\nTo mend it: {finding.fix}")
    elif finding.status == "unknown":
        ElementTree.SubElement(case, "error", {"type": "unknown", "message": reason})
    elif finding.status != "pass":
        ElementTree.SubElement(case, "skipped", {"message": f"{finding.status}: {reason}"})
