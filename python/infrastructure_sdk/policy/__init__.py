"""Policies: Python that decides about sessions, in this process, in a C++ program and in a sandbox.

A policy is pure: it reads no clock (`request.now` is the time), draws nothing at random and does no I/O, so that the
same request always has the same answer and can be asked again in a replay.
"""

from typing import TYPE_CHECKING, Any

from infrastructure_sdk._core import (
    AdmitDecision,
    AdmitRequest,
    BudgetRequest,
    IdleRequest,
    InterruptionRequest,
    IsolationRequest,
    PlaceCandidate,
    PlaceDecision,
    PlaceRequest,
    PolicySession,
    PolicyUsage,
    ScheduleRequest,
    SessionDecision,
    SizeDecision,
    SizeRequest,
    check_decision,
    policy_decision_from_json,
    policy_request_from_json,
    policy_schema_version,
)
from infrastructure_sdk.policy.definition import POINTS, Policy, PolicyDefinition, PolicyIdentity, define, policy
from infrastructure_sdk.policy.helpers import (
    admit,
    deny,
    disconnect,
    is_between,
    is_weekend,
    keep,
    local_time,
    place,
    resize,
    seconds_until,
    standard,
    suspend,
    terminate,
)
from infrastructure_sdk.policy.linter import Finding, lint_file, lint_source
from infrastructure_sdk.policy.loader import PolicyFile, dry_run, load_entry_point, load_file, load_source
from infrastructure_sdk.policy.samples import sample_request

if TYPE_CHECKING:
    from infrastructure_sdk.policy.runner import PolicyAnswer as PolicyAnswer
    from infrastructure_sdk.policy.runner import PolicyRunner as PolicyRunner

__all__ = [
    "POINTS",
    "AdmitDecision",
    "AdmitRequest",
    "BudgetRequest",
    "Finding",
    "IdleRequest",
    "InterruptionRequest",
    "IsolationRequest",
    "PlaceCandidate",
    "PlaceDecision",
    "PlaceRequest",
    "Policy",
    "PolicyDefinition",
    "PolicyFile",
    "PolicyIdentity",
    "PolicySession",
    "PolicyUsage",
    "ScheduleRequest",
    "SessionDecision",
    "SizeDecision",
    "SizeRequest",
    "admit",
    "check_decision",
    "define",
    "deny",
    "disconnect",
    "dry_run",
    "is_between",
    "is_weekend",
    "keep",
    "lint_file",
    "lint_source",
    "load_entry_point",
    "load_file",
    "load_source",
    "local_time",
    "place",
    "policy",
    "policy_decision_from_json",
    "policy_request_from_json",
    "policy_schema_version",
    "resize",
    "sample_request",
    "seconds_until",
    "standard",
    "suspend",
    "terminate",
]


def __getattr__(name: str) -> Any:
    # What asks policies is not there inside a policy's own process, nor in a C++ program; so `import *` leaves it out.
    if name in ("PolicyAnswer", "PolicyRunner"):
        from infrastructure_sdk.policy import runner

        return getattr(runner, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
