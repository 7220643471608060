"""A Kubernetes PolicyReport (wgpolicyk8s.io/v1alpha2) as JSON, which kubectl takes as it takes YAML.

Source: github.com/kubernetes-sigs/wg-policy-prototypes. Unknown is `error`, waived is `warn`.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from infrastructure_sdk.reports.controls import controls_of

if TYPE_CHECKING:
    from infrastructure_sdk.isolation import Finding
    from infrastructure_sdk.reports.signed import SignedReport

RESULTS = {"pass": "pass", "fail": "fail", "unknown": "error", "waived": "warn", "not_applicable": "skip"}


def document(signed: SignedReport) -> str:
    """The report as a PolicyReport."""
    report = signed.report
    results = [RESULTS[finding.status] for finding in report.findings]
    # Names and labels have a narrow grammar; a session id may be any text.
    handle = hashlib.sha256(report.session_id.encode()).hexdigest()[:16]
    whole = {
        "apiVersion": "wgpolicyk8s.io/v1alpha2",
        "kind": "PolicyReport",
        "metadata": {
            "name": f"isolation-{handle}",
            "labels": {"app.kubernetes.io/managed-by": "infrastructure-sdk"},
            "annotations": {
                "infrastructure-sdk/session": report.session_id,
                "infrastructure-sdk/report": report.id,
                "infrastructure-sdk/verdict": report.verdict,
                "infrastructure-sdk/envelope-sha256": signed.digest,
            },
        },
        "summary": {result: results.count(result) for result in ("pass", "fail", "warn", "error", "skip")},
        "results": [_result(report.created_at, finding) for finding in report.findings],
    }
    return json.dumps(whole, indent=2) + "\n"


def _result(created_at: str, finding: Finding) -> dict[str, Any]:
    seconds = int(datetime.fromisoformat(created_at[:19] + "+00:00").timestamp())
    return {
        "source": "infrastructure-sdk",
        "policy": finding.check_id,
        "rule": finding.title,
        "category": finding.layer,
        "severity": finding.severity,
        "result": RESULTS[finding.status],
        "scored": finding.status != "not_applicable",
        "message": finding.reason,
        "timestamp": {"seconds": seconds, "nanos": int(created_at[20:29])},
        "properties": {
            "fix": finding.fix,
            "controls": ", ".join(str(control) for control in controls_of(finding.controls)),
            "evidence": ", ".join(item.sha256 for item in finding.evidence),
        },
    }
