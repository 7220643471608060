"""The example policies: pure, and with the answers that their texts promise."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from infrastructure_sdk import simulation
from infrastructure_sdk.policy import (
    AdmitRequest,
    BudgetRequest,
    IdleRequest,
    InterruptionRequest,
    PlaceCandidate,
    PlaceRequest,
    PolicyDefinition,
    PolicySession,
    PolicyUsage,
    ScheduleRequest,
    SizeRequest,
    check_decision,
    dry_run,
    lint_file,
    load_file,
    policy_request_from_json,
)

POLICIES = Path(__file__).parents[2] / "examples" / "policies"
RECORDED = Path(__file__).parents[1] / "data" / "policies" / "recorded_requests.jsonl"
FILES = sorted(POLICIES.glob("*.py"))
MONDAY_NOON = datetime(2026, 3, 2, 11, tzinfo=timezone.utc)
MONDAY_NIGHT = datetime(2026, 3, 2, 21, tzinfo=timezone.utc)
SATURDAY = datetime(2026, 3, 7, 11, tzinfo=timezone.utc)
COURSE = datetime(2026, 3, 3, 9, 30, tzinfo=timezone.utc)  # Tuesday, 10:30 in Berlin


def session(now: datetime, **fields: Any) -> PolicySession:
    values: dict[str, Any] = {
        "id": "s-1",
        "user_id": "alice",
        "template_name": "linux-tiny",
        "session_type": "desktop",
        "state": "active",
        "cpu_cores": 4,
        "memory_bytes": 8 << 30,
        "created_at": now - timedelta(hours=3),
    }
    return PolicySession(**{**values, **fields})


def ask(policy: PolicyDefinition, point: str, request: Any) -> Any:
    decision = policy.handlers[point](request)
    check_decision(decision, request)
    return decision


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_pure_and_answers(path: Path) -> None:
    assert lint_file(path) == []
    definition = load_file(path)
    dry_run(definition)
    assert definition.identity.name == path.stem.replace("_", "-")
    assert definition.identity.version and definition.identity.author


def test_there_are_five() -> None:
    names = ["budget_guard", "business_hours", "gpu_fairness", "spot_first", "students_lab"]
    assert [path.stem for path in FILES] == names


def test_business_hours() -> None:
    policy = load_file(POLICIES / "business_hours.py")

    def idle(now: datetime, quiet: float, **fields: Any) -> Any:
        request = IdleRequest(now=now, session=session(now, **fields), quiet_for=quiet, idle_timeout=1800)
        return ask(policy, "idle", request)

    assert (idle(MONDAY_NOON, 1800).action, idle(MONDAY_NOON, 1800).ask_again_after) == ("keep", 900)
    assert idle(MONDAY_NOON, 7000).ask_again_after == 200
    assert idle(MONDAY_NOON, 7200).action == "suspend"
    assert idle(MONDAY_NIGHT, 1800).action == "suspend"
    assert idle(SATURDAY, 1800).action == "suspend"
    assert idle(SATURDAY, 90000, tags={"hours": "always"}).action == "keep"

    def schedule(now: datetime, quiet: float | None, **fields: Any) -> tuple[str, float | None]:
        request = ScheduleRequest(now=now, session=session(now, **fields), quiet_for=quiet)
        decision = ask(policy, "schedule", request)
        return decision.action, decision.ask_again_after

    closes = datetime(MONDAY_NOON.year, MONDAY_NOON.month, MONDAY_NOON.day, 19, tzinfo=ZoneInfo("Europe/Berlin"))
    assert schedule(MONDAY_NOON, 90000) == ("standard", (closes - MONDAY_NOON).total_seconds())
    assert schedule(MONDAY_NIGHT, 840) == ("standard", 60), "it cannot be quiet for long enough before"
    assert schedule(MONDAY_NIGHT, 900) == ("suspend", None)
    assert schedule(MONDAY_NIGHT, None) == ("standard", None), "what could not be seen is not suspended"
    assert schedule(MONDAY_NIGHT, 900, tags={"hours": "always"}) == ("standard", 86400)


def test_students_lab() -> None:
    policy = load_file(POLICIES / "students_lab.py")
    now = COURSE

    def admit(has: int, **fields: Any) -> Any:
        request = AdmitRequest(now=now, session=session(now, id="", **fields), usage=PolicyUsage(sessions_of_user=has))
        return ask(policy, "admit", request)

    assert admit(0).action == "standard"
    assert admit(1).action == "deny" and "already" in admit(1).reason
    assert admit(0, gpu_count=1).action == "deny"
    assert admit(0, gpu_count=1, tags={"project": "thesis"}).action == "standard"

    def size(**fields: Any) -> tuple[Any, Any]:
        decision = ask(policy, "size", SizeRequest(now=now, session=session(now, **fields)))
        return decision.cpu_cores, decision.memory_bytes

    assert size() == (2, 4 << 30)
    assert size(cpu_cores=1, memory_bytes=1 << 30) == (1, 1 << 30)

    def idle(when: datetime) -> Any:
        return ask(policy, "idle", IdleRequest(now=when, session=session(when), quiet_for=1800, idle_timeout=1800))

    assert (idle(COURSE).action, idle(COURSE).ask_again_after) == ("keep", 90 * 60)
    assert idle(COURSE + timedelta(minutes=90)).action == "suspend"
    assert idle(MONDAY_NOON).action == "suspend"

    def schedule(days: int, quiet: float | None) -> str:
        old = session(now, created_at=now - timedelta(days=days))
        return str(ask(policy, "schedule", ScheduleRequest(now=now, session=old, quiet_for=quiet)).action)

    assert schedule(31, 7200) == "terminate"
    assert [schedule(29, 7200), schedule(31, 60), schedule(31, None)] == ["standard"] * 3


def test_budget_guard() -> None:
    policy = load_file(POLICIES / "budget_guard.py")
    now = MONDAY_NOON

    def budget(quiet: float | None = 0.0, tags: dict[str, str] | None = None, **money: Any) -> Any:
        last = None if quiet is None else now - timedelta(seconds=quiet)
        asked = session(now, last_activity_at=last, tags=tags or {})
        return ask(policy, "budget", BudgetRequest(now=now, session=asked, currency="EUR", **money))

    assert budget(9000).action == "standard", "no limit, nothing to guard"
    assert budget(9000, spent_by_user=79, limit_of_user=100).action == "standard"
    assert budget(599, spent_by_user=80, limit_of_user=100).action == "standard"
    assert budget(None, spent_by_user=80, limit_of_user=100).action == "standard"
    quiet = budget(600, spent_by_user=85, limit_of_user=100)
    assert quiet.action == "suspend" and "85%" in quiet.reason
    assert budget(0, spent_by_user=100, limit_of_user=100).action == "suspend"
    assert budget(0, {"budget": "essential"}, spent_by_user=200, limit_of_user=100).action == "keep"
    tenant = {"spent_by_user": 1, "limit_of_user": 100, "spent_by_tenant": 400, "limit_of_tenant": 400}
    assert budget(0, **tenant).action == "suspend", "the tighter limit counts"
    assert budget(0, spent_by_user=0, limit_of_user=0).action == "suspend"


def test_spot_first() -> None:
    policy = load_file(POLICIES / "spot_first.py")
    now = MONDAY_NOON
    candidates = [
        PlaceCandidate(name="b", spot=True, price_per_hour=0.1),
        PlaceCandidate(name="a", spot=True, price_per_hour=0.1),
        PlaceCandidate(name="c", spot=True, price_per_hour=0.2),
        PlaceCandidate(name="d", spot=False, price_per_hour=0.3),
    ]

    def place(found: list[PlaceCandidate], **fields: Any) -> str:
        return str(
            ask(policy, "place", PlaceRequest(now=now, session=session(now, **fields), candidates=found)).candidate
        )

    assert place(candidates) == "a"
    assert place(candidates[::-1]) == "a"
    assert place(candidates, tags={"spot": "never"}) == "d"
    assert place(candidates, gpu_count=1) == "d"
    assert place(candidates[3:]) == "" and place(candidates[:3], gpu_count=1) == ""

    def interruption(kind: str, seconds: float | None) -> Any:
        deadline = None if seconds is None else now + timedelta(seconds=seconds)
        request = InterruptionRequest(now=now, session=session(now), kind=kind, deadline=deadline)
        return ask(policy, "interruption", request)

    assert interruption("spot", 120).action == "suspend" and "120 s" in interruption("spot", 120).reason
    assert interruption("spot", -5).action == interruption("maintenance", None).action == "suspend"
    assert interruption("memory_pressure", 60).action == "standard"


def test_gpu_fairness() -> None:
    policy = load_file(POLICIES / "gpu_fairness.py")

    def admit(now: datetime, wanted: int, mine: int, all_of_them: int) -> Any:
        usage = PolicyUsage(gpus_of_user=mine, gpus=all_of_them)
        return ask(policy, "admit", AdmitRequest(now=now, session=session(now, id="", gpu_count=wanted), usage=usage))

    assert admit(MONDAY_NOON, 0, 8, 8).action == "standard"
    assert admit(MONDAY_NOON, 4, 0, 2).action == "standard"
    assert admit(MONDAY_NOON, 2, 3, 3).action == "deny", "more than four"
    assert admit(MONDAY_NOON, 1, 0, 6).action == "standard", "scarce: the first"
    scarce = admit(MONDAY_NOON, 1, 1, 6)
    assert scarce.action == "deny" and "2 of 8 cards are free" in scarce.reason
    assert admit(MONDAY_NIGHT, 8, 0, 0).action == admit(SATURDAY, 2, 6, 6).action == "standard"

    def schedule(now: datetime, cards: int, quiet: float | None) -> str:
        asked = session(now, gpu_count=cards)
        return str(ask(policy, "schedule", ScheduleRequest(now=now, session=asked, quiet_for=quiet)).action)

    assert schedule(MONDAY_NOON, 1, 1200) == "suspend"
    assert [schedule(MONDAY_NOON, 1, 1199), schedule(MONDAY_NOON, 0, 9000)] == ["standard"] * 2
    assert [schedule(MONDAY_NIGHT, 1, 1200), schedule(MONDAY_NOON, 1, None)] == ["standard"] * 2

    def idle(cards: int) -> str:
        asked = session(MONDAY_NOON, gpu_count=cards)
        request = IdleRequest(now=MONDAY_NOON, session=asked, quiet_for=1800, idle_timeout=1800)
        return str(ask(policy, "idle", request).action)

    assert (idle(1), idle(0)) == ("suspend", "standard")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_answers_a_recorded_log_the_same_every_time(path: Path) -> None:
    lines = RECORDED.read_text(encoding="utf-8").splitlines()
    recorded = [(json.loads(line)["point"], policy_request_from_json(line)) for line in lines]

    def replay() -> list[str]:
        policy = load_file(path)
        return [repr(ask(policy, point, request)) for point, request in recorded if point in policy.points]

    answers = replay()
    assert len(answers) >= 5, "the log has questions for it"
    assert replay() == answers


EXPECTED = {
    "budget_guard": {("budget", "standard")},
    "business_hours": {("idle", "keep"), ("idle", "suspend")},
    "gpu_fairness": {("admit", "standard"), ("idle", "standard")},
    "spot_first": set(),  # the simulator's host is one place, and takes nothing back
    "students_lab": {("admit", "standard"), ("size", "resize"), ("idle", "keep"), ("idle", "suspend")},
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_replayed_before_it_touches_anyone(path: Path) -> None:
    fleet = simulation.Fleet(users=6, days=3)
    result = simulation.run(path, fleet, seed=5)
    found = {(decision.point, decision.answer) for decision in result.decisions}
    assert found >= EXPECTED[path.stem], found
    assert not {answer for _, answer in found} & {"failed", "invalid", "timed_out", "refused"}
    assert simulation.run(path, fleet, seed=5).to_json() == result.to_json()


def test_business_hours_spare_people_and_students_get_less() -> None:
    fleet = simulation.Fleet(users=12, days=5)
    builtin = simulation.run("builtin", fleet, seed=5)
    patient = simulation.run(POLICIES / "business_hours.py", fleet, seed=5)
    assert patient.total.wrongly_suspended < builtin.total.wrongly_suspended
