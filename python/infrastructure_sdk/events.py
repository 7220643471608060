"""The ordered, durable log of what happened."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK

__all__ = ["EventLog"]


class EventLog:
    """Events of all sessions.

    Each has ``sequence``, ``time``, ``type``, ``subject``, ``execution_id``, ``correlation_id`` and ``data``.
    """

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    async def list(
        self, *, after: int = 0, session_id: str | None = None, limit: int = 1000
    ) -> builtins.list[Mapping[str, Any]]:
        """Events with sequence numbers above `after`, at most `limit`, in order."""
        found: builtins.list[Mapping[str, Any]] = await self._sdk._call(
            lambda native: native.events, session_id, after, limit
        )
        return found

    async def watch(self, *, after: int = 0, session_id: str | None = None) -> AsyncIterator[Mapping[str, Any]]:
        """Events above `after` as they happen, for ever; those that are there already come first.

        Nothing is missed and nothing comes twice: to go on later, also in another process, pass the last ``sequence``
        that was seen.

        Raises
        ------
        CancelledError
            When the SDK is closed.
        """
        while True:
            page = await self._sdk._call(lambda native: native.next_events, session_id, after, 1000)
            for event in page:
                after = event["sequence"]
                yield event
