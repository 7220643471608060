"""Asks a policy the way the engine does: with budgets, in this process or in a sandbox."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from infrastructure_sdk import _bridge, _core
from infrastructure_sdk.exceptions import ValidationError
from infrastructure_sdk.policy.definition import PolicyIdentity
from infrastructure_sdk.policy.loader import read_policy

__all__ = ["PolicyAnswer", "PolicyRunner"]

TIME_BUDGET = _core.standard_time_budget
MEMORY_BUDGET = _core.standard_memory_budget
LOAD_BUDGET = 10.0


@dataclass(frozen=True)
class PolicyAnswer:
    """What became of one question.

    Attributes
    ----------
    outcome
        decided, failed (it raised), timed_out, invalid (no decision of that point, or out of bounds) or refused (it was
        not asked).
    decision
        The standard one unless decided.
    detail
        Of all but decided: why.
    took
        Seconds.
    state
        What it wants to be given the next time; empty = as before.
    """

    outcome: str
    decision: Any
    detail: str
    took: float
    state: str


class PolicyRunner:
    """One loaded policy. Made by `open`, used in one event loop; an async context manager.

    Examples
    --------
    >>> import asyncio
    >>> from infrastructure_sdk.policy import PolicyRunner, sample_request
    >>> source = '''
    ... from infrastructure_sdk.policy import policy, keep
    ... @policy("idle", name="patient")
    ... def patient(request):
    ...     return keep("always")
    ... '''
    >>> async def main():
    ...     async with await PolicyRunner.open(source=source) as runner:
    ...         return await runner.decide(sample_request("idle"))
    >>> asyncio.run(main()).decision.action
    'keep'
    """

    def __init__(self, runtime: _core.Runtime, host: _core.PolicyHost, time_budget: float) -> None:
        self._runtime = runtime
        self._host = host
        self._time_budget = time_budget

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        source: str | None = None,
        untrusted: bool = False,
        time_budget: float = TIME_BUDGET,
        memory_budget: int = MEMORY_BUDGET,
        lint: bool = True,
    ) -> PolicyRunner:
        """Load a policy and try it once at each of its points.

        Parameters
        ----------
        path, source
            A file or a text; one of them.
        untrusted
            In a process of its own, without files, network, threads and descriptors.
        time_budget
            Seconds for an answer.
        memory_budget
            Bytes of Python's memory that it may keep and use at once; untrusted: beyond what the interpreter needs.
        lint
            Refuse what the linter calls an error. An untrusted one is not linted: its process holds it.

        Raises
        ------
        PolicyError
            When it cannot be loaded or its trial fails.
        OperationTimeoutError
            When that takes longer than 10 s.
        UnsupportedError
            When this host has no sandbox.
        """
        if (path is None) == (source is None):
            raise ValidationError("give a path or a source, one of them", context={"field": "path"})
        if not time_budget > 0:
            raise ValidationError(
                f"time_budget must be above 0 seconds, not {time_budget}",
                context={"field": "time_budget", "value": str(time_budget), "allowed": "above 0"},
            )
        if memory_budget < 0:
            raise ValidationError(
                f"memory_budget must be 0 or more bytes, not {memory_budget}",
                context={"field": "memory_budget", "value": str(memory_budget), "allowed": "0 or more"},
            )
        text = source if source is not None else read_policy(os.fspath(path or ""))
        origin = os.fspath(path) if path is not None else "<policy>"
        runtime = _bridge.make_runtime()
        try:
            if untrusted:
                package = str(Path(__file__).parent.parent)
                arguments = (runtime, text, origin, memory_budget, sys.executable, package)
                host = await _open(runtime, _core.PolicyHost.open_process, arguments)
            else:
                host = await _open(runtime, _core.PolicyHost.open_python, (runtime, text, origin, memory_budget, lint))
        except BaseException:
            runtime.stop()
            raise
        return cls(runtime, host, time_budget)

    @property
    def identity(self) -> PolicyIdentity:
        """Name, version, author, hash."""
        return PolicyIdentity(*self._host.identity)

    @property
    def points(self) -> tuple[str, ...]:
        """Where it wants to be asked."""
        return self._host.points

    @property
    def sandbox(self) -> dict[str, Any]:
        """Of an untrusted one: `protections` in force, those `missing` with the reason, `pid` (0 = not running)."""
        return self._host.sandbox()

    async def decide(self, request: Any, state: str = "", *, time_budget: float | None = None) -> PolicyAnswer:
        """Ask it. Nothing that it does raises here. None = the time budget of `open`.

        Raises
        ------
        ValidationError
            When `request` is no request.
        """
        limit = self._time_budget if time_budget is None else time_budget
        answer = await _bridge.call(self._runtime, self._host.decide, request, state, timeout=limit)
        return PolicyAnswer(**answer)

    async def close(self) -> None:
        """Let go of it; its process or thread ends, if it can."""
        await _bridge.call(self._runtime, self._host.close)
        self._runtime.stop()

    async def __aenter__(self) -> PolicyRunner:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _open(runtime: _core.Runtime, start: Any, arguments: tuple[Any, ...]) -> _core.PolicyHost:
    def begin(queue: _core.CompletionQueue, future: object, limit: float, correlation_id: str, *rest: Any) -> int:
        operation: int = start(rest[0], queue, future, limit, correlation_id, *rest[1:])
        return operation

    host: _core.PolicyHost = await _bridge.call(runtime, begin, *arguments, timeout=LOAD_BUDGET)
    return host
