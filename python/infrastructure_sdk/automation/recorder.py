"""The SDK as automation sees it: every change is written down; in a dry run it is written down and not made.

What only reads goes through. Everything else counts as a change, also what is not known here. What a change would
answer is foretold where that is sure (a suspended session is suspended); where it is not, the dry run ends at the first
use of the answer and says so.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodType
from typing import Any

from infrastructure_sdk import events, isolation, keys, policies, pools, session, snapshot, vm, webhooks
from infrastructure_sdk.desktop import DesktopClient
from infrastructure_sdk.exceptions import InfrastructureSDKError
from infrastructure_sdk.files import FileClient
from infrastructure_sdk.session_manager import UserSessionManager

__all__ = ["NotForetoldError", "Recorder", "Step", "texts_of"]

# Of each class: the methods that only read, and the attributes that lead to further parts.
_KINDS: dict[type, tuple[frozenset[str], frozenset[str]]] = {
    kind: (frozenset(reads.split()), frozenset(parts.split()))
    for kind, reads, parts in (
        (UserSessionManager, "get list plan can_create", ""),
        (session.Session, "to_dict refresh explain timeline events watch ping", "desktop files"),
        (DesktopClient, "screenshot size", ""),
        (FileClient, "get stream list", ""),
        (vm.VMLifecycleController, "capabilities list inspect", ""),
        (vm.TemplateCatalogue, "list", ""),
        (vm.LimitCatalogue, "usage", ""),
        (pools.PoolManager, "list get", ""),
        (events.EventLog, "list watch", ""),
        (snapshot.SnapshotCatalogue, "get list", ""),
        (snapshot.Snapshot, "to_dict", ""),
        (keys.KeyRing, "list", ""),
        (webhooks.Webhooks, "list deliveries", ""),
        (policies.Policies, "list status", ""),
        (
            isolation.IsolationEngine,
            "watch report history chain anchor public_keys verify compliance explain",
            "",
        ),
    )
}
_PARTS = (
    "sessions vms isolation templates limits pools policies events webhooks snapshots keys".split()  # of the SDK
)
# What a session is after a change of it that went well.
_STATES = {"suspend": "suspended", "resume": "active", "terminate": "terminated", "recover": "active"}
_SAME = frozenset("touch extend hold release disconnect_clients".split())
_SECRET_ARGUMENTS = frozenset("stdin env text source password".split())


class NotForetoldError(InfrastructureSDKError):
    """A dry run cannot go on: what follows depends on what a change would answer."""

    default_code = "unsupported"


@dataclass
class Step:
    """One change: what was called, with what, and what became of it.

    Attributes
    ----------
    call
        E.g. ``session.suspend``.
    subject
        The id of the session or other thing; empty if there is none.
    outcome
        "planned", "running", "done" or "failed: ...".
    """

    call: str
    subject: str
    arguments: dict[str, str]
    outcome: str = "running"

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        subject = f" {self.subject}" if self.subject else ""
        return f"{self.call}{subject}({given}): {self.outcome}"


@dataclass
class Recorder:
    """Makes the SDK that automation is handed, and holds the steps.

    Parameters
    ----------
    dry
        Whether changes are only planned.
    secrets
        Texts that are shown nowhere; see `texts_of`.
    """

    dry: bool = False
    secrets: Iterable[str] = ()
    steps: list[Step] = field(default_factory=list)
    _states: dict[str, str] = field(default_factory=dict)
    _planned: dict[str, Any] = field(default_factory=dict)

    def wrap_sdk(self, sdk: Any) -> Any:
        """The SDK, recorded."""
        return _RecordedSdk(self, sdk)

    def wrap(self, value: Any, name: str) -> Any:
        """What a read or a change gave: handles are recorded, values are as they are."""
        if isinstance(value, list):
            return [self.wrap(item, name) for item in value]
        return _Recorded(self, value, name) if type(value) in _KINDS else value

    def begin(self, call: str, subject: str, names: Mapping[str, Any]) -> Step:
        """Write a step down before it is made."""
        arguments = {name: self._shown(name, value) for name, value in names.items()}
        step = Step(call, self.hide(subject), arguments, "planned" if self.dry else "running")
        self.steps.append(step)
        return step

    def hide(self, text: str) -> str:
        """The text without the secrets."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def check_foretold(self, call: str) -> None:
        """Waiting for what only a planned change would bring would never end.

        Raises
        ------
        NotForetoldError
            In a dry run after a change.
        """
        if self.dry and self.steps:
            raise NotForetoldError(
                f"the dry run ends here: what {call} would give depends on the changes that were planned",
                context={"call": call},
            )

    def _shown(self, name: str, value: Any) -> str:
        if name in _SECRET_ARGUMENTS:
            return "***"
        if isinstance(value, bytes):
            return f"{len(value)} bytes"
        text = self.hide(_brief(value))
        return text if len(text) <= 200 else text[:197] + "..."


class _RecordedSdk:
    def __init__(self, recorder: Recorder, sdk: Any) -> None:
        self.config = sdk.config
        self.dry_run = recorder.dry
        for part in _PARTS:
            if hasattr(sdk, part):
                setattr(self, part, recorder.wrap(getattr(sdk, part), part))

    def __repr__(self) -> str:
        return f"<InfrastructureSDK of an automation{', dry run' if self.dry_run else ''}>"


class _Recorded:
    """A handle or a part of the SDK."""

    def __init__(self, recorder: Recorder, target: Any, name: str) -> None:
        self._recorder = recorder
        self._target = target
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        target, recorder = self._target, self._recorder
        reads, parts = _KINDS[type(target)]
        if name == "state" and (foretold := recorder._states.get(getattr(target, "id", ""))):
            return foretold
        value = getattr(target, name)
        if name in parts:
            return recorder.wrap(value, f"{self._name}.{name}")
        if not inspect.ismethod(value):
            return value
        if name == "connect":
            return self._connect
        if name == "ephemeral":
            return MethodType(UserSessionManager.ephemeral, self)  # on what is recorded
        return self._reading(name, value) if name in reads else self._changing(name, value)

    def __repr__(self) -> str:
        return repr(self._target)

    def _repr_html_(self) -> str:
        shown: str = self._target._repr_html_()
        return shown

    def _subject(self) -> str:
        target = self._target
        owner = getattr(target, "_session", target)
        return str(getattr(owner, "id", ""))

    def _reading(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        recorder = self._recorder
        label = _label(self._name, name)

        async def read(*arguments: Any, **named: Any) -> Any:
            if recorder.dry and name == "get" and arguments and arguments[0] in recorder._planned:
                return recorder.wrap(recorder._planned[arguments[0]], label)
            result = await method(*map(_bare, arguments), **{key: _bare(value) for key, value in named.items()})
            return self if result is self._target else recorder.wrap(result, label)

        def read_now(*arguments: Any, **named: Any) -> Any:
            result = method(*map(_bare, arguments), **{key: _bare(value) for key, value in named.items()})
            if name == "to_dict" and (foretold := recorder._states.get(self._subject())):
                result = {**result, "state": foretold}
            return result

        async def watched(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
            recorder.check_foretold(f"{self._name}.{name}")
            async for item in read_now(*arguments, **named):
                yield item
                recorder.check_foretold(f"{self._name}.{name}")

        if inspect.isasyncgenfunction(method):
            return watched
        return read if inspect.iscoroutinefunction(method) else read_now

    def _changing(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def change(*arguments: Any, **named: Any) -> Any:
            recorder = self._recorder
            given = inspect.signature(method).bind(*arguments, **named).arguments
            step = recorder.begin(f"{self._name}.{name}", self._subject(), given)
            if recorder.dry:
                return await self._foretell(name, given)
            plain = [_bare(value) for value in arguments]
            try:
                result = await method(*plain, **{key: _bare(value) for key, value in named.items()})
            except BaseException as error:
                step.outcome = recorder.hide(f"failed: {type(error).__name__}: {error}")
                raise
            step.outcome = "done"
            return self if result is self._target else recorder.wrap(result, _label(self._name, name))

        return change

    async def _foretell(self, name: str, given: Mapping[str, Any]) -> Any:
        """What a change would answer, where that is sure."""
        target, recorder = self._target, self._recorder
        if isinstance(target, session.Session):
            if name in _SAME:
                return None if name == "disconnect_clients" else self
            if name in ("wait_until", "wait_until_active"):
                recorder._states[target.id] = given.get("state", "active")
                return self
            if name in _STATES:
                recorder._states[target.id] = _STATES[name]
                return self
        if isinstance(target, UserSessionManager) and name == "create":
            planned = session.Session(target._sdk, await target.plan(given["request"]))
            recorder._planned[planned.id] = planned
            return recorder.wrap(planned, "session")
        return _NotForetold(f"{self._name}.{name}")

    @asynccontextmanager
    async def _connect(self, session_id: str) -> AsyncIterator[Any]:
        yield await self.get(session_id)


class _NotForetold:
    """Stands for an answer that nobody knows yet: it may be passed over, not looked at."""

    def __init__(self, call: str) -> None:
        self._call = call

    def _ends(self, *_: Any) -> Any:
        raise NotForetoldError(
            f"the dry run ends here: what follows depends on what {self._call} would answer",
            context={"call": self._call},
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._ends()

    __bool__ = __len__ = __iter__ = __getitem__ = __contains__ = __aiter__ = __aenter__ = _ends
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __int__ = __float__ = __index__ = __bytes__ = _ends

    def __hash__(self) -> int:
        return id(self)

    async def __aexit__(self, *_: Any) -> None:
        return None

    def __repr__(self) -> str:
        return f"<what {self._call} would answer>"


def texts_of(values: Iterable[Any]) -> list[str]:
    """Every spelling of secrets in texts: plain, in a ``repr``, in JSON; of lists each item's. The longest first."""
    found: set[str] = set()
    for value in values:
        if isinstance(value, list | tuple | set | frozenset):
            found.update(texts_of(value))
        elif isinstance(value, str):
            written = repr(value)[1:-1]
            # In a repr that holds both quotes one is escaped, also when this text is but a part of it.
            escaped = (written.replace("\\'", "'").replace("'", "\\'"), repr(written)[1:-1])
            as_json = (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
            found.update((value, written, *escaped, *as_json))
        elif value is not None:
            found.update((str(value), repr(value)))
    return sorted(found - {""}, key=lambda text: (-len(text), text))


def _brief(value: Any) -> str:
    """A value for people: of a request only what is not as usual."""
    if isinstance(value, Path):
        return repr(str(value))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    usual = {item.name: item.default for item in dataclasses.fields(value)}
    usual |= {
        item.name: item.default_factory()
        for item in dataclasses.fields(value)
        if item.default_factory is not dataclasses.MISSING
    }
    given = ((name, getattr(value, name)) for name in usual)
    shown = ", ".join(f"{name}={_brief(item)}" for name, item in given if item != usual[name])
    return f"{type(value).__name__}({shown})"


def _bare(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_bare(item) for item in value)
    return value._target if isinstance(value, _Recorded) else value


def _label(name: str, method: str) -> str:
    """What the results of a method are called: a session of ``sessions.get`` is a ``session``."""
    part = name.rsplit(".", 1)[-1]
    return {"sessions": "session", "snapshots": "snapshot"}.get(part, f"{name}.{method}")
