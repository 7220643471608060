"""SARIF 2.1.0: a rule for each check, a result for each finding.

Source: docs.oasis-open.org/sarif/sarif/v2.1.0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from infrastructure_sdk import _core
from infrastructure_sdk.reports.controls import controls_of

if TYPE_CHECKING:
    from infrastructure_sdk.reports.signed import SignedReport

KINDS = {"pass": "pass", "fail": "fail", "waived": "fail", "unknown": "open", "not_applicable": "notApplicable"}
LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
# What code scanning services sort by, on the scale of CVSS.
SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0"}


def document(signed: SignedReport) -> str:
    """The report as a SARIF log with one run."""
    report = signed.report.document
    findings = report["findings"]
    run = {
        "tool": {
            "driver": {
                "name": "infrastructure-sdk isolation",
                "version": _core.version(),
                "rules": [_rule(finding) for finding in findings],
            }
        },
        "automationDetails": {"id": f"isolation/{quote(report['session_id'], safe='')}/{report['id']}"},
        "invocations": [{"executionSuccessful": True, "endTimeUtc": _milliseconds(report["created_at"])}],
        "results": [_result(report, finding, index) for index, finding in enumerate(findings)],
        "properties": {
            "verdict": report["verdict"],
            "score": [report["lower"], report["upper"]],
            "coverage": report["coverage"],
            "instanceEpoch": report["instance_epoch"],
            "sequence": signed.sequence,
            "envelopeSha256": signed.digest,
        },
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2) + "\n"


def _milliseconds(time: str) -> str:
    return time[:23] + "Z"


def _rule(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": finding["check_id"],
        "name": "".join(word.capitalize() for word in finding["root_cause"].split("-")),
        "shortDescription": {"text": finding["title"]},
        "fullDescription": {"text": finding["meaning"] or finding["title"]},
        "help": {"text": finding["fix"]},
        "defaultConfiguration": {"level": LEVELS[finding["severity"]]},
        "properties": {
            "tags": ["security", finding["layer"], *(str(control) for control in controls_of(finding["controls"]))],
            "security-severity": SCORES[finding["severity"]],
        },
    }


def _result(report: Mapping[str, Any], finding: Mapping[str, Any], index: int) -> dict[str, Any]:
    session, check = report["session_id"], finding["check_id"]
    fingerprint = hashlib.sha256("\0".join((check, session, finding["root_cause"])).encode()).hexdigest()
    kind = KINDS[finding["status"]]
    result: dict[str, Any] = {
        "ruleId": check,
        "ruleIndex": index,
        "kind": kind,
        "level": LEVELS[finding["severity"]] if kind == "fail" else "none",
        "message": {"text": finding["reason"]},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": f"session:/{quote(session, safe='')}/{check}"}},
                "logicalLocations": [{"name": session, "fullyQualifiedName": f"{session}/{check}", "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"isolationRootCause/v1": fingerprint},
        "properties": {
            "status": finding["status"],
            "severity": finding["severity"],
            "evidence": [
                {name: item[name] for name in ("source", "locator", "vantage", "strength", "collected_at", "sha256")}
                for item in finding["evidence"]
            ],
        },
    }
    if finding["status"] == "waived":
        result["suppressions"] = [
            {
                "kind": "external",
                "status": "accepted",
                "justification": f"{waiver['reason']} ({waiver['approved_by']}, until {waiver['expires_at']})",
            }
            for waiver in report["waivers"]
            if waiver["check_id"] == check
        ]
    return result
