"""Warm pools: booted, paused virtual machines of a template that nobody has used yet."""

from __future__ import annotations

import builtins
import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infrastructure_sdk._bridge import Timeout
from infrastructure_sdk.exceptions import ValidationError

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK

__all__ = ["PoolManager", "WarmPool"]


@dataclass(frozen=True)
class WarmPool:
    """A pool as it was when it was looked at.

    Attributes
    ----------
    wanted
        Ready units that it works towards now: what its schedule says, or what a refill asked for.
    ready, booting, discarding
        Units that wait for a claim, that are being made, that are being removed.
    claimed
        Sessions that took a unit of it and have not ended.
    warm_starts, cold_starts
        Sessions of its template that got a unit and that got none, since the installation was opened.
    drained
        Nothing is kept ready until the next refill.
    problem
        Why units are missing; empty when nothing is wrong.
    document
        Everything: also min, max, max_age, schedule, retry_at and the units.
    """

    name: str
    template: str
    wanted: int
    ready: int
    booting: int
    discarding: int
    claimed: int
    warm_starts: int
    cold_starts: int
    drained: bool
    problem: str
    document: Mapping[str, Any]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> WarmPool:
        """From the native core's document."""
        fields = (name for name in cls.__dataclass_fields__ if name != "document")
        return cls(**{name: document[name] for name in fields}, document=document)

    def to_dict(self) -> dict[str, Any]:
        """The whole document."""
        return dict(self.document)

    def __repr__(self) -> str:
        more = f", {self.booting} booting" if self.booting else ""
        return f"<WarmPool {self.name}: {self.ready} of {self.wanted} ready{more}, {self.claimed} claimed>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(getattr(self, name)))}</td></tr>"
            for name in self.__dataclass_fields__
            if name not in ("name", "document")
        )
        return f"<div><b>{html.escape(self.name)}</b><table>{rows}</table></div>"


class PoolManager:
    """The warm pools of ``session.pools_file``.

    A session whose request fits a ready unit takes it: it is unpaused, given a new hostname, machine-id, SSH host key
    and random seed, its clock is set, and it is the session's, many times faster than a boot. When no unit is there,
    or it turns out to be bad, a VM is started instead.

    Examples
    --------
    ::

        await sdk.pools.refill("desks", 8, wait=True)    # before a class begins
        print(await sdk.pools.list())
    """

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    async def list(self) -> list[WarmPool]:
        """Every pool, in the order of the document."""
        found = await self._sdk._call(lambda native: native.pools)
        return [WarmPool.from_document(item) for item in found]

    async def get(self, name: str) -> WarmPool:
        """One pool.

        Raises
        ------
        NotFoundError
            If there is no such pool; the message names those that there are.
        """
        return WarmPool.from_document(await self._sdk._call(lambda native: native.pool, name))

    async def drain(self, name: str, *, wait: bool = True, timeout: Timeout = "2m") -> WarmPool:
        """Keep nothing ready any more, also after a restart, until `refill`; sessions that have a unit keep it.

        Parameters
        ----------
        wait
            Until the last unit is gone.
        timeout
            Of the wait.

        Raises
        ------
        NotFoundError
            If there is no such pool.
        OperationTimeoutError
            If the time is up; the pool goes on draining.
        """
        found = await self._sdk._call(lambda native: native.drain_pool, name)
        return await self.wait(name, timeout=timeout) if wait else WarmPool.from_document(found)

    async def refill(
        self, name: str, units: int | None = None, *, wait: bool = False, timeout: Timeout = "10m"
    ) -> WarmPool:
        """End a drain, forget the pause after a failed boot, and keep at least so many units ready.

        Parameters
        ----------
        units
            At least so many, at most the pool's max, until the next refill or drain; None = what its schedule says.
        wait
            Until they are ready.
        timeout
            Of the wait.

        Raises
        ------
        NotFoundError
            If there is no such pool.
        ValidationError
            If `units` is above the pool's max.
        OperationTimeoutError
            If the time is up; the message says why units are missing. The pool goes on.
        """
        if units is not None and (builtins.type(units) is not int or units < 0):
            raise ValidationError(
                f"units: {units!r:.50} is not allowed; a whole number from 0 on",
                context={"field": "units", "value": f"{units!r:.50}", "allowed": "a whole number from 0 on"},
            )
        found = await self._sdk._call(lambda native: native.refill_pool, name, units)
        return await self.wait(name, timeout=timeout) if wait else WarmPool.from_document(found)

    async def wait(self, name: str, *, timeout: Timeout = "10m") -> WarmPool:
        """Wait until as many units are ready as wanted and none is booting or being removed.

        Raises
        ------
        NotFoundError
            If there is no such pool.
        OperationTimeoutError
            If the time is up; the message says why units are missing.
        """
        return WarmPool.from_document(await self._sdk._call(lambda native: native.wait_pool, name, timeout=timeout))
