"""Isolated, VM-backed user sessions: one virtual machine per session.

>>> import infrastructure_sdk as isdk
>>> isdk.SessionRequest(user_id="alice", ttl="2h").template
'linux-tiny'
"""

from infrastructure_sdk import automation, exceptions, images, logging
from infrastructure_sdk._core import version as _version
from infrastructure_sdk.commands import ExecResult, GuestProcess, OutputChunk
from infrastructure_sdk.config import InfraSDKConfig
from infrastructure_sdk.desktop import Screenshot
from infrastructure_sdk.exceptions import *  # noqa: F403
from infrastructure_sdk.explanation import Explanation
from infrastructure_sdk.files import FileEntry
from infrastructure_sdk.isolation import (
    Evidence,
    Finding,
    IsolationEngine,
    IsolationReport,
    OwnCheck,
    isolation_check,
)
from infrastructure_sdk.keys import KeyRing
from infrastructure_sdk.notebook import FleetTimeline, IdleExplorer, LiveSessions, Timeline
from infrastructure_sdk.policies import Policies
from infrastructure_sdk.pools import PoolManager, WarmPool
from infrastructure_sdk.sdk import InfrastructureSDK
from infrastructure_sdk.session import Session
from infrastructure_sdk.session_manager import UserSessionManager
from infrastructure_sdk.session_request import ResourceSpec, SessionRequest
from infrastructure_sdk.snapshot import ForkResult, Snapshot, SnapshotCatalogue
from infrastructure_sdk.vm import VMLifecycleController
from infrastructure_sdk.webhooks import Webhooks, verify_webhook

__version__ = _version()

__all__ = [
    "Evidence",
    "ExecResult",
    "Explanation",
    "FileEntry",
    "FleetTimeline",
    "Finding",
    "ForkResult",
    "GuestProcess",
    "IdleExplorer",
    "InfraSDKConfig",
    "InfrastructureSDK",
    "IsolationEngine",
    "IsolationReport",
    "KeyRing",
    "LiveSessions",
    "OutputChunk",
    "OwnCheck",
    "Policies",
    "PoolManager",
    "ResourceSpec",
    "Screenshot",
    "Session",
    "SessionRequest",
    "Timeline",
    "Snapshot",
    "SnapshotCatalogue",
    "UserSessionManager",
    "VMLifecycleController",
    "WarmPool",
    "Webhooks",
    "automation",
    "exceptions",
    "images",
    "isolation_check",
    "logging",
    "verify_webhook",
    *exceptions.__all__,
]
