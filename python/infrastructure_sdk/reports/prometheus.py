"""Prometheus gauges of the state that a report tells, in the text format.

A check's state is 0 pass, 1 fail, 2 unknown; a waived failure is 1 and marked by a gauge of its own; a check that does
not apply has none. Source: prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infrastructure_sdk.reports.signed import SignedReport

STATES = {"pass": 0, "fail": 1, "waived": 1, "unknown": 2}
VERDICTS = ("isolated", "degraded", "unproven", "not_isolated")


def document(signed: SignedReport, now: float | None = None) -> str:
    """The report as gauges.

    Parameters
    ----------
    now
        Seconds since 1970 that ages are told for. Default: the clock.
    """
    report, session = signed.report, signed.session_id
    moment = time.time() if now is None else now
    judged = [finding for finding in report.findings if finding.status in STATES]
    collected: dict[str, float] = {}
    for finding in report.findings:
        for item in finding.evidence:
            at = _seconds(item.collected_at)
            collected[finding.layer] = min(collected.get(finding.layer, at), at)
    lines: list[str] = []

    def gauge(name: str, about: str, samples: Iterable[tuple[dict[str, str], float]]) -> None:
        lines.extend((f"# HELP {name} {about}", f"# TYPE {name} gauge"))
        lines.extend(f"{name}{_labels(session=session, **labels)} {value:.12g}" for labels, value in samples)

    gauge(
        "isolation_check_state",
        "0 pass, 1 fail, 2 unknown.",
        (({"check": f.check_id, "layer": f.layer, "severity": f.severity}, STATES[f.status]) for f in judged),
    )
    gauge(
        "isolation_check_waived",
        "1 where a signed waiver accepts the failure.",
        (({"check": f.check_id}, 1) for f in judged if f.status == "waived"),
    )
    gauge("isolation_score_lower", "Of 100, what is unknown counted as failed.", [({}, report.lower)])
    gauge("isolation_score_upper", "Of 100, what is unknown counted as passed.", [({}, report.upper)])
    gauge("isolation_coverage_ratio", "Share of the weight that was decided.", [({}, report.coverage)])
    gauge("isolation_confidence_ratio", "Weight of the evidence behind the passes.", [({}, report.confidence)])
    gauge(
        "isolation_verdict",
        "1 for the verdict of the report.",
        (({"verdict": verdict}, verdict == report.verdict) for verdict in VERDICTS),
    )
    gauge(
        "isolation_evidence_age_seconds",
        "Of a layer's oldest evidence.",
        (({"layer": layer}, max(0.0, moment - at)) for layer, at in collected.items()),
    )
    gauge("isolation_report_timestamp_seconds", "When the report was made.", [({}, _seconds(report.created_at))])
    gauge("isolation_report_sequence", "The report's number among those of its session.", [({}, signed.sequence)])
    return "\n".join(lines) + "\n"


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment[:19] + "+00:00").timestamp() + int(moment[20:29] or 0) / 1e9


def _labels(**labels: str) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in sorted(labels.items())) + "}"
