"""What a policy is: functions or a class that answer at decision points, with a name and a hash."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from infrastructure_sdk._core import (
    AdmitDecision,
    AdmitRequest,
    BudgetRequest,
    IdleRequest,
    InterruptionRequest,
    IsolationRequest,
    PlaceDecision,
    PlaceRequest,
    ScheduleRequest,
    SessionDecision,
    SizeDecision,
    SizeRequest,
)
from infrastructure_sdk.exceptions import PolicyError, ValidationError

__all__ = ["POINTS", "Policy", "PolicyDefinition", "PolicyIdentity", "define", "policy"]

POINTS = ("admit", "place", "size", "idle", "schedule", "budget", "isolation", "interruption")
MOST_STATE_BYTES = 16 * 1024

F = TypeVar("F", bound=Callable[..., Any])
State = dict[str, Any]


@dataclass(frozen=True)
class PolicyIdentity:
    """Which policy it was: goes into every event about a decision. `sha256` is of its source."""

    name: str
    version: str
    author: str
    sha256: str


@dataclass(frozen=True)
class _Mark:
    """What the decorator was told."""

    points: tuple[str, ...]
    name: str
    version: str
    author: str


def policy(*points: str, name: str = "", version: str = "", author: str = "") -> Callable[[F], F]:
    """Make a function the policy of these decision points. The function itself stays what it is.

    Parameters
    ----------
    points
        One or more of admit, place, size, idle, schedule, budget, isolation, interruption.
    name, version, author
        Stamped on every decision. Without a name it is that of the file, or of the function in a notebook.

    Raises
    ------
    ValidationError
        For a point that does not exist, or a function that is async, a generator, or takes other than one argument.

    Examples
    --------
    >>> from infrastructure_sdk.policy import IdleRequest, SessionDecision, policy, suspend
    >>> @policy("idle", name="strict", version="1")
    ... def strict(request: IdleRequest) -> SessionDecision:
    ...     return suspend(f"quiet for {request.quiet_for:.0f} s")
    """
    if not points:
        raise ValidationError(f"a policy needs a decision point: {', '.join(POINTS)}", context={"field": "points"})
    for point in points:
        _check_point(point)
    mark = _Mark(points, name, version, author)

    def decorate(function: F) -> F:
        _check_callable(function, 1)
        function.__policy__ = mark  # type: ignore[attr-defined]
        return function

    return decorate


def _check_point(point: object) -> None:
    if point not in POINTS:
        raise ValidationError(
            f"there is no decision point {point!r}: {', '.join(POINTS)}",
            context={"field": "point", "value": str(point), "allowed": ", ".join(POINTS)},
        )


def _check_callable(function: Callable[..., Any], arguments: int) -> None:
    name = getattr(function, "__qualname__", repr(function))
    wanted = "def f(request)" if arguments == 1 else "def f(self, request, state)"
    if not inspect.isroutine(function):
        raise ValidationError(f"{name} must be a function: {wanted}", context={"field": "function", "value": name})
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ValidationError(
            f"{name} must be a plain function: a policy does not wait", context={"field": "function", "value": name}
        )
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError:
        raise ValidationError(
            f"{name} must take {arguments} argument{'s' * (arguments > 1)}: {wanted}",
            context={"field": "function", "value": name},
        ) from None


class Policy:
    """A policy with state. Override the methods of the points at which it decides, leave out the others.

    `state` is a dictionary for each session that the engine keeps: change it, and it is given again at the next
    question about that session. It holds what JSON can hold, 16 KiB at most. Keep nothing in `self`. At admit, place
    and size there is no session yet: `state` is empty there and what is put into it is dropped.
    """

    name: ClassVar[str] = ""
    version: ClassVar[str] = ""
    author: ClassVar[str] = ""

    def admit(self, request: AdmitRequest, state: State) -> AdmitDecision:
        """May it be created?"""
        return AdmitDecision()

    def place(self, request: PlaceRequest, state: State) -> PlaceDecision:
        """Where is it put?"""
        return PlaceDecision()

    def size(self, request: SizeRequest, state: State) -> SizeDecision:
        """How large is it made?"""
        return SizeDecision()

    def idle(self, request: IdleRequest, state: State) -> SessionDecision:
        """Its idle clock has run out."""
        return SessionDecision()

    def schedule(self, request: ScheduleRequest, state: State) -> SessionDecision:
        """Do the hours say something about it?"""
        return SessionDecision()

    def budget(self, request: BudgetRequest, state: State) -> SessionDecision:
        """What about the money?"""
        return SessionDecision()

    def isolation(self, request: IsolationRequest, state: State) -> SessionDecision:
        """Its isolation was looked at."""
        return SessionDecision()

    def interruption(self, request: InterruptionRequest, state: State) -> SessionDecision:
        """The host will take resources away."""
        return SessionDecision()


Handler = Callable[..., Any]


@dataclass(frozen=True)
class PolicyDefinition:
    """A loaded policy.

    Attributes
    ----------
    identity
        Name, version, author, hash.
    handlers
        For each of its points what answers: `handler(request) -> decision`, or, where `keeps_state`,
        `handler(request, state_text) -> (decision, state_text)`.
    source
        The text that was hashed.
    origin
        The file, or where else it is from.
    """

    identity: PolicyIdentity
    handlers: Mapping[str, Handler]
    keeps_state: bool
    source: str = field(repr=False)
    origin: str = ""

    @property
    def points(self) -> tuple[str, ...]:
        """The points at which it wants to be asked, in the order of `POINTS`."""
        return tuple(point for point in POINTS if point in self.handlers)


def sha256_of(source: str) -> str:
    """Lower-case hex of the UTF-8 bytes."""
    return hashlib.sha256(source.encode()).hexdigest()


def define(
    what: Callable[..., Any] | type[Policy] | Iterable[Callable[..., Any]],
    *,
    source: str | None = None,
    origin: str = "",
    name: str = "",
) -> PolicyDefinition:
    """The policy that decorated functions or a `Policy` class are, e.g. those of a notebook.

    Parameters
    ----------
    what
        One decorated function, several with the same name, or a `Policy` subclass.
    source
        What is hashed; the source of `what` when it is left out.
    origin, name
        Where it is from, and the name of one that has none.

    Raises
    ------
    ValidationError
        When it is no policy, or two functions answer at one point.
    """
    if isinstance(what, type):
        return _define_class(what, source, origin, name)
    functions = [what] if callable(what) else list(what)
    if not functions:
        raise ValidationError("there is no policy: decorate a function with @policy(...)", context={"field": "what"})
    handlers: dict[str, Handler] = {}
    marks: list[_Mark] = []
    for function in functions:
        mark = getattr(function, "__policy__", None)
        if not isinstance(mark, _Mark):
            raise ValidationError(
                f"{function!r} is no policy: decorate it with @policy(...)", context={"field": "what"}
            )
        marks.append(mark)
        for point in mark.points:
            if point in handlers:
                raise ValidationError(f"two functions answer at {point}", context={"field": "point", "value": point})
            handlers[point] = function
    stamp = _one(marks)
    text = source if source is not None else "\n".join(_source_of(function) for function in functions)
    identity = PolicyIdentity(stamp.name or name or functions[0].__name__, stamp.version, stamp.author, sha256_of(text))
    return PolicyDefinition(_checked(identity), MappingProxyType(handlers), False, text, origin)


def _one(marks: list[_Mark]) -> _Mark:
    """What they all say: a field that only one of them states counts for all."""
    values: dict[str, str] = {}
    for attribute in ("name", "version", "author"):
        said = {getattr(mark, attribute) for mark in marks} - {""}
        if len(said) > 1:
            raise ValidationError(
                f"one file holds one policy: its functions say {attribute} {', '.join(sorted(said))}",
                context={"field": attribute, "value": ", ".join(sorted(said)), "allowed": "one"},
            )
        values[attribute] = said.pop() if said else ""
    return _Mark((), values["name"], values["version"], values["author"])


def _checked(identity: PolicyIdentity) -> PolicyIdentity:
    for attribute, most in (("name", 100), ("version", 100), ("author", 200)):
        value = getattr(identity, attribute)
        if not isinstance(value, str) or len(value) > most or not value.isprintable():
            raise ValidationError(
                f"{attribute} must be printable text of at most {most} characters",
                context={"field": attribute, "value": repr(value)[:100], "allowed": f"text, {most} characters"},
            )
    return identity


def _source_of(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        raise PolicyError(f"the source of {thing!r} cannot be read: give `source`") from None


def _define_class(kind: type, source: str | None, origin: str, name: str) -> PolicyDefinition:
    if not issubclass(kind, Policy) or kind is Policy:
        raise ValidationError(f"{kind.__name__} must be a subclass of Policy", context={"field": "what"})
    own = [point for point in POINTS if getattr(kind, point) is not getattr(Policy, point)]
    if not own:
        raise ValidationError(
            f"{kind.__name__} decides nothing: define a method named {', '.join(POINTS)}", context={"field": "what"}
        )
    for point in own:
        _check_callable(getattr(kind, point), 3)
    text = source if source is not None else _source_of(kind)
    made = kind()
    handlers = {point: _stateful(getattr(made, point)) for point in own}
    identity = PolicyIdentity(kind.name or name or kind.__name__, kind.version, kind.author, sha256_of(text))
    return PolicyDefinition(_checked(identity), MappingProxyType(handlers), True, text, origin)


def _stateful(method: Callable[[Any, State], Any]) -> Handler:
    def handler(request: Any, state: str) -> tuple[Any, str]:
        values: State = json.loads(state) if state else {}
        decision = method(request, values)
        if not values and not state:
            return decision, ""
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        if len(text) > MOST_STATE_BYTES:
            raise ValueError(f"the state has {len(text)} bytes, {MOST_STATE_BYTES} at most are kept")
        return decision, text

    return handler
