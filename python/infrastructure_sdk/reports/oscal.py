"""OSCAL assessment results: an observation for each check, a finding for each NIST SP 800-53 control.

The same report gives the same bytes: every UUID is made from the digest of its envelope. OSCAL has no word for what
could not be seen; it is not-satisfied, with the reason "other" and a remark. Source: pages.nist.gov/OSCAL.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from infrastructure_sdk import _core
from infrastructure_sdk.isolation import score_text
from infrastructure_sdk.reports.compliance import view_of

if TYPE_CHECKING:
    from infrastructure_sdk.reports.compliance import ControlState
    from infrastructure_sdk.reports.signed import SignedReport

NAMESPACE = uuid.UUID("6c0a6d0e-5a0f-5d0a-9a55-7d1f6a1f4b10")
PROPERTIES = "urn:infrastructure-sdk:oscal"


def oscal_id(control: str) -> str:
    """The catalogue's spelling of a control.

    >>> oscal_id("SC-7(21)")
    'sc-7.21'
    """
    return control.lower().replace("(", ".").replace(")", "")


def document(signed: SignedReport) -> str:
    """The report as an assessment-results document."""
    return json.dumps({"assessment-results": _Writer(signed).results()}, indent=2) + "\n"


class _Writer:
    def __init__(self, signed: SignedReport) -> None:
        self.signed = signed
        self.report = signed.report.document
        self.view = view_of(signed.report, "nist-800-53")

    def id(self, *parts: str) -> str:
        return str(uuid.uuid5(NAMESPACE, "/".join((self.signed.digest, *parts))))

    def results(self) -> dict[str, Any]:
        report = self.report
        controls = [{"control-id": oscal_id(state.control.id)} for state in self.view.controls]
        result: dict[str, Any] = {
            "uuid": self.id("result"),
            "title": f"Isolation of session {report['session_id']}",
            "description": f"Verdict {report['verdict']}, {score_text(report['lower'], report['upper'])} of 100.",
            "start": report["created_at"],
            "end": report["created_at"],
            "props": [
                self.property("verdict", report["verdict"]),
                self.property("score-lower", f"{report['lower']:.4f}"),
                self.property("score-upper", f"{report['upper']:.4f}"),
                self.property("envelope-sha256", self.signed.digest),
                self.property("sequence", str(self.signed.sequence)),
            ],
            "local-definitions": {"components": [self.component()]},
            "reviewed-controls": {"control-selections": [{"include-controls": controls}]},
            "observations": [self.observation(finding) for finding in report["findings"]],
            "findings": [self.finding(state) for state in self.view.controls if state.status != "not_applicable"],
        }
        risks = [self.risk(f) for f in report["findings"] if f["status"] in ("fail", "waived", "unknown")]
        if risks:
            result["risks"] = risks
        return {
            "uuid": self.id("assessment-results"),
            "metadata": {
                "title": f"Isolation report {report['id']}",
                "last-modified": report["created_at"],
                "version": str(self.signed.sequence),
                "oscal-version": "1.1.3",
                "props": [self.property("collector", f"infrastructure-sdk {_core.version()}")],
            },
            "import-ap": {"href": "urn:infrastructure-sdk:assessment-plan:isolation"},
            "results": [result],
        }

    @staticmethod
    def property(name: str, value: str) -> dict[str, str]:
        return {"name": name, "ns": PROPERTIES, "value": value.strip() or "-"}

    def component(self) -> dict[str, Any]:
        return {
            "uuid": self.id("component"),
            "type": "software",
            "title": f"virtual machine {self.report['vm_id'] or '-'}",
            "description": f"The virtual machine of session {self.report['session_id']}.",
            "props": [self.property("instance-epoch", self.report["instance_epoch"])],
            "status": {"state": "operational"},
        }

    def observation(self, finding: Mapping[str, Any]) -> dict[str, Any]:
        evidence = finding["evidence"]
        tested = any(item["strength"] == "E4" for item in evidence)
        found: dict[str, Any] = {
            "uuid": self.id("observation", finding["check_id"]),
            "title": f"{finding['check_id']} {finding['title']}",
            "description": finding["reason"],
            "props": [
                self.property("check", finding["check_id"]),
                self.property("status", finding["status"]),
                self.property("severity", finding["severity"]),
            ],
            "methods": ["TEST" if tested else "EXAMINE"],
            "subjects": [{"subject-uuid": self.id("component"), "type": "component"}],
            "collected": min((item["collected_at"] for item in evidence), default=self.report["created_at"]),
        }
        if evidence:
            found["expires"] = min(_expiry(item) for item in evidence)
            found["relevant-evidence"] = [
                {
                    "href": f"urn:sha256:{item['sha256']}",
                    "description": item["locator"] or item["id"],
                    "props": [
                        self.property("source", item["source"]),
                        self.property("vantage", item["vantage"]),
                        self.property("strength", item["strength"]),
                        self.property("sha256", item["sha256"]),
                    ],
                }
                for item in evidence
            ]
        return found

    def finding(self, state: ControlState) -> dict[str, Any]:
        satisfied = state.status == "pass"
        status: dict[str, str] = {"state": "satisfied" if satisfied else "not-satisfied"}
        if not satisfied:
            status["reason"] = "other" if state.status == "unknown" else "fail"
            status["remarks"] = {
                "unknown": "What this control asks for could not be seen.",
                "waived": "A failure was accepted for a time by a signed waiver.",
            }.get(state.status, "A check of this control failed.")
        found: dict[str, Any] = {
            "uuid": self.id("finding", state.control.id),
            "title": f"{state.control.id} {state.control.title}",
            "description": "; ".join(f"{check.check_id} {check.status}" for check in state.checks),
            "target": {"type": "objective-id", "target-id": f"{oscal_id(state.control.id)}_obj", "status": status},
            "related-observations": [
                {"observation-uuid": self.id("observation", check.check_id)} for check in state.checks
            ],
        }
        open_checks = [check for check in state.checks if check.status in ("fail", "waived", "unknown")]
        if open_checks:
            found["related-risks"] = [{"risk-uuid": self.id("risk", check.check_id)} for check in open_checks]
        return found

    def risk(self, finding: Mapping[str, Any]) -> dict[str, Any]:
        waivers = [w for w in self.report["waivers"] if w["check_id"] == finding["check_id"]]
        risk: dict[str, Any] = {
            "uuid": self.id("risk", finding["check_id"]),
            "title": f"{finding['check_id']} {finding['title']}",
            "description": finding["reason"],
            "statement": finding["meaning"] or finding["title"],
            "props": [self.property("severity", finding["severity"])],
            "status": "deviation-approved" if waivers else "open",
            "related-observations": [{"observation-uuid": self.id("observation", finding["check_id"])}],
        }
        if waivers:
            risk["deadline"] = min(waiver["expires_at"] for waiver in waivers)
        return risk


def _expiry(item: Mapping[str, Any]) -> str:
    collected = datetime.fromisoformat(item["collected_at"][:19] + "+00:00")
    end = collected + timedelta(seconds=_core.parse_duration(item["ttl"], "ttl"))
    return end.strftime("%Y-%m-%dT%H:%M:%SZ")
