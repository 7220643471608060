"""Where automation has its time from: the system, or a test."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]

_LONGEST_NAP = 60.0  # s: a clock that was set, or a host that slept, is noticed after so long


class Clock(Protocol):
    """Tells the time and waits for it."""

    def now(self) -> datetime:
        """The time, in UTC, with its zone."""
        ...

    async def sleep_until(self, moment: datetime) -> None:
        """Return when `moment` has come; at once if it has."""
        ...


class SystemClock:
    """The system's clock."""

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(timezone.utc)

    async def sleep_until(self, moment: datetime) -> None:
        """Return when `moment` has come, also after the clock was set or the host slept."""
        while (left := (moment - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(left, _LONGEST_NAP))


class ManualClock:
    """A clock for tests: it stands still until it is moved. For one event loop.

    Examples
    --------
    >>> clock = ManualClock(datetime(2026, 1, 1, tzinfo=timezone.utc))
    >>> clock.advance(90)
    >>> clock.now().isoformat()
    '2026-01-01T00:01:30+00:00'
    """

    def __init__(self, now: datetime) -> None:
        self._now = now.astimezone(timezone.utc)
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        """The time to which it was moved."""
        return self._now

    async def sleep_until(self, moment: datetime) -> None:
        """Return when the clock was moved to `moment` or beyond."""
        if moment <= self._now:
            return
        sleeper = (moment, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        self._changed.set()
        try:
            await sleeper[1]
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Move it on and wake who slept until then."""
        self._now += timedelta(seconds=seconds)
        for sleeper in [sleeper for sleeper in self._sleepers if sleeper[0] <= self._now]:
            self._sleepers.remove(sleeper)
            if not sleeper[1].done():
                sleeper[1].set_result(None)

    async def next_wake(self) -> datetime:
        """When the first sleeper wants to wake; waits until somebody sleeps."""
        while not self._sleepers:
            self._changed.clear()
            await self._changed.wait()
        return min(moment for moment, _ in self._sleepers)
