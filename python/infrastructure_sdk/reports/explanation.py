"""What a finding means, in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infrastructure_sdk import _core
from infrastructure_sdk.exceptions import NotFoundError
from infrastructure_sdk.isolation import Finding, IsolationReport
from infrastructure_sdk.reports.controls import controls_of

__all__ = ["FindingExplanation", "explain", "explain_check"]

# What one failure leaves of its layer's 100 points: the score's weights.
_LEAVES = {"critical": 10, "high": 50, "medium": 80, "low": 95}
_STATUSES = {
    "pass": "It passed.",
    "fail": "It failed.",
    "unknown": "It could not be seen; that counts as a failure in the lower score and never as a pass.",
    "waived": "It failed, and a signed waiver accepts that for a time; the score counts it all the same.",
    "not_applicable": "It does not apply here; that too rests on evidence.",
}
_FLOORS = {
    "E1": "what was declared",
    "E2": "what another part reports",
    "E3": "state read from the kernel or the hypervisor",
    "E4": "behaviour seen from both sides",
}


@dataclass(frozen=True)
class FindingExplanation:
    """A finding in sentences; `str` gives the text.

    `status` is empty when only the check was asked for.
    """

    check_id: str
    title: str
    status: str
    sentences: tuple[str, ...]
    evidence: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{self.check_id}  {self.title}" + (f"  [{self.status}]" if self.status else "")
        lines = [head, *(f"  {text}" for text in self.sentences)]
        if self.evidence:
            lines += ["  Evidence:", *(f"    {text}" for text in self.evidence)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "check_id": self.check_id,
            "title": self.title,
            "status": self.status,
            "sentences": list(self.sentences),
            "evidence": list(self.evidence),
        }


def _about(meaning: str, severity: str, layer: str, fix: str, controls: str) -> list[str]:
    return [
        f"A failure would mean: {meaning}",
        f"One {severity} failure leaves at most {_LEAVES[severity]} of 100 for the {layer} layer.",
        f"To mend it: {fix}.",
        f"Controls: {', '.join(str(control) for control in controls_of(controls))}.",
    ]


def explain(finding: Finding, report: IsolationReport | None = None) -> FindingExplanation:
    """A finding; with its report also who accepted it."""
    sentences = [_STATUSES[finding.status], f"What was seen: {finding.reason}"]
    for waiver in report.document["waivers"] if report else ():
        if finding.status == "waived" and waiver["check_id"] == finding.check_id:
            sentences.append(f"Accepted by {waiver['approved_by']} until {waiver['expires_at']}: {waiver['reason']}")
    sentences += _about(finding.meaning, finding.severity, finding.layer, finding.fix, finding.controls)
    evidence = tuple(
        f"{item.locator} ({item.source}, from the {item.vantage}, {item.strength}, {item.collected_at[:19]}Z,"
        f" sha256 {item.sha256[:16]}...): {item.excerpt}"
        for item in finding.evidence
    )
    return FindingExplanation(finding.check_id, finding.title, finding.status, tuple(sentences), evidence)


def explain_check(check_id: str) -> FindingExplanation:
    """What a check is about.

    Raises
    ------
    NotFoundError
        If there is no such check.
    """
    for check in _core.checks():
        if check["id"] == check_id:
            sentences = [
                *_about(check["meaning"], check["severity"], check["layer"], check["fix"], check["controls"]),
                f"A pass needs {_FLOORS[check['floor']]} ({check['floor']}) or better.",
                f"Of a local VM it looks at: {', '.join(check['facts'])}.",
                f"Of a cluster's VM it would look at: {', '.join(check['kubernetes_facts'])}. This build cannot look"
                " there, so it is unknown there.",
            ]
            return FindingExplanation(check_id, check["title"], "", tuple(sentences), ())
    raise NotFoundError(f"there is no check '{check_id}'", context={"field": "finding", "value": check_id})
