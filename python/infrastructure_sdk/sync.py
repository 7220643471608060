"""The same API without `await`: every method runs on one background event loop.

So it works in scripts, at the prompt and inside a notebook's running loop.

Examples
--------
::

    import infrastructure_sdk.sync as isdk

    with isdk.InfrastructureSDK() as sdk:
        session = sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
        session.wait_until_active()
        print(session.exec(["uname", "-a"]).stdout)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Any, TypeVar

import infrastructure_sdk as _async
from infrastructure_sdk import commands as _commands
from infrastructure_sdk import desktop as _desktop
from infrastructure_sdk import events as _events
from infrastructure_sdk import files as _files
from infrastructure_sdk import isolation as _isolation
from infrastructure_sdk import keys as _keys
from infrastructure_sdk import policies as _policies
from infrastructure_sdk import pools as _pools
from infrastructure_sdk import session as _session
from infrastructure_sdk import session_manager as _sessions
from infrastructure_sdk import snapshot as _snapshot
from infrastructure_sdk import vm as _vm
from infrastructure_sdk import webhooks as _webhooks
from infrastructure_sdk._bridge import Timeout
from infrastructure_sdk.automation import manager as _automation
from infrastructure_sdk.commands import ExecResult
from infrastructure_sdk.desktop import Screenshot
from infrastructure_sdk.server import forward as _forward
from infrastructure_sdk.session_request import ResourceSpec, SessionRequest

__all__ = [
    "Automation",
    "DesktopClient",
    "EventLog",
    "ExecResult",
    "FileClient",
    "ForkResult",
    "GuestProcess",
    "InfrastructureSDK",
    "IsolationEngine",
    "KeyRing",
    "LimitCatalogue",
    "Policies",
    "PoolManager",
    "PortForward",
    "ResourceSpec",
    "Screenshot",
    "Session",
    "SessionRequest",
    "Snapshot",
    "SnapshotCatalogue",
    "UserSessionManager",
    "VMLifecycleController",
    "Webhooks",
]

T = TypeVar("T")
_loop: asyncio.AbstractEventLoop | None = None
_lock = threading.Lock()


def _background_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="infrastructure-sdk-sync", daemon=True).start()
            _loop = loop
        return _loop


def _run(work: Coroutine[Any, Any, T]) -> T:
    loop = _background_loop()
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    tasks: list[asyncio.Task[T]] = []

    def begin() -> None:
        tasks.append(loop.create_task(work))
        tasks[0].add_done_callback(lambda task: _hand_over(task, outcome))

    loop.call_soon_threadsafe(begin)
    try:
        return outcome.result()
    except BaseException:
        if not outcome.done():
            # Ctrl-C here must reach the operation there, and what that undoes then is waited for; a second one is not.
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            concurrent.futures.wait([outcome])
        raise


def _hand_over(task: asyncio.Task[T], outcome: concurrent.futures.Future[T]) -> None:
    if task.cancelled():
        outcome.cancel()
        outcome.set_running_or_notify_cancel()
    elif error := task.exception():
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


def _wrap(value: Any) -> Any:
    """Asynchronous objects become their synchronous twins."""
    if isinstance(value, list):
        return [_wrap(item) for item in value]
    twin = _TWINS.get(type(value))
    return twin(value) if twin is not None else value


def _unwrap(value: Any) -> Any:
    return value._twin if isinstance(value, _Twin) else value


def _blocking(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: _Twin, *arguments: Any, **named: Any) -> Any:
        positional = [_unwrap(item) for item in arguments]
        result = method(self._twin, *positional, **{key: _unwrap(item) for key, item in named.items()})
        return _wrap(_run(result) if inspect.iscoroutine(result) else result)

    del call.__wrapped__
    call.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return call


async def _next(source: AsyncIterator[T]) -> T:
    return await source.__anext__()


def _iterating(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def iterate(self: _Twin, *arguments: Any, **named: Any) -> Iterator[Any]:
        source = method(self._twin, *arguments, **named)
        try:
            while True:
                try:
                    item = _run(_next(source))
                except StopAsyncIteration:
                    return
                yield _wrap(item)
        finally:
            _run(source.aclose())

    del iterate.__wrapped__
    iterate.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return iterate


def _mirrored(name: str, original: property) -> property:
    def get(self: _Twin) -> Any:
        return _wrap(getattr(self._twin, name))

    return property(get, doc=original.__doc__)


class _Twin:
    """Mirrors the public methods and properties of an asynchronous class, name for name."""

    _mirrors: type
    _twin: Any

    def __init__(self, twin: Any) -> None:
        self._twin = twin

    def __init_subclass__(cls, mirrors: type | None = None) -> None:
        if mirrors is None:
            return
        cls._mirrors = mirrors
        for name, member in vars(mirrors).items():
            if name.startswith("_") and name not in ("_repr_html_", "_repr_png_"):
                continue
            if name in vars(cls):
                continue
            if isinstance(member, property):
                setattr(cls, name, _mirrored(name, member))
            elif inspect.isasyncgenfunction(member):
                setattr(cls, name, _iterating(member))
            elif inspect.isfunction(member):
                setattr(cls, name, _blocking(member))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _wrap(getattr(self._twin, name))

    def __repr__(self) -> str:
        return repr(self._twin)


class DesktopClient(_Twin, mirrors=_desktop.DesktopClient):
    """The screen of a session."""


class FileClient(_Twin, mirrors=_files.FileClient):
    """The files of a session's guest."""


class GuestProcess(_Twin, mirrors=_commands.GuestProcess):
    """A command that was started in a guest and is followed while it runs."""

    def __enter__(self) -> GuestProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PortForward(_Twin, mirrors=_forward.PortForward):
    """A port of this machine's loopback that leads to a port of a session's guest, until it is closed."""

    def __enter__(self) -> PortForward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Session(_Twin, mirrors=_session.Session):
    """A handle on one session."""


class UserSessionManager(_Twin, mirrors=_sessions.UserSessionManager):
    """Creates and finds sessions."""

    @contextmanager
    def ephemeral(self, request: SessionRequest, *, timeout: Timeout = "5m") -> Iterator[Session]:
        """A session that is active inside the block and terminated at its end, however that comes."""
        stack = AsyncExitStack()
        try:
            yield _wrap(_run(stack.enter_async_context(self._twin.ephemeral(request, timeout=timeout))))
        finally:
            # Also when an interrupt came just after the session was active.
            _run(stack.aclose())

    @contextmanager
    def connect(self, session_id: str) -> Iterator[Session]:
        """An existing session; the end of the block only lets go of it."""
        yield self.get(session_id)


class ForkResult(_Twin, mirrors=_snapshot.ForkResult):
    """What became of one fork: a session or an error, never both."""


class Snapshot(_Twin, mirrors=_snapshot.Snapshot):
    """A copy of a session's disk."""


class SnapshotCatalogue(_Twin, mirrors=_snapshot.SnapshotCatalogue):
    """The snapshots that there are."""


class KeyRing(_Twin, mirrors=_keys.KeyRing):
    """The keys of users."""


class VMLifecycleController(_Twin, mirrors=_vm.VMLifecycleController):
    """What the provider has and can do."""


class LimitCatalogue(_Twin, mirrors=_vm.LimitCatalogue):
    """What users, tenants, templates and the host may hold."""


class PoolManager(_Twin, mirrors=_pools.PoolManager):
    """The warm pools."""


class EventLog(_Twin, mirrors=_events.EventLog):
    """Events of all sessions."""


class Webhooks(_Twin, mirrors=_webhooks.Webhooks):
    """Who is told of events over HTTP, and what became of each delivery."""


class Policies(_Twin, mirrors=_policies.Policies):
    """Who decides about sessions besides the limits and the clocks."""


class Automation(_Twin, mirrors=_automation.Automation):
    """Handlers of events, schedules and runbooks; the functions themselves get the asynchronous SDK."""


class IsolationEngine(_Twin, mirrors=_isolation.IsolationEngine):
    """Looks at running sessions."""


class InfrastructureSDK(_Twin, mirrors=_async.InfrastructureSDK):
    """One installation: a state directory, its virtual machines and sessions."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(_async.InfrastructureSDK(*arguments, **named))

    def open(self) -> InfrastructureSDK:
        """Take the state directory, open the store, adopt what runs."""
        _run(self._twin.open())
        return self

    def __enter__(self) -> InfrastructureSDK:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_TWINS: dict[type, type[_Twin]] = {
    _automation.Automation: Automation,
    _desktop.DesktopClient: DesktopClient,
    _files.FileClient: FileClient,
    _commands.GuestProcess: GuestProcess,
    _forward.PortForward: PortForward,
    _session.Session: Session,
    _sessions.UserSessionManager: UserSessionManager,
    _events.EventLog: EventLog,
    _snapshot.ForkResult: ForkResult,
    _snapshot.Snapshot: Snapshot,
    _snapshot.SnapshotCatalogue: SnapshotCatalogue,
    _keys.KeyRing: KeyRing,
    _vm.LimitCatalogue: LimitCatalogue,
    _pools.PoolManager: PoolManager,
    _vm.VMLifecycleController: VMLifecycleController,
    _webhooks.Webhooks: Webhooks,
    _policies.Policies: Policies,
    _isolation.IsolationEngine: IsolationEngine,
}
