"""An awaited no-op through the native engine, alone and 1,000 at once, against two references in Python.

future
    An asyncio future that `loop.call_soon` sets: what asyncio itself costs, no other thread is involved.
eventfd
    What one would write by hand: an eventfd there, a peer that blocks on it, an eventfd back, `loop.add_reader`. The
    peer is a process and not a thread, because a Python thread would fight with the loop for the interpreter lock,
    which an engine thread never takes. So the reference is the fastest that needs no compiler: it allocates nothing
    per operation outside the loop, cannot cancel, and its answers carry no value.

All take turns in one run, medians. Times are for each operation; "bulk" gathers 1,000 coroutines again and again.
"Alone" all threads and the peer share one core: across two, most of the time is how long the host takes to wake an idle
one, and which cores they are on is up to chance.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from statistics import median

from measure import Row, run

from infrastructure_sdk import _bridge

ROUNDS = 15
SINGLES = 1000
BULK = 1000
GATHERS = 5

Operation = Callable[[], Awaitable[None]]


async def future() -> None:
    """The least that an await of something later costs."""
    loop = asyncio.get_running_loop()
    later: asyncio.Future[None] = loop.create_future()
    loop.call_soon(later.set_result, None)
    await later


class Peer:
    """Operations that another process answers, in order."""

    def __init__(self, there: int, back: int) -> None:
        self._there = there
        self._back = back
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def noop(self) -> None:
        later: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(later)
        os.eventfd_write(self._there, 1)
        await later

    def drain(self) -> None:
        for _ in range(os.eventfd_read(self._back)):
            self._waiting.popleft().set_result(None)


@contextmanager
def peer(loop: asyncio.AbstractEventLoop) -> Iterator[Peer]:
    """A peer that lives as long as the block."""
    there, back = os.eventfd(0), os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    program = f"import os\nwhile True: os.eventfd_write({back}, os.eventfd_read({there}))"
    process = subprocess.Popen([sys.executable, "-S", "-c", program], pass_fds=[there, back])
    answering = Peer(there, back)
    loop.add_reader(back, answering.drain)
    try:
        yield answering
    finally:
        loop.remove_reader(back)
        process.kill()
        process.wait()
        os.close(there)
        os.close(back)


async def seconds_alone(operation: Operation) -> float:
    """Seconds of one operation, when the next is started after the last has ended."""
    started = time.perf_counter()
    for _ in range(SINGLES):
        await operation()
    return (time.perf_counter() - started) / SINGLES


async def seconds_in_bulk(operation: Operation) -> float:
    """Seconds of one operation among `BULK` at once."""
    started = time.perf_counter()
    for _ in range(GATHERS):
        await asyncio.gather(*(operation() for _ in range(BULK)))
    return (time.perf_counter() - started) / (GATHERS * BULK)


async def medians(how: Callable[[Operation], Awaitable[float]], operations: dict[str, Operation]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in operations}
    for _ in range(1 + ROUNDS):
        for name, operation in operations.items():
            times[name].append(await how(operation))
    # The first round warms up.
    return {name: median(found[1:]) for name, found in times.items()}


async def measure(how: Callable[[Operation], Awaitable[float]]) -> dict[str, float]:
    """Medians of the engine and of both references; each gets threads of its own."""
    runtime = _bridge.make_runtime()
    try:
        with peer(asyncio.get_running_loop()) as answering:
            return await medians(
                how, {"engine": lambda: _bridge.noop(runtime), "future": future, "eventfd": answering.noop}
            )
    finally:
        runtime.stop()


async def main() -> list[Row]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    alone = await measure(seconds_alone)
    os.sched_setaffinity(0, cores)
    bulk = await measure(seconds_in_bulk)
    rows = [
        Row(f"no-op alone, {name}", alone["engine"] * 1e6, "us", alone[name] * 1e6) for name in ("future", "eventfd")
    ]
    rows += [Row(f"no-op in bulk, {name}", 1 / bulk["engine"], "1/s", 1 / bulk[name]) for name in ("future", "eventfd")]
    return rows


if __name__ == "__main__":
    run(main(), __doc__)
