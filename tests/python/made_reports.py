"""Signed reports for tests of documents, made without a session."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from infrastructure_sdk import _core
from infrastructure_sdk.reports.signed import SignedReport

STATUSES = ("pass", "fail", "unknown", "not_applicable", "waived")
MOMENT = "2026-11-27T12:00:00.123456789Z"


def made_report(reason: str = "as it was seen", excerpt: str = "Seccomp: 2", session: str = "s-a") -> SignedReport:
    """Every check, their statuses in turn."""
    findings: list[dict[str, Any]] = []
    for number, check in enumerate(_core.checks()):
        status = STATUSES[number % len(STATUSES)]
        evidence = {
            "id": f"{check['id']}/x",
            "check_id": check["id"],
            "session_id": session,
            "instance_epoch": "boot/1/2/uuid",
            "source": "procfs",
            "locator": "/proc/1/status",
            "vantage": "node",
            "strength": check["floor"],
            "collected_at": MOMENT,
            "ttl": "30s",
            "sha256": hashlib.sha256(excerpt.encode("utf-8", "replace")).hexdigest(),
            "excerpt": excerpt,
        }
        wanted = ("layer", "severity", "title", "floor", "root_cause", "fix", "controls", "meaning")
        findings.append(
            {
                "check_id": check["id"],
                **{name: check[name] for name in wanted},
                "status": status,
                "reason": reason,
                "evidence": [] if status == "unknown" else [evidence],
            }
        )
    waivers = [
        {
            "id": f"w-{finding['check_id']}",
            "check_id": finding["check_id"],
            "session_id": "",
            "reason": reason,
            "approved_by": "the owner",
            "expires_at": "2027-01-31T00:00:00.000000000Z",
        }
        for finding in findings
        if finding["status"] == "waived"
    ]
    layers = ("compute", "network", "storage", "runtime", "memory")
    report = {
        "id": "11111111-2222-4333-8444-555555555555",
        "session_id": session,
        "vm_id": "vm-1",
        "instance_epoch": "boot/1/2/uuid",
        "created_at": MOMENT,
        "elapsed": "20ms",
        "verdict": "not_isolated",
        "lower": 4.5,
        "upper": 10.0,
        "coverage": 0.75,
        "confidence": 0.9,
        "layers": [{"layer": layer, "lower": 4.5, "upper": 10.0} for layer in layers],
        "findings": findings,
        "recommendations": [reason],
        "waivers": waivers,
    }
    payload = json.dumps({"predicate": {"report": report}}).encode()
    envelope = json.dumps({"payload": base64.b64encode(payload).decode()})
    digest = hashlib.sha256(envelope.encode()).hexdigest()
    return SignedReport(report["id"], session, 3, digest, "k" * 64, MOMENT, "not_isolated", 4.5, 10.0, envelope)
