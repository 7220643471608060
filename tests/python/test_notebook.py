"""The fleet's timeline, the idle explorer, recorded events, the live table, incidents that become tests."""

from __future__ import annotations

import ast
import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync
from infrastructure_sdk import notebook
from infrastructure_sdk.cli import app
from infrastructure_sdk.notebook.incident import _literal
from infrastructure_sdk.notebook.recording import time_of

START = datetime(2026, 3, 2, 8, tzinfo=timezone.utc)
RECORDING = Path(__file__).parents[2] / "examples" / "notebooks" / "recordings" / "five_people.jsonl"


class Log:
    """Events of sessions, by minutes after 8:00."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, minute: float, kind: str, subject: str = "s-1", **data: Any) -> Log:
        time = (START + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
        number = len(self.events) + 1
        event = {"sequence": number, "time": time, "type": kind, "subject": subject, "data": data}
        self.events.append({**event, "execution_id": "e-1", "correlation_id": ""})
        return self

    def begin(self, minute: float, subject: str = "s-1", user: str = "alice") -> Log:
        self.add(minute, "session.lifecycle.created", subject, user_id=user, template="desktop")
        self.add(minute, "session.lifecycle.started", subject, **{"from": "pending", "to": "provisioning"})
        return self.change(minute + 1, "ready", "provisioning", "active", subject)

    def change(self, minute: float, what: str, old: str, new: str, subject: str = "s-1", **data: Any) -> Log:
        return self.add(minute, f"session.lifecycle.{what}", subject, **{"from": old, "to": new}, **data)

    def quiet(self, since: float, timeout: float, subject: str = "s-1") -> Log:
        quiet_since = (START + timedelta(minutes=since)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self.add(since + timeout, "session.idle.armed", subject, quiet_since=quiet_since, verdict="armed")

    def suspend(self, since: float, timeout: float = 30, subject: str = "s-1") -> Log:
        self.quiet(since, timeout, subject)
        self.change(since + timeout + 1, "suspending", "active", "suspending", subject, cause="idle")
        return self.change(since + timeout + 1.1, "suspended", "suspending", "suspended", subject, cause="idle")

    def back(self, minute: float, subject: str = "s-1") -> Log:
        self.change(minute, "resuming", "suspended", "resuming", subject, cause="request")
        return self.change(minute + 0.1, "resumed", "resuming", "active", subject, cause="request")

    def end(self, minute: float, subject: str = "s-1", cause: str = "request") -> Log:
        self.change(minute, "terminating", "active", "terminating", subject, cause=cause)
        return self.change(minute + 0.1, "terminated", "terminating", "terminated", subject, cause=cause)


def day() -> list[dict[str, Any]]:
    """Alice is suspended and back five minutes later; Bob calls a warning off and is suspended for good."""
    log = Log().begin(0).begin(2, "s-2", "bob <b>")
    log.suspend(20).back(56).end(120)
    log.quiet(30, 30, "s-2").add(60.5, "session.idle.disarmed", "s-2").suspend(70, 30, "s-2")
    log.add(130, "pool.drained", "desks")
    for number, event in enumerate(sorted(log.events, key=lambda event: event["time"]), start=1):
        event["sequence"] = number
    return sorted(log.events, key=lambda event: event["sequence"])


# ---- recorded events -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "micro"),
    [("08:00:00Z", 0), ("08:00:00.5Z", 500000), ("08:00:00.123456789Z", 123456), ("10:00:00+02:00", 0)],
)
def test_times_of_events_are_read(text: str, micro: int) -> None:
    assert time_of(f"2026-03-02T{text}") == START.replace(microsecond=micro)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = notebook.write_events(tmp_path / "log.jsonl", reversed(day()))
    assert notebook.read_events(path) == day()


@pytest.mark.parametrize("line", ["[]", "{}", "x", '{"sequence": 1, "type": "a", "subject": "s", "time": "soon"}', "7"])
def test_a_line_that_is_no_event_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(day()[0]) + "\n\n" + line + "\n")
    with pytest.raises(isdk.exceptions.ValidationError, match=r"log\.jsonl:3"):
        notebook.read_events(path)
    with pytest.raises(isdk.exceptions.NotFoundError):
        notebook.read_events(tmp_path / "absent.jsonl")


# ---- the fleet -------------------------------------------------------------------------------------------------------


def test_the_fleet_is_drawn_and_counted() -> None:
    fleet = isdk.FleetTimeline(day())
    alice, bob = fleet.sessions()
    assert (alice.user, alice.state, alice.suspensions, alice.failures) == ("alice", "terminated", 1, 0)
    assert alice.running == pytest.approx((51.1 + 120 - 56) * 60, abs=1)
    assert alice.suspended == pytest.approx((56 - 51.1) * 60, abs=1)
    assert (alice.unused, bob.unused) == (31 * 60, 31 * 60), "a warning that was called off is not counted"
    assert fleet.to_dicts()[1]["state"] == "suspended"
    svg = fleet.to_svg()
    root = ElementTree.fromstring(svg)
    assert "bob &lt;b&gt;" in svg and "not in use" in svg
    bands = [node for node in root.iter() if node.tag.endswith("rect")]
    assert all(float(node.attrib["width"]) >= 0 for node in bands)
    edges = [float(node.attrib["x"]) + float(node.attrib["width"]) for node in bands if "x" in node.attrib]
    assert max(edges) <= 900


def test_a_large_fleet_is_cut_and_says_so() -> None:
    log = Log()
    for number in range(50):
        log.begin(number, f"s-{number}", f"user-{number}")
    assert "and 40 more" in isdk.FleetTimeline(log.events, rows=10).to_svg()
    with pytest.raises(ValueError, match="events"):
        isdk.FleetTimeline([event for event in day() if event["type"] == "pool.drained"])
    one = isdk.FleetTimeline(Log().begin(0).events[:1]).to_svg()
    ElementTree.fromstring(one)


# ---- idleness --------------------------------------------------------------------------------------------------------


def test_other_timeouts_are_answered_from_the_log() -> None:
    explorer = isdk.IdleExplorer(day())
    assert [(spell.session, spell.suspended is None, spell.end is None) for spell in explorer.spells] == [
        ("s-1", False, False),
        ("s-2", True, False),
        ("s-2", False, True),
    ]
    assert explorer.recorded_timeout == 31 * 60
    short, recorded, longer, longest = explorer.what_if("10m", "31m", "35m", "10h")
    # Alice was away for 36 minutes, Bob for 30.5, then for good (60 minutes until the log ends).
    assert (recorded.suspensions, recorded.came_back_soon, recorded.complete) == (2, 1, True)
    assert recorded.unused == (31 + 30.5 + 31) * 60
    assert (short.suspensions, short.came_back_soon, short.complete) == (3, 0, False)
    assert (longer.suspensions, longer.came_back_soon) == (2, 1)
    assert (longest.suspensions, longest.unused) == (0, (36 + 30.5 + 60) * 60)
    table = explorer.table("10m", "31m")
    assert "at least" in table._repr_html_() and "2 suspensions, 1 of them back soon" in repr(table)
    assert table.to_dicts()[1]["suspensions"] == 2


def test_a_longer_timeout_never_suspends_more_and_never_wastes_less() -> None:
    answers = isdk.IdleExplorer(day()).what_if(*(60 * minutes for minutes in range(1, 120, 3)))
    for one, next_one in itertools.pairwise(answers):
        assert next_one.suspensions <= one.suspensions and next_one.unused >= one.unused


def spells_of(log: Log) -> list[tuple[Any, ...]]:
    """Minutes after 8:00: begin, suspended, end, over."""

    def minute(moment: datetime | None) -> float | None:
        return None if moment is None else round((moment - START).total_seconds() / 60, 1)

    found = isdk.IdleExplorer(log.events).spells
    return [(minute(one.begin), minute(one.suspended), minute(one.end), minute(one.over)) for one in found]


def test_quiet_ends_with_the_session_or_the_log() -> None:
    assert spells_of(Log().begin(0).quiet(20, 30).end(70).begin(90, "s-2")) == [(20, None, None, 70)]
    failed = Log().begin(0).quiet(20, 30).change(60, "failed", "active", "failed").begin(90, "s-2")
    assert spells_of(failed) == [(20, None, None, 60)]
    assert spells_of(Log().begin(0).suspend(20).end(70).begin(90, "s-2")) == [(20, 51, None, 70)]
    assert spells_of(Log().begin(0).quiet(20, 30).begin(90, "s-2")) == [(20, None, None, 91)]
    (answer,) = isdk.IdleExplorer(Log().begin(0).quiet(20, 30).end(70).begin(900, "s-2").events).what_if("2h")
    assert (answer.suspensions, answer.unused) == (0, 50 * 60), "an ended session does not go on without use"


def test_a_suspension_that_was_asked_for_is_not_one_of_idleness() -> None:
    log = Log().begin(0).quiet(20, 30).change(55, "suspending", "active", "suspending", cause="request")
    log.change(55.1, "suspended", "suspending", "suspended", cause="request").back(58).end(100)
    assert spells_of(log) == [(20, None, None, 55)]
    explorer = isdk.IdleExplorer(log.events)
    assert explorer.recorded_timeout == 0
    (answer,) = explorer.what_if("36m")
    assert (answer.suspensions, answer.came_back_soon) == (0, 0)


@pytest.mark.parametrize("timeout", [0, -1, "soon", float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises(isdk.exceptions.ValidationError):
        isdk.IdleExplorer(day()).what_if(timeout)
    with pytest.raises(isdk.exceptions.ValidationError):
        isdk.IdleExplorer([])


# ---- the live table --------------------------------------------------------------------------------------------------


class FakeSession:
    def __init__(self, number: int, state: str) -> None:
        self.id, self.user_id, self.template, self.state = f"s-{number}", "eve <b>", "linux-tiny", state

    def to_dict(self) -> dict[str, Any]:
        return {"created_at": "2026-03-02T08:00:00.000000000Z", "last_change": {"at": "2026-03-02T09:00:00Z"}}


class FakeSdk:
    """An SDK whose only session changes when an event is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.state = "active"
        self.wake: Callable[[], None] = lambda: None
        self.events = self.sessions = self

    async def list(self, *, after: int = 0, limit: int = 1000) -> list[Any]:
        if limit == 200:
            return [FakeSession(1, self.state)]
        return [event for event in self.told if event["sequence"] > after][:limit]

    async def watch(self, *, after: int = 0) -> Any:
        loop, more = asyncio.get_running_loop(), asyncio.Event()
        self.wake = lambda: loop.call_soon_threadsafe(more.set)  # type: ignore[assignment,return-value]
        while True:
            more.clear()
            for event in await self.list(after=after):
                after = event["sequence"]
                yield event
            await more.wait()

    def tell(self, state: str) -> None:
        self.state = state
        self.told.append({"sequence": len(self.told) + 1, "subject": "s-1", "type": f"session.lifecycle.{state}"})
        self.wake()


@pytest.mark.parametrize("with_widget", [True, False])
def test_the_live_table_follows_without_a_loop_of_its_own(with_widget: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if with_widget:
        pytest.importorskip("anywidget")
    else:
        monkeypatch.setitem(sys.modules, "anywidget", None)
    sdk = FakeSdk()
    live = isdk.LiveSessions(sdk)
    assert live.wait_for(lambda rows: [row["state"] for row in rows] == ["active"])
    bundle = live._repr_mimebundle_()
    assert "eve &lt;b&gt;" in bundle["text/html"] and "2026-03-02 09:00:00" in bundle["text/html"]
    assert ("application/vnd.jupyter.widget-view+json" in bundle) is with_widget
    sdk.tell("suspended")
    assert live.wait_for(lambda rows: rows[0]["state"] == "suspended")
    assert live.rows[0]["last event"] == "session.lifecycle.suspended"
    if with_widget:
        assert live._widget.rows == live.rows and live._widget.status == "live"
    live.close()
    live.close()
    assert live.status == "closed" and "closed" in live._repr_html_()
    for most in (0, 1001, "7"):
        with pytest.raises(ValueError, match="most"):
            isdk.LiveSessions(sdk, most=most)  # type: ignore[arg-type]


async def test_the_live_table_uses_the_loop_that_runs() -> None:
    sdk = FakeSdk()
    live = isdk.LiveSessions(sdk)
    assert await asyncio.wait_for(live.ready(), 60) is live
    assert [row["state"] for row in live.rows] == ["active"]
    live.close()


async def test_the_live_table_looks_once_for_all_that_came_meanwhile() -> None:
    class Slow(FakeSdk):
        looks = 0

        async def list(self, *, after: int = 0, limit: int = 1000) -> list[Any]:
            if limit == 200:
                self.looks += 1
                if self.looks == 2:
                    for number in range(500):
                        self.tell(f"state-{number}")
                    self.state = "at last"
                    async with asyncio.timeout(60):
                        while self.given < 501:
                            await asyncio.sleep(0)
            return await super().list(after=after, limit=limit)

        given = 0

        async def watch(self, *, after: int = 0) -> Any:
            async for event in super().watch(after=after):
                yield event
                self.given = event["sequence"]

    sdk = Slow()
    live = isdk.LiveSessions(sdk)
    await live.ready()
    async with asyncio.timeout(60):
        while sdk.looks < 2:
            if not sdk.told:
                sdk.tell("first")
            await asyncio.sleep(0)
        while live.rows[0]["last event"] != "session.lifecycle.state-499":
            await asyncio.sleep(0)
    assert live.rows[0]["state"] == "at last" and sdk.looks <= 3
    live.close()


async def test_the_live_table_says_when_it_ends(tmp_path: Path) -> None:
    sdk = isdk.InfrastructureSDK(state_dir=tmp_path)
    live = isdk.LiveSessions(sdk)
    async with asyncio.timeout(60):
        while live.status == "not begun":
            await asyncio.sleep(0)
    assert "not open" in live.status


def test_the_live_table_of_a_synchronous_sdk(state_dir: Path) -> None:
    with sync.InfrastructureSDK(state_dir=state_dir) as sdk:
        live = isdk.LiveSessions(sdk)
        assert live.wait_for(lambda rows: live.status == "live")
        live.close()


# ---- incidents -------------------------------------------------------------------------------------------------------


def run_pytest(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent, timeout=120, check=False)


def test_an_incident_becomes_a_test_that_fails_until_the_rules_are_better(tmp_path: Path) -> None:
    path = tmp_path / "test_incident.py"
    incident = notebook.replay("s-1", day(), pytest=path)
    assert (incident.kind, incident.reproduced) == ("wrongly_suspended", True)
    assert "suspended (idle) at 08:51:00 and wanted again 300 s later" in str(incident)
    assert incident.policy["idle_timeout"] == "1800s"  # type: ignore[index]
    failed = run_pytest(path)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "wrongly_suspended" in failed.stdout and "1 failed" in failed.stdout
    path.write_text(path.read_text().replace('"1800s"', '"2h"'))
    assert "1 passed" in run_pytest(path).stdout


def test_other_rules_and_other_incidents(tmp_path: Path) -> None:
    better = notebook.replay("s-1", day(), policy={"idle_timeout": "2h"})
    assert not better.reproduced and "does not do that" in str(better)
    log = Log().begin(0).end(60, cause="ttl").events
    lost = notebook.replay("s-1", log, pytest=tmp_path / "test_lost.py")
    assert (lost.kind, lost.reproduced) == ("lost", True), str(lost)
    assert run_pytest(tmp_path / "test_lost.py").returncode == 1


def test_nothing_is_written_of_what_the_replay_does_not_do(tmp_path: Path) -> None:
    path = tmp_path / "test_incident.py"
    assert not notebook.replay("s-1", day(), policy={"idle_timeout": "2h"}, pytest=path).reproduced
    assert not path.exists()


def test_long_idle_timeouts_are_replayed() -> None:
    log = []
    for event in day():
        data = dict(event["data"])
        if event["type"] == "session.idle.armed":
            quiet = datetime.fromisoformat(data["quiet_since"][:19]) - timedelta(minutes=90)
            data["quiet_since"] = quiet.isoformat() + "Z"
        log.append({**event, "data": data})
    incident = notebook.replay("s-1", log)
    assert incident.policy["idle_timeout"] == "7200s"  # type: ignore[index]
    assert incident.policy["sample_interval"] == "60s"  # type: ignore[index]


def test_texts_of_rules_stay_what_they_are() -> None:
    text = 'a "quote", a \\ and \U0001f600'
    assert ast.literal_eval(_literal({"name": text})) == {"name": text}


def test_what_is_no_incident_is_refused() -> None:
    with pytest.raises(isdk.exceptions.UnsupportedError, match="nothing went wrong"):
        notebook.replay("s-2", day())
    with pytest.raises(isdk.exceptions.UnsupportedError):
        notebook.replay("s-1", day(), soon="1m")
    with pytest.raises(isdk.exceptions.NotFoundError):
        notebook.replay("s-9", day())
    with pytest.raises(isdk.exceptions.ValidationError, match="midst"):
        notebook.replay("s-1", day()[5:])


def test_the_command_line_writes_the_test(tmp_path: Path) -> None:
    log = notebook.write_events(tmp_path / "log.jsonl", day())
    target = tmp_path / "test_it.py"
    runner = CliRunner()
    told = runner.invoke(app, ["session", "replay", "s-1", "--events", str(log), "--pytest", str(target)])
    assert told.exit_code == 0 and "wanted again" in told.stdout, told.output
    assert target.read_text().startswith('"""s-1 was suspended')
    as_json = runner.invoke(app, ["session", "replay", "s-1", "--events", str(log), "-o", "json"])
    assert json.loads(as_json.stdout)["kind"] == "wrongly_suspended"
    rules = tmp_path / "better.yaml"
    rules.write_text("idle_timeout: 2h")
    better = runner.invoke(app, ["session", "replay", "s-1", "--events", str(log), "--policy", str(rules)])
    assert better.exit_code == 1 and "does not do that" in better.stdout
    assert runner.invoke(app, ["session", "replay", "s-9", "--events", str(log)]).exit_code == 3
    assert runner.invoke(app, ["session", "replay", "s-1", "--events", str(tmp_path / "no")]).exit_code == 3
