"""Futures for native operations: one completion queue and one `add_reader` for each event loop."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from infrastructure_sdk import _core
from infrastructure_sdk.exceptions import ValidationError
from infrastructure_sdk.logging import current_correlation_id, forward

_runtimes: weakref.WeakSet[_core.Runtime] = weakref.WeakSet()
_queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _core.CompletionQueue] = weakref.WeakKeyDictionary()
_lock = threading.Lock()

Timeout = str | float | None
"""Seconds, a duration such as "90s", or None for no limit."""


def make_runtime(level: str = "warning") -> _core.Runtime:
    """A runtime that is stopped when the interpreter ends and left alone in a forked child."""
    runtime = _core.Runtime(level)
    _runtimes.add(runtime)
    return runtime


def seconds(value: Timeout) -> float:
    """Seconds of a duration text or number; -1 for None (no limit).

    >>> seconds("1m30s"), seconds(2), seconds(None)
    (90.0, 2.0, -1.0)
    """
    if value is None:
        return -1.0
    if isinstance(value, str):
        return _core.parse_duration(value, "timeout")
    if not value >= 0:  # NaN too
        return _core.parse_duration(str(value), "timeout")
    return float(value)


def _queue_of(loop: asyncio.AbstractEventLoop) -> _core.CompletionQueue:
    queue = _queues.get(loop)
    if queue is None:
        # Only this loop's thread makes its queue; the lock is for other loops.
        queue = _core.CompletionQueue()
        with _lock:
            _queues[loop] = queue
        loop.add_reader(queue.descriptor, queue.drain)
    return queue


async def call(runtime: _core.Runtime, start: Callable[..., int], *arguments: Any, timeout: Timeout = None) -> Any:
    """Start a native operation and wait for it; cancelling the task stops the operation.

    Raises
    ------
    ValidationError
        If an argument cannot be handed to the native core.
    InfrastructureSDKError
        Whatever the operation raised.
    """
    limit = seconds(timeout)
    loop = asyncio.get_running_loop()
    queue = _queue_of(loop)
    future: asyncio.Future[Any] = loop.create_future()
    try:
        operation = start(queue, future, limit, current_correlation_id(), *arguments)
    except TypeError:
        # The binding's own message quotes every argument, secrets included.
        kinds = ", ".join(type(item).__name__ for item in arguments)
        raise ValidationError(
            f"an argument has the wrong type or is a text that is not valid Unicode; the types are: {kinds or 'none'}",
            context={"field": "arguments", "value": kinds},
        ) from None
    try:
        return await future
    except asyncio.CancelledError:
        queue.cancel(operation)
        raise
    finally:
        if records := runtime.take_logs():
            forward(records)


async def noop(runtime: _core.Runtime) -> None:
    """To the engine and back."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    runtime.noop(_queue_of(loop), future)
    await future


async def sleep(runtime: _core.Runtime, length: float, timeout: Timeout = None) -> None:
    """Sleep in the engine; for tests of cancellation and deadlines."""
    await call(runtime, lambda queue, future, limit, _id: runtime.sleep(queue, future, length, limit), timeout=timeout)


def _stop_all() -> None:
    for queue in list(_queues.values()):
        queue.close()
    for runtime in list(_runtimes):
        runtime.stop()


def _after_fork() -> None:
    for runtime in list(_runtimes):
        runtime.release_after_fork()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_after_fork)

__all__ = ["Timeout", "call", "make_runtime", "noop", "seconds", "sleep"]
