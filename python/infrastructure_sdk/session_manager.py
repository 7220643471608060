"""Creates and finds sessions."""

from __future__ import annotations

import asyncio
import builtins
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from infrastructure_sdk import _bridge
from infrastructure_sdk import snapshot as _snapshot
from infrastructure_sdk._bridge import Timeout
from infrastructure_sdk.exceptions import InfrastructureSDKError
from infrastructure_sdk.session import Session
from infrastructure_sdk.session_request import SessionRequest, request_text
from infrastructure_sdk.snapshot import ForkResult, Snapshot

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK

__all__ = ["UserSessionManager"]


async def end_if_cancelled(creation: Coroutine[Any, Any, Session]) -> Session:
    """What `UserSessionManager.create` gives; cancelled meanwhile it ends what is recorded: nobody else knows of it."""
    creating = asyncio.ensure_future(creation)
    try:
        return await asyncio.shield(creating)
    except asyncio.CancelledError:
        with suppress(InfrastructureSDKError):
            await (await creating).terminate()
        raise


class UserSessionManager:
    """Creates and finds sessions."""

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    async def create(self, request: SessionRequest) -> Session:
        """Record a session and start to boot it; `Session.wait_until_active` tells when it is there.

        Raises
        ------
        ValidationError
            If a field is wrong; the message names it, its value and what is allowed.
        NotFoundError
            If there is no such template or its image was not built.
        AdmissionDeniedError
            If a limit does not let it in; the message names the limit, what is in use and by whom.
        """
        text = request_text(request)
        return Session(self._sdk, await self._sdk._call(lambda native: native.create, text))

    async def plan(self, request: SessionRequest) -> Mapping[str, Any]:
        """The document of the session that `create` would record, after the same checks; nothing is recorded.

        Its ids, addresses and times are examples: `create` chooses its own.

        Raises
        ------
        ValidationError, NotFoundError
            As `create` does.
        """
        text = request_text(request)
        found: Mapping[str, Any] = await self._sdk._call(lambda native: native.plan, text)
        return found

    async def can_create(self, request: SessionRequest) -> Mapping[str, Any] | None:
        """Whether admission would let the request in now; nothing is taken.

        Returns
        -------
        Mapping or None
            None if it would. Else why not: ``limit`` (scope, subject, resource, value), ``subject``, ``in_use``,
            ``requested``, ``holders`` (session ids, at most 10), ``holder_count``, ``help`` (what would make room) and
            a ``message`` for people; of money also ``currency``, ``spent`` (by sessions that have ended) and
            ``renews_at``. If a policy denies it, ``policy``, ``reason``, ``help`` and ``message`` alone.

        Raises
        ------
        ValidationError, NotFoundError
            As `create` does, for what is not a limit.
        """
        text = request_text(request)
        found: Mapping[str, Any] | None = await self._sdk._call(lambda native: native.can_create, text)
        return found

    async def recover(self, session_id: str) -> Session:
        """Begin to start a failed session again; see `Session.recover`. `Session.wait_until_active` tells when."""
        return Session(self._sdk, await self._sdk._call(lambda native: native.recover, session_id))

    async def snapshot(self, session_id: str, name: str, *, memory: bool = False, timeout: Timeout = "10m") -> Snapshot:
        """Copy a session's disk, or disk and memory; see `Session.snapshot`."""
        return await _snapshot.take(self._sdk, session_id, name, memory, timeout)

    async def fork(
        self,
        source: str,
        count: int = 1,
        *,
        memory: bool = False,
        user_id: str | None = None,
        ttl: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: Timeout = "10m",
    ) -> builtins.list[ForkResult]:
        """Make new sessions from a snapshot, or from a session as it is now.

        Each has ids, addresses and a reservation of its own and boots from a disk of its own. What the disk holds
        (accounts, host keys, a machine-id) is the source's. Those of a snapshot with memory do not boot: they go on
        from its instant, as other guests.

        Parameters
        ----------
        source
            The id of a snapshot or of a session.
        count
            How many, 1 to 100.
        memory
            Of a session: copy its memory too, see `Session.snapshot`. A snapshot has its own.
        user_id
            Who owns them; None = who owns the source. With memory it can be nobody else.
        ttl, tags
            As in a `SessionRequest`.

        Returns
        -------
        list of ForkResult
            One each. What a limit denies has its error there; the others go on.

        Raises
        ------
        NotFoundError, ValidationError, UnsupportedError, InvalidTransitionError
            If nothing can be forked at all.
        """
        return await _snapshot.fork(
            self._sdk, source, count, memory=memory, user_id=user_id, ttl=ttl, tags=tags, timeout=timeout
        )

    async def get(self, session_id: str) -> Session:
        """One session.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        return Session(self._sdk, await self._sdk._call(lambda native: native.get, session_id))

    async def list(
        self,
        *,
        user_id: str | None = None,
        tenant: str | None = None,
        states: Iterable[str] = (),
        tags: Mapping[str, str] | None = None,
        limit: int = 100,
        after: str = "",
    ) -> builtins.list[Session]:
        """Sessions by id, `limit` (1 to 1000) at most, ids above `after`; terminated ones only if asked for."""
        query = {
            "user_id": user_id,
            "tenant": tenant,
            "states": list(states),
            "tags": dict(tags or {}),
            "limit": limit,
            "after": after,
        }
        page = await self._sdk._call(lambda native: native.list, json.dumps(query))
        return [Session(self._sdk, document) for document in page["sessions"]]

    @asynccontextmanager
    async def ephemeral(self, request: SessionRequest, *, timeout: Timeout = "5m") -> AsyncIterator[Session]:
        """A session that is active inside the block and terminated at its end, however that comes."""
        _bridge.seconds(timeout)
        session = await end_if_cancelled(self.create(request))
        try:
            await session.wait_until_active(timeout=timeout)
            yield session
        finally:
            await session.terminate()

    @asynccontextmanager
    async def connect(self, session_id: str) -> AsyncIterator[Session]:
        """An existing session; the end of the block only lets go of it."""
        yield await self.get(session_id)
