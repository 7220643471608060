"""What a file of automation declares: handlers of events, schedules and runbooks."""

from __future__ import annotations

import hashlib
import inspect
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from infrastructure_sdk import _bridge
from infrastructure_sdk.automation.cron import MISSED, Cron
from infrastructure_sdk.automation.parameters import Parameter, parameters_of
from infrastructure_sdk.automation.refusal import refused
from infrastructure_sdk.exceptions import ValidationError

__all__ = ["MARK", "Handler", "Runbook", "Schedule", "on", "runbook", "schedule"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
MARK = "__infrastructure_sdk_automation__"
_LONGEST = 36525 * 86400.0  # s: dates cannot be counted without end
_WORD = r"[a-z0-9_]+"
_PATTERN = re.compile(rf"\*|{_WORD}(\.{_WORD})*(\.\*)?")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Tries:
    """How often something is tried, and how long one try may take.

    Attributes
    ----------
    attempts
        1 to 100.
    backoff, maximum_backoff
        Seconds before the second try; each later wait is twice the one before, at most the maximum.
    timeout
        Seconds of one try; None = no limit.
    """

    attempts: int
    backoff: float
    maximum_backoff: float
    timeout: float | None

    def wait_after(self, attempt: int) -> float:
        """Seconds to wait when try number `attempt` (from 1) has failed.

        >>> [Tries(9, 1.0, 10.0, None).wait_after(attempt) for attempt in (1, 2, 3, 4, 5)]
        [1.0, 2.0, 4.0, 8.0, 10.0]
        """
        return float(min(self.backoff * 2 ** min(attempt - 1, 60), self.maximum_backoff))


@dataclass(frozen=True)
class Handler:
    """A function that is called with every event that fits."""

    name: str
    function: Callable[..., Awaitable[Any]]
    patterns: tuple[str, ...]
    where: Mapping[str, Any]
    tries: Tries
    concurrency: int
    from_start: bool
    source: str
    kind: str = "handler"

    def wants(self, event: Mapping[str, Any]) -> bool:
        """Whether an event fits a pattern and every field of `where`."""
        if not any(fits(pattern, event["type"]) for pattern in self.patterns):
            return False
        return all(_field(event, path) == value for path, value in self.where.items())


@dataclass(frozen=True)
class Schedule:
    """A function that is called at times."""

    name: str
    function: Callable[..., Awaitable[Any]]
    cron: Cron
    missed: str
    grace: float
    tries: Tries
    source: str
    kind: str = "schedule"


@dataclass(frozen=True)
class Runbook:
    """A function that people call, with typed parameters."""

    name: str
    function: Callable[..., Awaitable[Any]]
    description: str
    parameters: tuple[Parameter, ...]
    source: str
    kind: str = "runbook"


def fits(pattern: str, event_type: str) -> bool:
    """Whether a type fits a pattern: the type itself, a beginning such as ``session.lifecycle.*``, or ``*``.

    >>> fits("session.idle.*", "session.idle.armed"), fits("session.idle", "session.idle.armed"), fits("*", "a.b")
    (True, False, True)
    """
    if pattern == "*" or pattern == event_type:
        return True
    return pattern.endswith(".*") and event_type.startswith(pattern[:-1])


def on(
    *patterns: str,
    where: Mapping[str, Any] | None = None,
    name: str | None = None,
    attempts: int = 5,
    backoff: str | float = "1s",
    maximum_backoff: str | float = "5m",
    timeout: str | float | None = "10m",
    concurrency: int = 4,
    from_start: bool = False,
) -> Callable[[F], F]:
    """Have ``async def f(sdk, event)`` called with every event that fits, at least once.

    Events of one subject (a session, a pool) come one after the other, in order; those of different subjects at the
    same time, `concurrency` at most. An event comes again after a crash or a stop in the midst of it: what the
    function does should be harmless when it is done twice.

    Parameters
    ----------
    patterns
        Types of events: ``"session.lifecycle.failed"``, a beginning such as ``"session.idle.*"``, or ``"*"``.
    where
        Fields that must have these values, by their dotted path: ``{"data.reason": "GuestPanicked"}``.
    name
        Under which its place in the log is kept; the function's name if None.
    attempts, backoff, maximum_backoff
        A try that raises is made again after `backoff`, then after twice as long, and so on. After the last one the
        event is parked and reported: `Automation.parked`, `Automation.retry`.
    timeout
        Of one try; None = no limit.
    from_start
        Whether a handler that was never there before begins with the first event of the log; else with the next one.

    Raises
    ------
    ValidationError
        If an argument is wrong.

    Examples
    --------
    >>> @on("session.lifecycle.failed", where={"data.reason": "GuestPanicked"})
    ... async def bring_back(sdk, event):
    ...     await sdk.sessions.recover(event["subject"])
    """
    if not patterns:
        raise refused("patterns", patterns, "at least one type of events")
    for pattern in patterns:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise refused("patterns", pattern, "an event type, a beginning such as session.lifecycle.*, or *")
    _check_number("concurrency", concurrency, 1, 100)
    tries = _tries(attempts, backoff, maximum_backoff, timeout)
    fields = dict(where or {})

    def declare(function: F) -> F:
        chosen = _checked(function, name, 2)
        handler = Handler(chosen, function, patterns, fields, tries, concurrency, from_start, _source_of(function))
        return _mark(function, handler)

    return declare


def schedule(
    expression: str,
    *,
    timezone: str = "UTC",
    missed: str = "once",
    grace: str | float = "1m",
    name: str | None = None,
    attempts: int = 3,
    backoff: str | float = "10s",
    maximum_backoff: str | float = "5m",
    timeout: str | float | None = "1h",
) -> Callable[[F], F]:
    """Have ``async def f(sdk, due)`` called at times; `due` is a datetime in UTC. Never twice at the same time.

    Parameters
    ----------
    expression
        Five fields of cron: ``"0 8 * * mon-fri"``. Needs the extra ``automation``.
    timezone
        In which the fields are meant. For the hour that is skipped and the one that comes twice see
        `infrastructure_sdk.automation.cron`.
    missed
        What becomes of runs that are more than `grace` late because nothing ran: ``"once"`` makes up for the last of
        them, ``"skip"`` for none, ``"all"`` for the last hundred.
    name, attempts, backoff, maximum_backoff, timeout
        As in `on`.

    Raises
    ------
    ValidationError
        If an argument is wrong.
    UnsupportedError
        Without the package ``cronsim``.
    """
    cron = Cron(expression, timezone)
    if missed not in MISSED:
        raise refused("missed", missed, "one of " + ", ".join(MISSED))
    tries = _tries(attempts, backoff, maximum_backoff, timeout)
    late = _seconds("grace", grace)

    def declare(function: F) -> F:
        chosen = _checked(function, name, 2)
        return _mark(function, Schedule(chosen, function, cron, missed, late, tries, _source_of(function)))

    return declare


def runbook(*, name: str | None = None, secret: Iterable[str] = ()) -> Callable[[F], F]:
    """Make ``async def f(sdk, ...)`` a runbook. It stays the plain function that it is.

    Its parameters have type hints: ``str``, ``int``, ``float``, ``bool``, ``timedelta``, ``Literal`` of texts, each
    also ``| None``, and ``list`` of them. The first paragraph of its docstring is its description.

    Parameters
    ----------
    name
        The function's name if None.
    secret
        Parameters whose values are written nowhere.

    Raises
    ------
    ValidationError
        If it is no such function, or a parameter has another type.

    Examples
    --------
    >>> @runbook()
    ... async def clear_user(sdk, user_id: str, limit: int = 10) -> int:
    ...     '''End all sessions of a user.'''
    ...     found = await sdk.sessions.list(user_id=user_id, limit=limit)
    ...     for session in found:
    ...         await session.terminate()
    ...     return len(found)
    """
    hidden = frozenset(secret)

    def declare(function: F) -> F:
        chosen = _checked(function, name, 1)
        parameters = parameters_of(function, hidden)
        text = inspect.getdoc(function) or ""
        description = " ".join(text.split("\n\n")[0].split())
        return _mark(function, Runbook(chosen, function, description, parameters, _source_of(function)))

    return declare


def _mark(function: F, declared: Handler | Schedule | Runbook) -> F:
    setattr(function, MARK, (*getattr(function, MARK, ()), declared))
    return function


def _checked(function: Any, name: str | None, positional: int) -> str:
    if not inspect.iscoroutinefunction(function):
        raise refused("function", function, "an async def")
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = list(inspect.signature(function).parameters.values())[:positional]
    if len(first) < positional or any(parameter.kind not in kinds for parameter in first):
        wanted = "async def f(sdk, ...)" if positional == 1 else "async def f(sdk, event or due)"
        raise refused("function", function.__name__, wanted)
    chosen: str = function.__name__ if name is None else name
    if not isinstance(chosen, str) or not _NAME.fullmatch(chosen):
        raise refused("name", chosen, "1 to 64 letters, digits and . _ -")
    return chosen


def _source_of(function: Callable[..., Any]) -> str:
    """SHA-256 of the file of a function, in hex; of its name where there is no file."""
    try:
        path = inspect.getsourcefile(function)
        content = Path(path).read_bytes() if path else function.__qualname__.encode()
    except (OSError, TypeError):
        content = function.__qualname__.encode()
    return hashlib.sha256(content).hexdigest()


def _field(event: Mapping[str, Any], path: str) -> Any:
    value: Any = event
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _tries(attempts: int, backoff: str | float, longest: str | float, timeout: str | float | None) -> Tries:
    _check_number("attempts", attempts, 1, 100)
    limit = None if timeout is None else _seconds("timeout", timeout)
    return Tries(attempts, _seconds("backoff", backoff), _seconds("maximum_backoff", longest), limit)


def _seconds(field: str, value: str | float) -> float:
    try:
        found = _bridge.seconds(value)
    except (ValidationError, TypeError):
        found = math.inf
    if found > _LONGEST:
        raise refused(field, value, 'seconds or a duration such as "90s", at most 100 years')
    return found


def _check_number(field: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise refused(field, value, f"{least} to {most}")
