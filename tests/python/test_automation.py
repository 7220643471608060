"""Automation: cron across daylight saving, delivery at least once, runbooks with dry run and audit."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync
from infrastructure_sdk.automation import Cron, ManualClock, load, on, runbook, schedule
from infrastructure_sdk.automation.audit import AuditTrail
from infrastructure_sdk.automation.cron import due_runs
from infrastructure_sdk.automation.recorder import Recorder
from infrastructure_sdk.automation.runner import end_of
from infrastructure_sdk.automation.store import Progress, Store
from infrastructure_sdk.cli import app
from processes import processes_in

UTC = timezone.utc
START = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
PATIENCE = 60


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# ---- cron ------------------------------------------------------------------------------------------------------------


def first(expression: str, zone: str, after: str, count: int) -> list[str]:
    times = Cron(expression, zone).after(at(after))
    return [f"{next(times):%d %H:%M}" for _ in range(count)]


def test_working_days_in_a_time_zone() -> None:
    # 8:00 in Berlin is 7:00 UTC in winter and 6:00 in summer; the 28th and 29th are a weekend.
    assert first("0 8 * * mon-fri", "Europe/Berlin", "2026-03-26T12:00", 3) == ["27 07:00", "30 06:00", "31 06:00"]


def test_a_job_in_the_skipped_hour_runs_once_after_the_gap() -> None:
    # On 29 March 2026 02:00 to 03:00 does not exist in Berlin.
    assert first("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", 3) == ["28 01:30", "29 01:00", "30 00:30"]
    assert first("10,30 2 * * *", "Europe/Berlin", "2026-03-29T00:00", 2) == ["29 01:00", "30 00:10"]


def test_a_job_in_the_doubled_hour_runs_once() -> None:
    # On 25 October 2026 02:00 to 03:00 comes twice in Berlin: 00:00 to 02:00 UTC.
    assert first("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == ["25 00:30", "26 01:30"]
    # From inside the second of the two hours nothing of the first comes again.
    assert first("30,45 2 * * *", "Europe/Berlin", "2026-10-25T01:10", 1) == ["26 01:30"]


def test_a_job_of_every_hour_runs_by_real_time() -> None:
    assert first("15 * * * *", "Europe/Berlin", "2026-10-25T00:00", 3) == ["25 00:15", "25 01:15", "25 02:15"]
    assert first("15 * * * *", "Europe/Berlin", "2026-03-29T00:00", 3) == ["29 00:15", "29 01:15", "29 02:15"]


@given(
    moment=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
    expression=st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 */3 * * *", "5,35 1-3 * * sun", "0 0 1 * *"]),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
)
def test_times_always_ascend_after_the_moment(moment: datetime, expression: str, zone: str) -> None:
    times = Cron(expression, zone).after(moment)
    last = moment
    for _ in range(10):
        due = next(times)
        assert due > last and due.tzinfo is UTC
        last = due


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "* * * * * *", "61 * * * *", "0 0 31 2 *", "x * * * *", "0 0 * * 5L,", "@daily"]
)
def test_an_expression_that_is_none_is_refused(expression: str) -> None:
    with pytest.raises(isdk.exceptions.ValidationError, match="expression"):
        Cron(expression)


@pytest.mark.parametrize("zone", ["", "Berlin", "Europe/", "../etc/passwd", "UTC\0"])
def test_a_time_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(isdk.exceptions.ValidationError, match="timezone"):
        Cron("* * * * *", zone)


def test_what_becomes_of_missed_runs() -> None:
    cron, grace = Cron("0 * * * *"), timedelta(minutes=1)

    def due(missed: str, now: str) -> list[int]:
        return [run.hour for run in due_runs(cron, START, at(f"2026-03-02T{now}"), missed=missed, grace=grace)]

    assert [due(missed, "15:30") for missed in ("once", "skip", "all")] == [[15], [], [13, 14, 15]]
    # The run of now is not late: it stands for those that were.
    assert [due(missed, "15:00:30") for missed in ("once", "skip", "all")] == [[15], [15], [13, 14, 15]]
    assert [due(missed, "12:59") for missed in ("once", "skip", "all")] == [[], [], []]
    many = due_runs(cron, START, START + timedelta(days=30), missed="all", grace=grace)
    assert len(many) == 100 and many[-1] == START + timedelta(days=30)


# ---- declarations ----------------------------------------------------------------------------------------------------


def test_what_is_declared_wrongly_is_refused_by_name() -> None:
    async def handler(sdk: Any, event: Any) -> None: ...

    def plain(sdk: Any, event: Any) -> None: ...

    async def narrow(sdk: Any) -> None: ...

    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: on(), "patterns"),
        (lambda: on("session."), "patterns"),
        (lambda: on("session.*.failed"), "patterns"),
        (lambda: on("*", attempts=0), "attempts"),
        (lambda: on("*", attempts=True), "attempts"),
        (lambda: on("*", concurrency=101), "concurrency"),
        (lambda: on("*", backoff="soon"), "backoff"),
        (lambda: on("*", timeout=-1), "timeout"),
        (lambda: on("*", timeout=float("inf")), "timeout"),
        (lambda: on("*", backoff=1e12), "backoff"),
        (lambda: schedule("* * * * *", grace=float("nan")), "grace"),
        (lambda: on("*", name="a b")(handler), "name"),
        (lambda: on("*")(plain), "function"),  # type: ignore[type-var]
        (lambda: on("*")(narrow), "function"),
        (lambda: schedule("* * * * *", missed="twice"), "missed"),
        (lambda: schedule("* * * * *", grace="x"), "grace"),
        (lambda: load(plain), "sources"),
        (lambda: load(on("*")(handler), on("b")(handler)), "name"),
    ]
    for case, field in cases:
        with pytest.raises(isdk.exceptions.ValidationError) as caught:
            case()
        assert caught.value.context["field"] == field


def test_a_file_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("1/0")
    with pytest.raises(isdk.exceptions.ValidationError, match="ZeroDivisionError"):
        load(broken)
    with pytest.raises(isdk.exceptions.NotFoundError):
        load(tmp_path / "absent.py")


def test_the_parameters_of_a_runbook_are_typed() -> None:
    seen: dict[str, Any] = {}

    @runbook(secret=["token"])
    async def book(
        sdk: Any,
        user: str,
        count: int,
        color: Literal["red", "green"],
        token: str,
        share: float = 0.5,
        force: bool = False,
        wait: timedelta | None = None,
        ids: list[int] | None = None,
    ) -> None:
        """First line
        goes on.

        More.
        """
        seen.update(locals())

    from infrastructure_sdk.automation.parameters import bind

    (declared,) = load(book).runbooks
    assert declared.description == "First line goes on."
    texts = {"user": "7", "count": "3", "color": "red", "token": "t", "force": "yes", "wait": "2h", "ids": "1,2"}
    bound = bind(declared.parameters, texts)
    assert bound == {
        "user": "7",
        "count": 3,
        "color": "red",
        "token": "t",
        "share": 0.5,
        "force": True,
        "wait": timedelta(hours=2),
        "ids": [1, 2],
    }
    assert bind(declared.parameters, bound) == bound
    good = {"user": "a", "count": 1, "color": "red", "token": "hunter2"}
    for field, wrong in [
        ("count", "x"),
        ("count", True),
        ("count", 1.5),
        ("share", "nan"),
        ("share", "inf"),
        ("share", float("inf")),
        ("share", 10**400),
        ("wait", 1e300),
        ("wait", float("inf")),
        ("wait", float("nan")),
        ("color", "blue"),
        ("force", "perhaps"),
        ("wait", "soon"),
        ("ids", "1,x"),
        ("ids", 7),
        ("user", 7),
        ("token", 7),
        ("nothing", 1),
    ]:
        with pytest.raises(isdk.exceptions.ValidationError) as caught:
            bind(declared.parameters, {**good, field: wrong})
        assert caught.value.context["field"] == field and "hunter2" not in str(caught.value)
    with pytest.raises(isdk.exceptions.ValidationError, match="count"):
        bind(declared.parameters, {"user": "a"})
    for bad in (bytes, list, dict[str, int], int | str):

        async def other(sdk: Any, value) -> None: ...  # type: ignore[no-untyped-def]

        other.__annotations__["value"] = bad
        with pytest.raises(isdk.exceptions.ValidationError, match="value"):
            runbook()(other)


# ---- the place in the log --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 3), max_size=30), st.randoms(use_true_random=False), st.integers(0, 30))
def test_a_restart_repeats_only_what_was_not_done(gaps: list[int], random: Any, done_count: int) -> None:
    log: list[int] = []
    for gap in gaps:
        log.append((log[-1] if log else 0) + gap)
    progress = Progress(0, set())
    for sequence in log:
        assert progress.see(sequence)
    done = random.sample(log, min(done_count, len(log)))
    for sequence in done:
        progress.settle(sequence)
    again = Progress(progress.cursor, set(progress.settled))
    left = [sequence for sequence in log if sequence > again.cursor and again.see(sequence)]
    assert left == [sequence for sequence in log if sequence not in done]
    for sequence in left:
        again.settle(sequence)
    assert (again.cursor, again.settled) == (log[-1] if log else 0, set())


def test_events_that_are_not_wanted_leave_nothing_behind(tmp_path: Path) -> None:
    store, progress = Store(tmp_path / "state.db"), Progress(0, set())
    assert progress.see(1) and progress.see(2)
    for sequence in range(3, 3000):
        progress.pass_over(sequence)
    assert (progress.cursor, progress.settled) == (0, set())
    progress.settle(2)
    store.settle("name", 2, progress)
    store.keep("name", progress)
    kept = store.progress("name")
    assert kept is not None and (kept.cursor, kept.settled) == (0, {2})
    progress.settle(1)
    store.settle("name", 1, progress)
    kept = store.progress("name")
    assert kept is not None and (kept.cursor, kept.settled) == (2999, set())
    store.close()


class FakeLog:
    """An event log in memory, with the two questions that automation asks."""

    def __init__(self, gap: int = 1) -> None:
        self.events: list[dict[str, Any]] = []
        self._gap = gap
        self._more = asyncio.Event()

    def add(self, kind: str, subject: str = "s-1", **data: Any) -> int:
        sequence = self._gap * (len(self.events) + 1)
        self.events.append({"sequence": sequence, "type": kind, "subject": subject, "data": data})
        self._more.set()
        return sequence

    async def list(self, *, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        return [event for event in self.events if event["sequence"] > after][:limit]

    async def watch(self, *, after: int = 0) -> AsyncIterator[dict[str, Any]]:
        while True:
            self._more.clear()
            for event in await self.list(after=after):
                after = event["sequence"]
                yield event
            await self._more.wait()


class FakeSdk:
    """What `Automation` needs of an SDK."""

    def __init__(self, state_dir: Path) -> None:
        self.events = FakeLog()
        self.config = isdk.InfraSDKConfig.from_dict({"store": {"state_directory": str(state_dir)}})
        self.automation = isdk.automation.Automation(self)  # type: ignore[arg-type]

    def _opened(self) -> None: ...


@pytest.fixture
def fake(tmp_path: Path) -> FakeSdk:
    return FakeSdk(tmp_path)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 1000])
@pytest.mark.parametrize("gap", [1, 3])
async def test_the_end_of_the_log_is_found(count: int, gap: int) -> None:
    log = FakeLog(gap)
    for _ in range(count):
        log.add("a.b")
    assert await end_of(log) == count * gap


async def test_events_reach_the_handlers_that_want_them(fake: FakeSdk) -> None:
    seen: list[tuple[str, int]] = []

    @on("session.lifecycle.*", from_start=True)
    async def lifecycle(sdk: Any, event: Mapping[str, Any]) -> None:
        seen.append(("lifecycle", event["sequence"]))

    @on("session.lifecycle.failed", where={"data.reason": "GuestHung", "subject": "s-2"}, from_start=True)
    async def hung(sdk: Any, event: Mapping[str, Any]) -> None:
        seen.append(("hung", event["sequence"]))

    @on("*")
    async def later(sdk: Any, event: Mapping[str, Any]) -> None:
        seen.append(("later", event["sequence"]))

    fake.events.add("session.lifecycle.created")
    fake.events.add("session.idle.armed")
    fake.events.add("session.lifecycle.failed", "s-2", reason="GuestHung")
    fake.events.add("session.lifecycle.failed", "s-1", reason="GuestHung")
    await fake.automation.run(lifecycle, hung, later, once=True)
    assert sorted(seen) == [("hung", 3), ("lifecycle", 1), ("lifecycle", 3), ("lifecycle", 4)]
    seen.clear()
    fake.events.add("pool.drained", "desks")
    await fake.automation.run(lifecycle, hung, later, once=True)
    assert seen == [("later", 5)], "nothing comes twice, and a new handler begins with the next event"


async def test_a_failing_handler_is_retried_with_backoff_then_parked(fake: FakeSdk) -> None:
    clock = ManualClock(START)
    tries: list[datetime] = []
    healed = False

    @on("a.b", attempts=4, backoff="1s", maximum_backoff="3s", from_start=True)
    async def brittle(sdk: Any, event: Mapping[str, Any]) -> None:
        tries.append(clock.now())
        if not healed:
            raise RuntimeError("no luck")

    sequence = fake.events.add("a.b")
    fake.events.add("a.c")
    run = asyncio.ensure_future(fake.automation.run(brittle, once=True, clock=clock))
    for _ in range(3):
        wake = await asyncio.wait_for(clock.next_wake(), PATIENCE)
        while wake - clock.now() > timedelta(seconds=4):  # the limit of the try, before it ended
            await asyncio.sleep(0)
            wake = await clock.next_wake()
        clock.advance((wake - clock.now()).total_seconds())
    await asyncio.wait_for(run, PATIENCE)
    assert [(moment - START).total_seconds() for moment in tries] == [0, 1, 3, 6]
    (parked,) = await fake.automation.parked()
    assert (parked.name, parked.key, parked.attempts) == ("brittle", str(sequence), 4)
    assert parked.error == "RuntimeError: no luck" and parked.payload["type"] == "a.b"

    healed = True
    await fake.automation.run(brittle, once=True, clock=clock)
    assert len(tries) == 4, "what is parked is not tried by itself"
    with pytest.raises(isdk.exceptions.NotFoundError):
        await fake.automation.retry("brittle", "99")
    await fake.automation.retry("brittle", parked.key)
    await fake.automation.run(brittle, once=True, clock=clock)
    assert len(tries) == 5 and await fake.automation.parked() == []


async def test_a_handler_that_hangs_is_ended_and_parked(fake: FakeSdk) -> None:
    clock = ManualClock(START)
    ended = asyncio.Event()

    @on("a.b", attempts=1, timeout="30s", from_start=True)
    async def hangs(sdk: Any, event: Mapping[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    fake.events.add("a.b")
    run = asyncio.ensure_future(fake.automation.run(hangs, once=True, clock=clock))
    assert await asyncio.wait_for(clock.next_wake(), PATIENCE) == START + timedelta(seconds=30)
    clock.advance(30)
    await asyncio.wait_for(run, PATIENCE)
    assert ended.is_set()
    (parked,) = await fake.automation.parked()
    assert "longer than 30 s" in parked.error


async def test_subjects_are_handled_at_once_and_each_in_order(fake: FakeSdk) -> None:
    running: list[str] = []
    most = 0
    order: dict[str, list[int]] = {}
    gate = asyncio.Event()
    full = asyncio.Event()

    @on("a.b", concurrency=3, from_start=True)
    async def work(sdk: Any, event: Mapping[str, Any]) -> None:
        nonlocal most
        assert event["subject"] not in running
        running.append(event["subject"])
        most = max(most, len(running))
        if len(running) == 3:
            full.set()
        await gate.wait()
        running.remove(event["subject"])
        order.setdefault(event["subject"], []).append(event["sequence"])

    for number in range(40):
        fake.events.add("a.b", f"s-{number % 5}")
    run = asyncio.ensure_future(fake.automation.run(work, once=True))
    await asyncio.wait_for(full.wait(), PATIENCE)
    gate.set()
    await asyncio.wait_for(run, PATIENCE)
    assert most == 3
    assert {subject: sorted(seen) == seen and len(seen) for subject, seen in order.items()} == {
        f"s-{number}": 8 for number in range(5)
    }


async def test_what_a_stop_interrupts_is_done_again_and_nothing_else(fake: FakeSdk, tmp_path: Path) -> None:
    done: list[str] = []
    stuck = asyncio.Event()
    free = False

    @on("a.b", from_start=True, attempts=1)
    async def work(sdk: Any, event: Mapping[str, Any]) -> None:
        if event["subject"] == "slow" and not free:
            stuck.set()
            await asyncio.Event().wait()
        done.append(event["subject"])

    for subject in ("slow", "quick", "other"):
        fake.events.add("a.b", subject)
    run = asyncio.ensure_future(fake.automation.run(work))
    await asyncio.wait_for(stuck.wait(), PATIENCE)
    store = Store(tmp_path / "automation" / "state.db")
    while (progress := store.progress("work")) is None or len(progress.settled) < 2:
        await asyncio.sleep(0)
    store.close()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert sorted(done) == ["other", "quick"]
    free = True
    for _ in range(2):
        await fake.automation.run(work, once=True)
    assert sorted(done) == ["other", "quick", "slow"], "a try that was stopped does not count"
    assert await fake.automation.parked() == []


async def test_a_failure_of_the_store_ends_the_run(fake: FakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    @on("a.b", from_start=True)
    async def work(sdk: Any, event: Mapping[str, Any]) -> None: ...

    def full(*_: Any) -> None:
        raise isdk.exceptions.StoreError("the disk is full")

    monkeypatch.setattr(Store, "settle", full)
    fake.events.add("a.b")
    with pytest.raises(isdk.exceptions.StoreError, match="full"):
        await asyncio.wait_for(fake.automation.run(work), PATIENCE)


@pytest.mark.parametrize("timeout", [None, "10m"])
async def test_a_cancellation_from_inside_a_handler_is_a_failure(fake: FakeSdk, timeout: str | None) -> None:
    seen: list[str] = []

    @on("a.b", attempts=1, timeout=timeout, from_start=True)
    async def handler(sdk: Any, event: Mapping[str, Any]) -> None:
        seen.append(event["subject"])
        if event["subject"] == "bad":
            await cancelled_helper()

    @schedule("0 * * * *", attempts=1, timeout=timeout)
    async def hourly(sdk: Any, due: datetime) -> None:
        seen.append(f"{due:%H}")
        await cancelled_helper()

    clock = ManualClock(START)
    await fake.automation.run(hourly, once=True, clock=clock)
    for subject in ("bad", "good", "bad"):
        fake.events.add("a.b", subject)
    for _ in range(2):
        clock.advance(3600)
        await asyncio.wait_for(fake.automation.run(handler, hourly, once=True, clock=clock), PATIENCE)
    assert sorted(seen) == ["13", "14", "bad", "bad", "good"]
    parked = await fake.automation.parked()
    assert len(parked) == 4 and all("cancelled from inside" in item.error for item in parked)


async def cancelled_helper() -> None:
    helper = asyncio.ensure_future(asyncio.Event().wait())
    helper.cancel()
    await helper


async def test_a_try_that_the_audit_trail_did_not_take_does_not_count(
    fake: FakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    @on("a.b", attempts=1, from_start=True)
    async def work(sdk: Any, event: Mapping[str, Any]) -> None:
        seen.append(event["sequence"])

    def full(*_: Any) -> None:
        raise isdk.exceptions.StoreError("the disk is full")

    fake.events.add("a.b")
    with monkeypatch.context() as patched:
        patched.setattr(AuditTrail, "append", full)
        for _ in range(2):
            with pytest.raises(isdk.exceptions.StoreError, match="full"):
                await fake.automation.run(work, once=True)
    await fake.automation.run(work, once=True)
    assert seen == [1] and await fake.automation.parked() == []


async def test_a_run_ends_when_the_sdk_is_closed_and_no_try_is_lost(fake: FakeSdk) -> None:
    closed = False

    @on("a.b", attempts=1, from_start=True)
    async def work(sdk: Any, event: Mapping[str, Any]) -> None:
        nonlocal closed
        closed = True
        await cancelled_helper()

    def opened() -> None:
        if closed:
            raise isdk.exceptions.InvalidTransitionError("it is not open")

    fake._opened = opened  # type: ignore[method-assign]
    fake.events.add("a.b")
    with pytest.raises(isdk.exceptions.InvalidTransitionError, match="not open"):
        await asyncio.wait_for(fake.automation.run(work), PATIENCE)
    closed = False
    assert await fake.automation.parked() == []


async def test_events_are_read_while_a_parked_one_is_tried_again(fake: FakeSdk) -> None:
    clock = ManualClock(START)
    seen: list[str] = []
    later = asyncio.Event()

    @on("a.b", attempts=1, from_start=True)
    async def first(sdk: Any, event: Mapping[str, Any]) -> None:
        raise RuntimeError("no luck")

    @on("a.b", name="first", attempts=2, backoff="5h", from_start=True)
    async def again(sdk: Any, event: Mapping[str, Any]) -> None:
        seen.append(event["subject"])
        if event["subject"] == "bad":
            raise RuntimeError("still no luck")
        later.set()

    fake.events.add("a.b", "bad")
    await fake.automation.run(first, once=True, clock=clock)
    await fake.automation.retry("first", "1")
    fake.events.add("a.b", "bad")
    fake.events.add("a.b", "good")
    run = asyncio.ensure_future(fake.automation.run(again, clock=clock))
    await asyncio.wait_for(later.wait(), PATIENCE)
    assert seen == ["bad", "good"], "the next event of the same subject waits for its turn"
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


async def test_a_schedule_keeps_its_times_while_a_parked_run_is_tried_again(fake: FakeSdk) -> None:
    clock = ManualClock(START)
    seen: list[int] = []

    @schedule("0 * * * *", attempts=2, backoff="5h", timeout=None)
    async def hourly(sdk: Any, due: datetime) -> None:
        seen.append(due.hour)
        if due.hour == 13:
            raise RuntimeError("no luck")

    await fake.automation.run(hourly, once=True, clock=clock)
    clock.advance(3600)
    run = asyncio.ensure_future(fake.automation.run(hourly, once=True, clock=clock))
    await asyncio.wait_for(clock.next_wake(), PATIENCE)
    clock.advance(5 * 3600)
    await asyncio.wait_for(run, PATIENCE)
    (parked,) = await fake.automation.parked()
    await fake.automation.retry("hourly", parked.key)
    clock.advance(3600)  # 19:00
    run = asyncio.ensure_future(fake.automation.run(hourly, once=True, clock=clock))
    async with asyncio.timeout(PATIENCE):
        while 19 not in seen:
            await asyncio.sleep(0)
    assert clock.now().hour == 19
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


async def test_a_clock_that_was_set_back_does_not_silence_a_schedule(
    fake: FakeSdk, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[datetime] = []

    @schedule("0 * * * *")
    async def hourly(sdk: Any, due: datetime) -> None:
        seen.append(due)

    await fake.automation.run(hourly, once=True, clock=ManualClock(START + timedelta(days=365)))
    await fake.automation.run(hourly, once=True, clock=ManualClock(START))
    assert "yet to come" in caplog.text
    await fake.automation.run(hourly, once=True, clock=ManualClock(START + timedelta(hours=1)))
    assert seen == [START + timedelta(hours=1)]


async def test_schedules_run_at_their_times_and_make_up_for_the_last_missed_one(fake: FakeSdk) -> None:
    clock = ManualClock(START)
    seen: list[str] = []
    third = asyncio.Event()

    @schedule("0 8 * * mon-fri", timezone="Europe/Berlin")
    async def morning(sdk: Any, due: datetime) -> None:
        seen.append(f"{due:%a %H:%M}")
        if len(seen) == 3:
            third.set()

    run = asyncio.ensure_future(fake.automation.run(morning, clock=clock))
    for _ in range(3):
        wake = await asyncio.wait_for(clock.next_wake(), PATIENCE)
        while wake.hour != 7 or wake.minute:
            await asyncio.sleep(0)
            wake = await clock.next_wake()
        before = len(seen)
        clock.advance((wake - clock.now()).total_seconds())
        while len(seen) == before:
            await asyncio.sleep(0)
    await asyncio.wait_for(third.wait(), PATIENCE)
    assert seen == ["Tue 07:00", "Wed 07:00", "Thu 07:00"]
    while (await clock.next_wake()) - clock.now() < timedelta(hours=23):  # the run is settled when it waits for Friday
        await asyncio.sleep(0)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    clock.advance(timedelta(days=12).total_seconds())  # until Tuesday of the week after next
    for _ in range(2):
        await fake.automation.run(morning, once=True, clock=clock)
    assert seen[3:] == ["Tue 07:00"]


async def test_a_schedule_that_was_never_there_owes_nothing(fake: FakeSdk) -> None:
    seen: list[datetime] = []

    @schedule("0 * * * *", missed="all")
    async def hourly(sdk: Any, due: datetime) -> None:
        seen.append(due)

    clock = ManualClock(START)
    await fake.automation.run(hourly, once=True, clock=clock)
    assert seen == []
    clock.advance(3 * 3600)
    await fake.automation.run(hourly, once=True, clock=clock)
    assert [due.hour for due in seen] == [13, 14, 15]


async def test_wrong_runs_are_refused(fake: FakeSdk) -> None:
    @runbook()
    async def book(sdk: Any) -> None: ...

    @on("*")
    async def never(sdk: Any, event: Any) -> None: ...

    with pytest.raises(isdk.exceptions.ValidationError, match="sources"):
        await fake.automation.run(book)
    with pytest.raises(isdk.exceptions.ValidationError, match="concurrency"):
        await fake.automation.run(never, concurrency=0)
    with pytest.raises(isdk.exceptions.NotFoundError, match="there are: book"):
        await fake.automation.run_runbook(book, name="other")
    running = asyncio.ensure_future(fake.automation.run(never))
    await asyncio.sleep(0)
    with pytest.raises(isdk.exceptions.InvalidTransitionError):
        await fake.automation.run(never)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# ---- what a runbook shows and foretells ------------------------------------------------------------------------------


class RecordedSdk(FakeSdk):
    """With the parts that a recorder knows: an event log and pools that only answer what is asked here."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.pools = isdk.pools.PoolManager(self)  # type: ignore[arg-type]
        self.events = isdk.events.EventLog(self)  # type: ignore[arg-type, assignment]

    async def _call(self, method: Any, *arguments: Any, **named: Any) -> Any:
        called: list[str] = []

        class Native:
            def __getattr__(self, name: str) -> Any:
                called.append(name)

        method(Native())
        if called == ["next_events"]:
            return [{"sequence": arguments[1] + 1, "type": "a.b", "subject": "s-1", "data": {}}]
        raise RuntimeError(f"no pool is called {arguments!r}")


QUOTES = 'it\'s "my" \\ pass\u00e9'


@pytest.mark.parametrize("secret", [QUOTES, "o'clock", 'say "x"', "back\\slash", "two\nlines"])
async def test_secrets_are_shown_nowhere(tmp_path: Path, secret: str) -> None:
    sdk = RecordedSdk(tmp_path)

    @runbook(secret=["token", "keys", "pin"])
    async def book(sdk: Any, token: str, keys: list[str], pin: int) -> None:
        for key in [token, *keys, f"{token} '\"", str(pin)]:
            try:
                await sdk.pools.drain(key)
            except RuntimeError:
                pass
        raise RuntimeError(json.dumps([token, keys]) + repr([token, keys, pin]))

    keys = [f"key-{secret}-1", "hunter2"]
    given = {"token": secret, "keys": keys, "pin": 90210}
    report = await sdk.automation.run_runbook(book, given)
    assert report.outcome == "failed" and len(report.steps) == 5
    assert {step.arguments["name"] for step in report.steps} >= {"'***'"}
    recorded = [text for record in await sdk.automation.history() for text in texts_in(record)]
    for text in [*recorded, *texts_in(report.to_dict()), str(report)]:
        for hidden in (secret, *keys, "90210"):
            assert hidden not in text and repr(hidden)[1:-1] not in text and json.dumps(hidden)[1:-1] not in text


def texts_in(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for each in value.values() for text in texts_in(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in texts_in(each)]
    return texts_in(vars(value)) if hasattr(value, "__dict__") else [str(value)]


async def test_a_dry_run_does_not_wait_for_what_no_planned_change_will_bring(tmp_path: Path) -> None:
    sdk = RecordedSdk(tmp_path)
    seen: list[int] = []

    @runbook()
    async def waits(sdk: Any, change_first: bool) -> None:
        if change_first:
            await sdk.pools.drain("desks")
        async for event in sdk.events.watch():
            seen.append(event["sequence"])
            if event["sequence"] == 3:
                await sdk.pools.drain("desks")

    for change_first, expected in ((True, []), (False, [1, 2, 3])):
        seen.clear()
        run = sdk.automation.run_runbook(waits, {"change_first": change_first}, dry_run=True)
        report = await asyncio.wait_for(run, PATIENCE)
        assert report.outcome == "incomplete" and "events.watch" in report.error
        assert seen == expected and len(report.steps) == 1


async def test_a_cancelled_ephemeral_session_of_automation_is_ended_and_recorded(tmp_path: Path) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class OneSession:
        async def _call(self, method: Any, *arguments: Any, **named: Any) -> Any:
            if not asked.is_set():
                asked.set()
                await answer.wait()
            return {"id": "s-1"}

    recorder = Recorder()
    sessions = recorder.wrap(isdk.UserSessionManager(OneSession()), "sessions")  # type: ignore[arg-type]

    async def handler() -> None:
        async with sessions.ephemeral(isdk.SessionRequest(user_id="alice")):
            raise AssertionError("it was cancelled")

    task = asyncio.ensure_future(handler())
    await asked.wait()
    task.cancel()
    await asyncio.sleep(0)
    answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(step.call, step.outcome) for step in recorder.steps] == [
        ("sessions.create", "done"),
        ("session.terminate", "done"),
    ]


# ---- the audit trail -------------------------------------------------------------------------------------------------


def test_the_audit_trail_shows_what_was_tampered_with(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for number in range(3):
        AuditTrail(path).append({"number": number})
    with path.open("a") as file:
        file.write('{"cut o')  # the end of a process
    trail = AuditTrail(path)
    trail.append({"number": 3})
    assert [record["number"] for record in trail.records()] == [0, 1, 2, 3]
    assert trail.problems() == ["line 4: it is not a record"]
    lines = path.read_text().splitlines()
    del lines[3]
    path.write_text("\n".join(lines) + "\n")
    assert trail.problems() == []
    for changed, problem in [
        ([lines[0], lines[1].replace('"number": 1', '"number": 7'), *lines[2:]], "line 2: it was changed"),
        ([lines[0], *lines[2:]], "line 2: it does not follow"),
        ([lines[1], lines[0], *lines[2:]], "line 1: it does not follow"),
    ]:
        path.write_text("\n".join(changed) + "\n")
        assert any(found.startswith(problem) for found in trail.problems())


async def test_runbooks_at_the_same_time_keep_the_chain(fake: FakeSdk) -> None:
    both = asyncio.Barrier(2)

    @runbook()
    async def book(sdk: Any) -> None:
        await both.wait()

    other = isdk.automation.Automation(fake)  # type: ignore[arg-type]  # as in another process
    await asyncio.gather(fake.automation.run_runbook(book), fake.automation.run_runbook(book))
    await asyncio.gather(fake.automation.run_runbook(book), other.run_runbook(book))
    assert await fake.automation.verify_history() == []
    assert len(await fake.automation.history()) == 8


def test_two_processes_keep_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    script = f"""
from pathlib import Path
from infrastructure_sdk.automation.audit import AuditTrail
trail = AuditTrail(Path({str(path)!r}))
for number in range(200):
    trail.append({{"number": number, "text": "x" * number * 10}})
"""
    writers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [writer.wait(PATIENCE) for writer in writers] == [0, 0]
    trail = AuditTrail(path)
    assert trail.problems() == [] and len(list(trail.records())) == 400
    trail.append({"long": "x" * 200_000})
    AuditTrail(path).append({"after": "a line that is longer than a block"})
    assert trail.problems() == []


def test_a_full_disk_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.jsonl"
    trail, write = AuditTrail(path), os.write
    trail.append({"number": 0})
    room = 10

    def short(descriptor: int, content: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        written = write(descriptor, content[: min(room, 4)])
        room -= written
        return written

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(isdk.exceptions.StoreError, match="No space"):
        trail.append({"number": 1})
    assert len(path.read_text().splitlines()) == 1
    room = 100_000
    trail.append({"number": 2})
    assert [record["number"] for record in trail.records()] == [0, 2] and trail.problems() == []


# ---- on a real installation, without a guest -------------------------------------------------------------------------

OPS = '''
import os, signal
from infrastructure_sdk.automation import on, runbook, schedule

@on("pool.*", from_start=True)
async def note(sdk, event):
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{event['sequence']} {event['type']}\\n")
    if os.environ.get("DIE") == event["type"]:
        os.kill(os.getpid(), signal.SIGKILL)

@schedule("0 8 * * mon-fri", timezone="Europe/Berlin")
async def morning(sdk, due): ...

@runbook(secret=["token"])
async def refresh(sdk, pool: str, token: str, check: bool = False):
    """Drain and refill a pool."""
    drained = await sdk.pools.drain(pool)
    if check and drained.ready:
        raise RuntimeError(f"still ready; {token}")
    await sdk.pools.refill(pool, wait=False)
    return pool

@runbook()
async def replace(sdk, user: str):
    session = await sdk.sessions.create(__import__("infrastructure_sdk").SessionRequest(user_id=user))
    await session.wait_until_active()
    assert session.state == "active"
    same = await sdk.sessions.get(session.id)
    await same.suspend()
    assert session.state == same.to_dict()["state"] == "suspended"
    result = await session.exec("true")
    return result.exit_code
'''


@pytest.fixture
def ops(tmp_path: Path) -> Path:
    path = tmp_path / "ops.py"
    path.write_text(OPS)
    return path


@pytest.fixture
def site(state_dir: Path, image_dir: Path) -> isdk.InfraSDKConfig:
    """An installation whose pool keeps nothing ready: its events cost no guest."""
    pools = state_dir / "pools.yaml"
    pools.write_text("pools: [{name: desks, template: linux-tiny, min: 0, max: 1}]")
    return isdk.InfraSDKConfig.from_dict(
        {
            "store": {"state_directory": str(state_dir)},
            "vm": {"image_directory": str(image_dir)},
            "session": {"pools_file": str(pools)},
        }
    )


@pytest.mark.integration
async def test_after_the_end_of_a_process_every_event_was_handled(
    site: isdk.InfraSDKConfig, ops: Path, tmp_path: Path
) -> None:
    async with isdk.InfrastructureSDK(site) as sdk:
        for _ in range(2):
            await sdk.pools.drain("desks")
            await sdk.pools.refill("desks", wait=False)
        wanted = [
            f"{event['sequence']} {event['type']}"
            for event in await sdk.events.list()
            if event["type"].startswith("pool.")
        ]
    assert len(wanted) >= 2
    script = f"""
import asyncio, json
import infrastructure_sdk as isdk

async def main():
    async with isdk.InfrastructureSDK(json.loads({json.dumps(site.to_dict())!r})) as sdk:
        await sdk.automation.run({str(ops)!r}, once=True)

asyncio.run(main())
"""
    notes = tmp_path / "notes"
    die = {**os.environ, "NOTES": str(notes), "DIE": wanted[-1].split()[1]}
    done = subprocess.run([sys.executable, "-c", script], env=die, timeout=PATIENCE, check=False)
    assert done.returncode == -9
    live = {name: value for name, value in die.items() if name != "DIE"}
    subprocess.run([sys.executable, "-c", script], env=live, timeout=PATIENCE, check=True)
    seen = notes.read_text().splitlines()
    assert set(seen) == set(wanted), "nothing is missed"
    repeated = [line for line in wanted if seen.count(line) > 1]
    assert len(repeated) == 1 and len(seen) == len(wanted) + 1, "only what was interrupted is done again"


@pytest.mark.integration
async def test_a_runbook_is_planned_run_and_recorded(site: isdk.InfraSDKConfig, ops: Path) -> None:
    values = {"pool": "desks", "token": "hunter2"}
    async with isdk.InfrastructureSDK(site) as sdk:
        before = await sdk.events.list()
        plan = await sdk.automation.run_runbook(ops, values, name="refresh", dry_run=True, actor="eve")
        assert [step.call for step in plan.steps] == ["pools.drain", "pools.refill"]
        assert {step.outcome for step in plan.steps} == {"planned"}
        assert (plan.outcome, plan.result) == ("succeeded", "desks")
        assert await sdk.events.list() == before, "a dry run changes nothing"

        cut = await sdk.automation.run_runbook(ops, {**values, "check": True}, name="refresh", dry_run=True)
        assert cut.outcome == "incomplete" and "pools.drain would answer" in cut.error

        create = await sdk.automation.run_runbook(ops, {"user": "alice"}, name="replace", dry_run=True)
        assert [step.call for step in create.steps] == [
            "sessions.create",
            "session.wait_until_active",
            "session.suspend",
            "session.exec",
        ]
        assert create.outcome == "incomplete" and "session.exec" in create.error
        assert await sdk.sessions.list() == [] and await sdk.vms.list() == []

        done = await sdk.automation.run_runbook(ops, values, name="refresh", actor="eve")
        assert [step.outcome for step in done.steps] == ["done", "done"] and done.outcome == "succeeded"
        types = [event["type"] for event in (await sdk.events.list())[len(before) :]]
        assert "pool.drained" in types and "pool.refilled" in types
        wrong = await sdk.automation.run_runbook(ops, {"pool": "other", "token": "hunter2"}, name="refresh")
        assert wrong.outcome == "failed" and "NotFoundError" in wrong.error
        assert wrong.steps[0].outcome.startswith("failed: NotFoundError")

        records = await sdk.automation.history(name="refresh")
        assert [record["stage"] for record in records[:2]] == ["finished", "started"]
        finished = next(record for record in records if record["id"] == done.id)
        assert (finished["actor"], finished["outcome"], finished["dry_run"]) == ("eve", "succeeded", False)
        assert finished["parameters"] == {"pool": "'desks'", "token": "***", "check": "False"}
        assert [step["call"] for step in finished["steps"]] == ["pools.drain", "pools.refill"]
        assert "hunter2" not in json.dumps(await sdk.automation.history())
        assert await sdk.automation.verify_history() == []
        assert "eve" in str(records) and len(await sdk.automation.history(limit=3)) == 3


@pytest.mark.integration
def test_the_command_line_runs_automation(site: isdk.InfraSDKConfig, ops: Path, tmp_path: Path) -> None:
    document = tmp_path / "site.json"
    document.write_text(json.dumps(site.to_dict()))
    runner = CliRunner()
    environment = {"NOTES": str(tmp_path / "notes")}

    def call(*words: str) -> Any:
        return runner.invoke(app, ["--config", str(document), *words], env=environment)

    listed = call("automation", "list", str(ops), "-o", "json")
    assert [(row["name"], row["kind"]) for row in json.loads(listed.stdout)] == [
        ("note", "handler"),
        ("morning", "schedule"),
    ]
    assert "Europe/Berlin" in listed.stdout
    books = call("runbook", "list", str(ops))
    assert "pool=str token=str [check=bool]" in books.stdout and "Drain and refill" in books.stdout
    given = ["-p", "pool=desks", "-p", "token=hunter2"]
    planned = call("runbook", "run", str(ops), "refresh", *given, "--dry-run")
    assert planned.exit_code == 0 and "nothing was changed" in planned.stdout, planned.output
    assert "pools.drain(name='desks'): planned" in planned.stdout
    ran = call("runbook", "run", str(ops), "refresh", *given, "-o", "json")
    assert json.loads(ran.stdout)["outcome"] == "succeeded"
    handled = call("automation", "run", str(ops), "--once")
    assert handled.exit_code == 0, handled.output
    assert "pool.drained" in (tmp_path / "notes").read_text()
    told = call("automation", "history", "--name", "note", "-o", "json")
    assert {record["outcome"] for record in json.loads(told.stdout) if record["stage"] == "finished"} == {"succeeded"}
    verified = call("automation", "history", "--verify")
    assert (verified.exit_code, verified.stdout) == (0, "verified\n")
    assert json.loads(call("automation", "parked", "-o", "json").stdout) == []
    assert call("automation", "retry", "note", "1").exit_code == 3
    assert call("runbook", "run", str(ops), "absent").exit_code == 3
    assert call("runbook", "run", str(ops), "refresh", "-p", "pool").exit_code == 2
    assert call("runbook", "run", str(ops), "refresh", "-p", "pool=x").exit_code == 2
    assert call("automation", "list", str(tmp_path / "absent.py")).exit_code == 3


@pytest.mark.integration
async def test_a_session_whose_machine_was_killed_is_brought_back(sdk: isdk.InfrastructureSDK, state_dir: Path) -> None:
    @on("session.lifecycle.failed", where={"data.reason": "ProcessKilled"}, from_start=True)
    async def bring_back(sdk: Any, event: Mapping[str, Any]) -> None:
        session = await sdk.sessions.recover(event["subject"])
        await session.wait_until_active()

    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    await session.wait_until_active()
    for process in processes_in(state_dir / "vms" / session.vm_id):
        os.kill(process, signal.SIGKILL)
    await session.wait_until("failed", timeout=PATIENCE)
    await sdk.automation.run(bring_back, once=True)
    assert (await session.refresh()).state == "active"
    finished, started = await sdk.automation.history()
    assert (started["stage"], finished["outcome"], finished["attempt"]) == ("started", "succeeded", 1)
    assert [step["call"] for step in finished["steps"]] == ["sessions.recover", "session.wait_until_active"]


@pytest.mark.integration
def test_the_synchronous_twin_runs_a_runbook_inside_a_running_loop(site: isdk.InfraSDKConfig, ops: Path) -> None:
    async def inside() -> str:
        with sync.InfrastructureSDK(site) as sdk:
            plan = sdk.automation.run_runbook(ops, {"pool": "desks", "token": "t"}, name="refresh", dry_run=True)
            return str(plan)

    assert "refresh: succeeded (dry run" in asyncio.run(inside())
