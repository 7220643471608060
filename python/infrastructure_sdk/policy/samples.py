"""Requests to try a policy with."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from infrastructure_sdk._core import (
    AdmitRequest,
    BudgetRequest,
    IdleRequest,
    InterruptionRequest,
    IsolationRequest,
    PlaceCandidate,
    PlaceRequest,
    PolicySession,
    PolicyUsage,
    ScheduleRequest,
    SizeRequest,
)

__all__ = ["sample_request"]

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=timezone.utc)


def _session(exists: bool) -> PolicySession:
    return PolicySession(
        id="sample" if exists else "",
        user_id="alice",
        tenant="physics",
        template_name="linux-tiny",
        session_type="desktop",
        state="active" if exists else "requested",
        cpu_cores=2,
        memory_bytes=4 << 30,
        disk_bytes=20 << 30,
        tags={"project": "sample"},
        created_at=NOW - timedelta(hours=2),
        last_activity_at=NOW - timedelta(minutes=31) if exists else None,
        expires_at=NOW + timedelta(hours=6),
        price_per_hour=0.2,
    )


def sample_request(point: str) -> Any:
    """A plausible request of that point; always the same one."""
    made, new = _session(True), _session(False)
    requests: dict[str, Any] = {
        "admit": AdmitRequest(now=NOW, session=new, usage=PolicyUsage(sessions_of_user=1, sessions=12)),
        "place": PlaceRequest(
            now=NOW,
            session=new,
            candidates=[
                PlaceCandidate(name="a", free_cpu_cores=8, free_memory_bytes=32 << 30, price_per_hour=0.2),
                PlaceCandidate(name="b", free_cpu_cores=4, free_memory_bytes=16 << 30, spot=True),
            ],
        ),
        "size": SizeRequest(now=NOW, session=new),
        "idle": IdleRequest(now=NOW, session=made, quiet_for=1860, idle_timeout=1800),
        "schedule": ScheduleRequest(now=NOW, session=made, quiet_for=1860),
        "budget": BudgetRequest(
            now=NOW, session=made, spent_by_session=3, spent_by_user=45, limit_of_user=50, currency="EUR"
        ),
        "isolation": IsolationRequest(
            now=NOW, session=made, verdict="degraded", score_lower=60, score_upper=80, failed_checks=["host.swap"]
        ),
        "interruption": InterruptionRequest(
            now=NOW, session=made, kind="spot", deadline=NOW + timedelta(minutes=2), standard="suspend"
        ),
    }
    return requests[point]
