"""A report seen by the controls of a framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infrastructure_sdk.exceptions import ValidationError
from infrastructure_sdk.isolation import Finding, IsolationReport
from infrastructure_sdk.reports.controls import FRAMEWORKS, Control, controls_of

__all__ = ["ComplianceView", "ControlState", "view_of"]

# What a control is worth is the worst of its checks; what does not apply says nothing.
_WORST_FIRST = ("fail", "unknown", "waived", "pass", "not_applicable")


@dataclass(frozen=True)
class ControlState:
    """A control and the checks that speak to it.

    `status` is the worst of theirs: fail, unknown (could not look), waived, pass or not_applicable.
    """

    control: Control
    status: str
    checks: tuple[Finding, ...]


@dataclass(frozen=True)
class ComplianceView:
    """The controls of a framework that isolation checks speak to, ordered by id.

    A control is more than what is checked here: a pass is evidence for it, not its fulfilment.
    """

    framework: str
    title: str
    session_id: str
    report_id: str
    created_at: str
    controls: tuple[ControlState, ...]

    def counts(self) -> dict[str, int]:
        """How many controls have each status."""
        return {status: sum(c.status == status for c in self.controls) for status in _WORST_FIRST}

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "framework": self.framework,
            "title": self.title,
            "session_id": self.session_id,
            "report_id": self.report_id,
            "created_at": self.created_at,
            "counts": self.counts(),
            "controls": [
                {
                    "id": state.control.id,
                    "title": state.control.title,
                    "status": state.status,
                    "checks": [
                        {"check_id": check.check_id, "status": check.status, "reason": check.reason}
                        for check in state.checks
                    ],
                }
                for state in self.controls
            ],
        }


def _order(control: Control) -> list[tuple[int, int, str]]:
    """So that SC-4 stands before SC-28."""
    text = control.id.replace("(", ".").replace(")", "").replace("-", ".")
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in text.split(".")]


def view_of(report: IsolationReport, framework: str) -> ComplianceView:
    """The report by the controls of a framework: nist-800-53, cis, soc2 or pci.

    Raises
    ------
    ValidationError
        If there is no such framework.
    """
    if framework not in FRAMEWORKS:
        allowed = ", ".join(FRAMEWORKS)
        raise ValidationError(
            f"framework: '{framework}' is not known; allowed: {allowed}",
            context={"field": "framework", "value": framework, "allowed": allowed},
        )
    by_control: dict[Control, list[Finding]] = {}
    for finding in report.findings:
        for control in controls_of(finding.controls):
            if control.framework == framework:
                by_control.setdefault(control, []).append(finding)
    states = tuple(
        ControlState(control, min((c.status for c in checks), key=_WORST_FIRST.index), tuple(checks))
        for control, checks in sorted(by_control.items(), key=lambda item: _order(item[0]))
    )
    return ComplianceView(framework, FRAMEWORKS[framework], report.session_id, report.id, report.created_at, states)
