"""Runs handlers and schedules: each from its own place, each try counted before it is made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from infrastructure_sdk.automation.audit import AuditTrail
from infrastructure_sdk.automation.clock import Clock
from infrastructure_sdk.automation.cron import due_runs
from infrastructure_sdk.automation.declare import Handler, Schedule
from infrastructure_sdk.automation.loading import Declarations
from infrastructure_sdk.automation.recorder import Recorder
from infrastructure_sdk.automation.store import Parked, Progress, Store
from infrastructure_sdk.exceptions import InfrastructureSDKError, OperationTimeoutError, StoreError
from infrastructure_sdk.logging import correlation_id

__all__ = ["Runner"]

_log = logging.getLogger("infrastructure_sdk.automation")
_READ_AHEAD = 1000  # events of one handler that are begun or wait for their turn
_CLOCK_SET_BACK = timedelta(minutes=5)  # a step back that is smaller silences a schedule no longer than that
_KEEP_EVERY = 500  # events that no handler wants, between two writes of the cursor


@dataclass
class Context:
    """What running needs."""

    sdk: Any
    store: Store
    audit: AuditTrail
    clock: Clock
    actor: str
    slots: asyncio.Semaphore


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; the first error, or a cancellation, ends all of them before it is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


class Runner:
    """Runs what was declared until it is cancelled, or with `once` until nothing is due."""

    def __init__(self, context: Context, declared: Declarations) -> None:
        self._context = context
        self._declared = declared

    async def run(self, *, once: bool) -> None:
        """Run everything that was declared."""
        handlers = [EventWorker(self._context, handler).run(once=once) for handler in self._declared.handlers]
        schedules = [ScheduleWorker(self._context, each).run(once=once) for each in self._declared.schedules]
        await together(handlers + schedules)


async def deliver(
    context: Context,
    unit: Handler | Schedule,
    key: str,
    payload: Mapping[str, Any],
    given: Any,
    slots: asyncio.Semaphore,
) -> bool:
    """Try until it goes well or is parked; whether it went well. A try holds a slot, the wait between two none.

    Raises
    ------
    asyncio.CancelledError
        When it is stopped; a try that was stopped does not count.
    StoreError
        If the store or the audit trail cannot be written; that try does not count either.
    """
    tries, store, clock = unit.tries, context.store, context.clock
    error = "the process ended during the last try"
    attempt = 0
    while attempt < tries.attempts:
        async with slots, context.slots:
            attempt = store.begin(unit.name, key)
            if attempt > tries.attempts:
                break
            try:
                failure = await _attempt(context, unit, key, attempt, given)
            except BaseException:  # it was stopped, or the disk is full: no failure of the function
                _take_back(store, unit.name, key)
                raise
        if failure is None:
            return True
        error = failure
        _log.warning("%s: try %d of %s failed: %s", unit.name, attempt, key, error)
        if attempt < tries.attempts:
            await clock.sleep_until(clock.now() + timedelta(seconds=tries.wait_after(attempt)))
    store.park(Parked(unit.name, key, payload, error, tries.attempts, clock.now().isoformat()))
    _log.error("%s: %s is parked after %d tries: %s", unit.name, key, tries.attempts, error)
    return False


def _take_back(store: Store, name: str, key: str) -> None:
    try:
        store.take_back(name, key)
    except StoreError as error:  # what ended the try is to be told, not this
        _log.warning("%s: a try of %s that was stopped counts: %s", name, key, error)


async def _attempt(context: Context, unit: Handler | Schedule, key: str, attempt: int, given: Any) -> str | None:
    """One try; None, or why it failed."""
    recorder = Recorder()
    record = {
        "kind": unit.kind,
        "name": unit.name,
        "key": key,
        "attempt": attempt,
        "source_sha256": unit.source,
        "actor": context.actor,
    }
    with correlation_id() as correlation:
        record["id"] = correlation
        context.audit.append({**record, "stage": "started", "time": context.clock.now().isoformat()})
        failure: str | None = "stopped"
        try:
            work = unit.function(recorder.wrap_sdk(context.sdk), given)
            await limited(context.clock, work, unit.tries.timeout)
            failure = None
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            _log.debug("%s: try %d of %s", unit.name, attempt, key, exc_info=True)
        finally:
            steps = [vars(step) for step in recorder.steps]
            outcome = {"outcome": "failed" if failure else "succeeded", "error": failure or "", "steps": steps}
            context.audit.append({**record, **outcome, "stage": "finished", "time": context.clock.now().isoformat()})
    if failure:
        context.sdk._opened()  # a closed SDK fails every try: that ends the run instead
    return failure


async def limited(clock: Clock, work: Awaitable[Any], seconds: float | None) -> Any:
    """The result of `work`, which may take so long by `clock`.

    Raises
    ------
    OperationTimeoutError
        If it takes longer; it is cancelled and waited for.
    InfrastructureSDKError
        If it let a cancellation out that was not asked for here, e.g. that of a task it waited for.
    """
    task = asyncio.ensure_future(work)
    waited: set[asyncio.Future[Any]] = {task}
    if seconds is not None:
        waited.add(asyncio.ensure_future(clock.sleep_until(clock.now() + timedelta(seconds=seconds))))
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise OperationTimeoutError(f"it took longer than {seconds:g} s")
        if task.cancelled():
            raise InfrastructureSDKError("it was cancelled from inside: a task that it waited for was cancelled")
        return task.result()
    finally:
        for each in waited:
            each.cancel()
        await asyncio.gather(*waited, return_exceptions=True)


class EventWorker:
    """One handler and its place in the log."""

    def __init__(self, context: Context, handler: Handler) -> None:
        self._context = context
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[str, asyncio.Task[None]] = {}  # of each subject: what the next event waits for
        self._slots = asyncio.Semaphore(handler.concurrency)
        self._room = asyncio.Semaphore(_READ_AHEAD)
        self._failed: asyncio.Future[None] | None = None

    async def run(self, *, once: bool) -> None:
        """Handle events as they come; with `once` those that are there."""
        progress = await self._begin()
        self._failed = asyncio.get_running_loop().create_future()
        try:
            self._parked_again()
            self._start(self._read(progress, once))
            while self._tasks and not self._failed.done():
                await asyncio.wait({*self._tasks, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
        finally:
            left = list(self._tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._context.store.keep(self._handler.name, progress)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def finished(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            # What is no fault of the handler (a full disk, say) ends the run.
            if not task.cancelled() and (error := task.exception()) and self._failed and not self._failed.done():
                self._failed.set_exception(error)

        task.add_done_callback(finished)
        return task

    async def _begin(self) -> Progress:
        store, name = self._context.store, self._handler.name
        progress = store.progress(name)
        if progress is None:
            start = 0 if self._handler.from_start else await end_of(self._context.sdk.events)
            progress = Progress(start, set())
            store.keep(name, progress)
        return progress

    async def _read(self, progress: Progress, once: bool) -> None:
        unwanted = 0
        async for event in _events(self._context.sdk.events, progress.cursor, once):
            sequence = event["sequence"]
            if self._handler.wants(event):
                if progress.see(sequence):
                    await self._room.acquire()
                    task = self._queue(event, partial(self._handle, progress, event))
                    task.add_done_callback(lambda _task: self._room.release())
                continue
            progress.pass_over(sequence)
            unwanted += 1
            if unwanted % _KEEP_EVERY == 0:
                self._context.store.keep(self._handler.name, progress)

    def _queue(self, event: Mapping[str, Any], work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Behind the event of the same subject before it."""
        subject = str(event.get("subject", ""))
        before = self._last.get(subject)

        async def in_turn() -> None:
            if before is not None:
                await asyncio.wait({before})
            await work()

        def finished(task: asyncio.Task[None]) -> None:
            if self._last.get(subject) is task:
                del self._last[subject]

        task = self._start(in_turn())
        self._last[subject] = task
        task.add_done_callback(finished)
        return task

    async def _handle(self, progress: Progress, event: Mapping[str, Any]) -> None:
        sequence = event["sequence"]
        await deliver(self._context, self._handler, str(sequence), event, event, self._slots)
        progress.settle(sequence)
        self._context.store.settle(self._handler.name, sequence, progress)

    def _parked_again(self) -> None:
        """Before the events of the same subject, beside all others: the tries of one may take hours."""
        for item in self._context.store.parked(again=True):
            if item.name == self._handler.name:
                self._queue(item.payload, partial(self._again, item))

    async def _again(self, item: Parked) -> None:
        if await deliver(self._context, self._handler, item.key, item.payload, item.payload, self._slots):
            self._context.store.unpark(item.name, item.key)


class ScheduleWorker:
    """One schedule and the time of its last run."""

    def __init__(self, context: Context, schedule: Schedule) -> None:
        self._context = context
        self._schedule = schedule
        self._slot = asyncio.Semaphore(1)

    async def run(self, *, once: bool) -> None:
        """Run when it is due, and beside it what was parked; with `once` what is due now."""
        await together([self._parked_again(), self._on_time(once=once)])

    async def _on_time(self, *, once: bool) -> None:
        store, schedule, clock = self._context.store, self._schedule, self._context.clock
        last = store.last_due(schedule.name)
        if last is None:
            last = clock.now()
            store.settle_run(schedule.name, last)
        while True:
            now = clock.now()
            if last - now > _CLOCK_SET_BACK:
                _log.warning(
                    "%s: its last run was at %s, which is yet to come; it goes on from now", schedule.name, last
                )
                last = now
                store.settle_run(schedule.name, last)
            grace = timedelta(seconds=schedule.grace)
            for due in due_runs(schedule.cron, last, now, missed=schedule.missed, grace=grace):
                await self._run(due)
                last = due
                store.settle_run(schedule.name, due)
            last = max(last, now)
            if once:
                return
            due_next = schedule.cron.next_after(last)
            if due_next is None:
                return
            await clock.sleep_until(due_next)

    async def _run(self, due: datetime) -> None:
        key = due.isoformat()
        await deliver(self._context, self._schedule, key, {"due": key}, due, self._slot)

    async def _parked_again(self) -> None:
        for item in self._context.store.parked(again=True):
            if item.name == self._schedule.name and await deliver(
                self._context,
                self._schedule,
                item.key,
                item.payload,
                datetime.fromisoformat(item.key),
                self._slot,
            ):
                self._context.store.unpark(item.name, item.key)


async def end_of(log: Any) -> int:
    """The sequence number of the last event; 0 if there is none. A few dozen questions, however long the log is."""

    async def beyond(sequence: int) -> bool:
        return bool(await log.list(after=sequence, limit=1))

    low, high = 0, 1
    if not await beyond(0):
        return 0
    while await beyond(high):
        low, high = high, high * 2
    while high - low > 1:  # something is beyond low, nothing beyond high
        middle = (low + high) // 2
        if await beyond(middle):
            low = middle
        else:
            high = middle
    return high


async def _events(log: Any, after: int, once: bool) -> AsyncIterator[Mapping[str, Any]]:
    if not once:
        async for event in log.watch(after=after):
            yield event
        return
    while page := await log.list(after=after):
        for event in page:
            after = event["sequence"]
            yield event
