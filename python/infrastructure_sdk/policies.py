"""Policies: who decides about sessions besides the limits and the clocks."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from infrastructure_sdk import _core

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK
    from infrastructure_sdk.simulation import PolicyInput, Result, WorkloadInput

__all__ = ["Policies"]


class Policies:
    """The policies that are loaded (section ``policy`` of the configuration), in the order in which they are asked.

    A policy is told about a session and answers what shall happen to it; the engine carries it out and writes an event
    for each decision (``policy.decided``), failure (``policy.failed``), answer of a shadow (``policy.shadowed``),
    decision that was not allowed (``policy.overruled``), canary that was taken back (``policy.rolled_back``) and policy
    that does not come back from a question (``policy.stuck``).
    """

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    async def list(self) -> list[Mapping[str, Any]]:
        """Each policy and what it did since it was loaded.

        Returns
        -------
        list
            Mappings with the identity (``name``, ``version``, ``author``, ``sha256``), ``source``, ``points``, ``mode``
            (enforce, shadow or canary), ``canary_tenants``, ``enabled``, ``rolled_back``, ``breaker`` (closed, open or
            half_open), the numbers ``asked``, ``decided``, ``shadowed``, ``overruled`` and ``failed``,
            ``last_failure`` and ``last_failure_at``, the guard's ``suspensions`` and ``came_back``, ``overdue``
            (questions that it has not come back from, though nobody waits any more) and, of an untrusted one, the
            ``missing_protections`` that this host does not give, each with its reason.
        """
        found: list[Mapping[str, Any]] = await self._sdk._call(lambda native: native.policies)
        return found

    async def status(self, name: str) -> Mapping[str, Any]:
        """One policy, as in :meth:`list`.

        Raises
        ------
        NotFoundError
            If there is no such policy.
        """
        found: Mapping[str, Any] = await self._sdk._call(lambda native: native.policy, name)
        return found

    async def replay(
        self,
        policy: PolicyInput,
        workload: WorkloadInput | None = None,
        *,
        seed: int = 1,
        options: Mapping[str, Any] | None = None,
        progress: Callable[[float], Any] | None = None,
    ) -> Result:
        """Try a policy on a virtual clock before it touches anyone.

        Parameters
        ----------
        policy
            Settings, a decorated function, a `Policy` class or a file; see :func:`infrastructure_sdk.simulation.run`.
        workload
            A fleet, a trace or an event log; None = this installation's own event log.
        seed, options, progress
            As in :func:`infrastructure_sdk.simulation.run`. It runs on a thread of its own.

        Raises
        ------
        ValidationError
            Naming the field, the value and what is allowed.
        """
        from infrastructure_sdk import simulation

        source = workload if workload is not None else await self._own_log()
        return await simulation.replay(policy, source, seed=seed, options=options, progress=progress)

    async def _own_log(self) -> builtins.list[Mapping[str, Any]]:
        events: builtins.list[Mapping[str, Any]] = []
        while page := await self._sdk.events.list(after=events[-1]["sequence"] if events else 0):
            events += page
        return events

    async def enable(self, name: str) -> Mapping[str, Any]:
        """Ask a policy again, also in later processes.

        Ends a rollback by its guard and closes its breaker.

        Raises
        ------
        NotFoundError
            If there is no such policy.
        """
        found: Mapping[str, Any] = await self._sdk._call(lambda native: native.policy_enable, name, True)
        return found

    async def disable(self, name: str) -> Mapping[str, Any]:
        """Ask a policy no more, also in later processes, until :meth:`enable`.

        Raises
        ------
        NotFoundError
            If there is no such policy.
        """
        found: Mapping[str, Any] = await self._sdk._call(lambda native: native.policy_enable, name, False)
        return found

    async def reload(self) -> builtins.list[Mapping[str, Any]]:
        """Read ``policy.policies_file`` and all policies anew.

        All are loaded and checked before one is replaced. The rest of the configuration stays as it is.

        Returns
        -------
        list
            As of :meth:`list`.

        Raises
        ------
        ValidationError, ConfigurationError, PolicyError
            If the document or a policy is wrong; then everything stays as it was.
        """
        found: builtins.list[Mapping[str, Any]] = await self._sdk._call(lambda native: native.policies_reload)
        return found

    @staticmethod
    def builtin() -> builtins.list[Mapping[str, Any]]:
        """The rules that need no code: ``name``, ``source``, ``description``, ``points`` and the JSON Schema of their
        ``settings``.

        Examples
        --------
        >>> [rule["name"] for rule in Policies.builtin()]
        ['business-hours', 'keep-tagged', 'budget-guard']
        """
        return _core.builtin_policies()
