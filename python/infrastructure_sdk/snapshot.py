"""Snapshots: durable copies of sessions' disks and memory, and new sessions that begin from them."""

from __future__ import annotations

import builtins
import html
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infrastructure_sdk import _bridge
from infrastructure_sdk._bridge import Timeout
from infrastructure_sdk.exceptions import InfrastructureSDKError, ValidationError

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK
    from infrastructure_sdk.session import Session

__all__ = ["ForkResult", "Snapshot", "SnapshotCatalogue"]


class ForkResult:
    """What became of one fork: a session or an error, never both."""

    def __init__(self, session: Session | None, error: InfrastructureSDKError | None) -> None:
        self._session = session
        self._error = error

    @property
    def session(self) -> Session | None:
        """The new session; None if it was denied or failed."""
        return self._session

    @property
    def error(self) -> InfrastructureSDKError | None:
        """Why there is none; it names the limit if it was one."""
        return self._error

    def __repr__(self) -> str:
        return f"<ForkResult {self._session if self._error is None else repr(self._error)}>"


class Snapshot:
    """A copy of a session's disk, or of disk and memory. It depends on no file of the session or its VM."""

    def __init__(self, sdk: InfrastructureSDK, document: Mapping[str, Any]) -> None:
        self._sdk = sdk
        self._document: Mapping[str, Any] = document

    @property
    def id(self) -> str:
        """The snapshot's id, ``snap-...``."""
        return str(self._document["id"])

    @property
    def name(self) -> str:
        """Its name, for people; not unique."""
        return str(self._document["name"])

    @property
    def session_id(self) -> str:
        """Whose disk it was; that session may be gone."""
        return str(self._document["session_id"])

    @property
    def user_id(self) -> str:
        """Whose disk limit it counts for."""
        return str(self._document["user_id"])

    @property
    def state(self) -> str:
        """ "creating", "ready" or "deleting"."""
        return str(self._document["state"])

    @property
    def mode(self) -> str:
        """ "disk", or "memory": the memory of the same instant is in it too."""
        return str(self._document["mode"])

    @property
    def consistent(self) -> str:
        """ "frozen": the guest had flushed and held its file systems. "crash": as after a power cut. "memory": what its
        disk misses is in its memory."""
        return str(self._document["consistent"])

    @property
    def memory_size_bytes(self) -> int:
        """How long its memory file is; 0 without one."""
        return int(self._document["memory_size_bytes"])

    @property
    def size_bytes(self) -> int:
        """How long the disk's file is."""
        return int(self._document["size_bytes"])

    @property
    def sha256(self) -> str:
        """Of its file, lower-case hex."""
        return str(self._document["sha256"])

    @property
    def created_at(self) -> str:
        """When it was taken, RFC 3339."""
        return str(self._document["created_at"])

    def to_dict(self) -> dict[str, Any]:
        """Every field."""
        return dict(self._document)

    async def fork(
        self,
        count: int = 1,
        *,
        user_id: str | None = None,
        ttl: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[ForkResult]:
        """New sessions that begin from it; see `UserSessionManager.fork`."""
        return await self._sdk.sessions.fork(self.id, count, user_id=user_id, ttl=ttl, tags=tags)

    async def delete(self, *, timeout: Timeout = "5m") -> None:
        """Remove it; see `SnapshotCatalogue.delete`."""
        await self._sdk.snapshots.delete(self.id, timeout=timeout)

    def __repr__(self) -> str:
        return f"<Snapshot {self.id} {self.name!r} {self.state} of {self.session_id}>"

    def _repr_html_(self) -> str:
        shown = {
            "snapshot": self.id,
            "name": self.name,
            "session": self.session_id,
            "user": self.user_id,
            "state": self.state,
            "mode": self.mode,
            "consistent": self.consistent,
            "bytes": self.size_bytes,
            "created": self.created_at,
        }
        rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in shown.items())
        return f"<table>{rows}</table>"


async def take(sdk: InfrastructureSDK, session_id: str, name: str, memory: bool, timeout: Timeout) -> Snapshot:
    """Take a snapshot of a session."""
    mode = "memory" if memory else "disk"
    return Snapshot(sdk, await sdk._call(lambda native: native.snapshot, session_id, name, mode, timeout=timeout))


async def fork(
    sdk: InfrastructureSDK,
    source: str,
    count: int,
    *,
    memory: bool = False,
    user_id: str | None,
    ttl: str | None,
    tags: Mapping[str, str] | None,
    timeout: Timeout,
) -> list[ForkResult]:
    """Make sessions from a snapshot, or from a session."""
    from infrastructure_sdk.session import Session

    _bridge.seconds(timeout)
    request = {
        "source": source,
        "mode": "memory" if memory else "disk",
        "count": count,
        "user_id": user_id,
        "ttl": ttl,
        "tags": dict(tags or {}),
    }
    try:
        text = json.dumps(request)
    except (TypeError, ValueError) as error:
        why = f"fork: the request cannot be written as JSON: {error}"
        raise ValidationError(why, context={"field": "request", "value": repr(request)}) from error
    entries = await sdk._call(lambda native: native.fork, text, timeout=timeout)
    return [ForkResult(None if made is None else Session(sdk, made), error) for made, error in entries]


class SnapshotCatalogue:
    """The snapshots that there are. They outlive their sessions: how long they are kept is the user's choice."""

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    async def get(self, snapshot_id: str) -> Snapshot:
        """One snapshot.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        return Snapshot(self._sdk, await self._sdk._call(lambda native: native.get_snapshot, snapshot_id))

    async def list(self, *, session_id: str | None = None, user_id: str | None = None) -> builtins.list[Snapshot]:
        """Snapshots by id: all, one session's or one user's."""
        found = await self._sdk._call(lambda native: native.list_snapshots, session_id, user_id)
        return [Snapshot(self._sdk, document) for document in found]

    async def delete(self, snapshot_id: str, *, timeout: Timeout = "5m") -> None:
        """Remove a snapshot; done when its files are gone. Sessions that began from it keep their disks.

        Raises
        ------
        NotFoundError
            If there is none.
        ConflictError
            If it is being made, or a session that begins from it has no disk yet; the message names it.
        """
        await self._sdk._call(lambda native: native.delete_snapshot, snapshot_id, timeout=timeout)
