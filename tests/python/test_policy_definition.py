"""Defining, loading and reloading policies; the helpers."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrastructure_sdk import policy as p
from infrastructure_sdk.exceptions import NotFoundError, PolicyError, ValidationError
from infrastructure_sdk.policy.loader import read_source

PATIENT = """
from infrastructure_sdk.policy import IdleRequest, SessionDecision, keep, policy, suspend

@policy("idle", name="patient", version="1", author="ops@example.org")
def patient(request: IdleRequest) -> SessionDecision:
    if request.session.tags.get("project") == "thesis" and request.quiet_for < 3 * 3600:
        return keep("a thesis runs", ask_again_after=600)
    return suspend("quiet")
"""
COUNTING = """
from infrastructure_sdk.policy import Policy, keep, suspend

class Counting(Policy):
    version = "2"

    def idle(self, request, state):
        state["asked"] = state.get("asked", 0) + 1
        return suspend() if state["asked"] > 2 else keep()
"""


def test_a_decorated_function_stays_a_function_and_becomes_a_policy() -> None:
    definition = p.load_source(PATIENT, "patient.py")
    assert definition.identity == p.PolicyIdentity(
        "patient", "1", "ops@example.org", hashlib.sha256(PATIENT.encode()).hexdigest()
    )
    assert definition.points == ("idle",) and not definition.keeps_state
    assert definition.handlers["idle"](p.sample_request("idle")) == p.suspend("quiet")


def test_a_name_is_taken_from_the_file_and_fields_may_be_said_once() -> None:
    source = PATIENT.replace('name="patient", ', "") + (
        '\n@policy("schedule")\ndef hours(request):\n    return keep()\n'
    )
    definition = p.load_source(source, "/somewhere/nightly.py")
    assert definition.identity.name == "nightly" and definition.identity.version == "1"
    assert definition.points == ("idle", "schedule")


def test_a_class_keeps_its_state_where_it_is_given() -> None:
    definition = p.load_source(COUNTING, "counting.py")
    handler, request, state = definition.handlers["idle"], p.sample_request("idle"), ""
    actions = []
    for _ in range(3):
        decision, state = handler(request, state)
        actions.append(decision.action)
    assert actions == ["keep", "keep", "suspend"] and state == '{"asked":3}'
    assert definition.identity.name == "counting" and definition.keeps_state


@pytest.mark.parametrize(
    ("value", "error"), [("'x' * 20000", "16384 at most"), ("{1}", "not JSON"), ("float('nan')", "not JSON")]
)
def test_a_state_that_cannot_be_kept_is_refused(value: str, error: str) -> None:
    source = COUNTING.replace('state.get("asked", 0) + 1', value).replace('state["asked"] > 2', "False")
    with pytest.raises((ValueError, TypeError), match=error):
        p.load_source(source, "counting.py").handlers["idle"](p.sample_request("idle"), "")


def test_functions_of_a_notebook_are_defined_in_place() -> None:
    @p.policy("admit")
    def small_ones(request: p.AdmitRequest) -> p.AdmitDecision:
        return p.deny("too large") if request.session.cpu_cores > 4 else p.admit()

    definition = p.define(small_ones)
    assert definition.identity.name == "small_ones" and len(definition.identity.sha256) == 64
    p.dry_run(definition)


def bad(make: Any) -> Any:
    return pytest.param(make, id=f"line{make.__code__.co_firstlineno}")


@pytest.mark.parametrize(
    "make",
    [
        bad(lambda: p.policy()),
        bad(lambda: p.policy("sleep")),
        bad(lambda: p.policy("idle")(3)),  # type: ignore[type-var]
        bad(lambda: p.policy("idle")(lambda: p.keep())),
        bad(lambda: p.policy("idle")(lambda a, b: p.keep())),
        bad(lambda: p.policy("idle", name="x\n")(lambda request: p.keep()) and p.define([])),
        bad(lambda: p.define(p.policy("idle", name="x\n")(lambda request: p.keep()), source="")),
        bad(lambda: p.define(lambda request: p.keep())),
        bad(lambda: p.define(p.Policy)),
        bad(lambda: p.define(type("Nothing", (p.Policy,), {}))),
        bad(lambda: p.define(type("Wrong", (p.Policy,), {"idle": lambda self: None}))),
        bad(lambda: p.define(int)),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_policy_is_refused(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "it has 0"),
        ("def f(:", "no Python"),
        ("import time", "line 1"),
        ("1 / 0", "ZeroDivisionError"),
        (PATIENT + COUNTING, "it has 2"),
        (
            PATIENT + PATIENT.replace('"patient"', '"other"').replace("def patient", "def other"),
            "two functions|say name",
        ),
        ("async def f(request): pass", "awaits nothing"),
        ("x = '" + "x" * 2**20 + "'", "too long"),
    ],
)
def test_a_text_that_is_no_policy_is_refused(source: str, says: str) -> None:
    with pytest.raises((PolicyError, ValidationError), match=says):
        p.load_source(source, "bad.py")


@pytest.mark.parametrize("answer", ["None", "True", "'suspend'", "admit()", "keep", "1 / 0"])
def test_a_trial_finds_an_answer_that_is_none(answer: str) -> None:
    source = f"from infrastructure_sdk.policy import *\n@policy('idle')\ndef f(request):\n    return {answer}\n"
    with pytest.raises(PolicyError):
        p.dry_run(p.load_source(source, "f.py"))


def test_a_file_is_reloaded_only_when_the_new_text_is_good(tmp_path: Path) -> None:
    path = tmp_path / "patient.py"
    path.write_text(PATIENT)
    file = p.PolicyFile(path)
    first = file.definition
    assert not file.reload() and file.error is None
    for broken in ("def f(:", "import time", PATIENT.replace('suspend("quiet")', "None"), ""):
        path.write_text(broken)
        assert not file.reload() and file.error
        assert file.definition is first
    path.unlink()
    assert not file.reload() and "no policy" in (file.error or "")
    path.write_text(PATIENT.replace("quiet", "silent").replace("silent_for", "quiet_for"))
    assert file.reload() and file.error is None
    assert file.definition.identity.sha256 != first.identity.sha256
    assert file.definition.handlers["idle"](p.sample_request("idle")).reason == "silent"


def test_a_file_or_package_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        p.load_file(tmp_path / "none.py")
    with pytest.raises(PolicyError):
        p.load_file(tmp_path)
    with pytest.raises(NotFoundError, match="there is: none"):
        p.load_entry_point("none")


def test_a_policy_of_a_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "our_rules.py").write_text(PATIENT)
    info = tmp_path / "our_rules-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: our-rules\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[infrastructure_sdk.policies]\npatient = our_rules\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert p.load_entry_point("patient").identity.name == "patient"


@pytest.mark.parametrize("is_linked", [False, True], ids=["installed", "linked"])
def test_the_package_of_a_policy_is_not_run(is_linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, home = tmp_path / "site", tmp_path / ("home" if is_linked else "site")
    package = home / "strange_rules" / "inner"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text("raise SystemExit('it was run')")
    (package / "patient.py").write_text(PATIENT)
    info = site / "strange_rules-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-rules\nVersion: 1\n")
    names = ("patient = strange_rules.inner.patient", "none = strange_rules.inner.none")
    (info / "entry_points.txt").write_text("\n".join(("[infrastructure_sdk.policies]", *names)))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(home))
    assert read_source("entry:patient") == (PATIENT, str(package / "patient.py"))
    with pytest.raises(PolicyError, match="no source"):
        read_source("entry:none")


@pytest.mark.parametrize("point", p.POINTS)
def test_a_request_goes_through_json_and_back(point: str) -> None:
    request = p.sample_request(point)
    assert request.point == point
    assert p.policy_request_from_json(request.to_json()) == request
    assert p.standard(request) == p.policy_decision_from_json(point, p.standard(request).to_json())
    assert "alice" in repr(request) and request != 3


def test_requests_and_decisions_cannot_be_changed() -> None:
    request = p.sample_request("idle")
    for change in (
        lambda: setattr(request, "quiet_for", 0),
        lambda: setattr(request, "more", 0),
        lambda: setattr(request.session, "user_id", "bob"),
        lambda: setattr(p.SessionDecision, "action", "keep"),
        lambda: setattr(p.IdleRequest, "__eq__", None),
        lambda: type("Sub", (p.SessionDecision,), {}),
        lambda: request.session.tags.__setitem__("a", "b"),
    ):
        with pytest.raises((AttributeError, TypeError)):
            change()
    assert p.keep("x", ask_again_after=timedelta(minutes=1)) == p.SessionDecision(
        action="keep", reason="x", ask_again_after=60.0
    )
    assert p.standard(p.sample_request("schedule"), ask_again_after=timedelta(minutes=1)) == p.SessionDecision(
        ask_again_after=60.0
    )
    assert p.standard(p.sample_request("admit"), ask_again_after=60) == p.AdmitDecision()
    assert repr(p.deny("no")) == "AdmitDecision(action='deny', reason='no')"


def test_times_need_a_zone_and_bounds_hold() -> None:
    session = p.sample_request("idle").session
    with pytest.raises((TypeError, ValueError)):
        p.SizeRequest(now=datetime(2026, 1, 1), session=session)
    berlin = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    made = p.SizeRequest(now=berlin, session=session)
    assert made.now == berlin and made.now.utcoffset() == timedelta(0)
    for wrong in (-1.0, float("nan"), float("inf"), 1e12):
        with pytest.raises(ValidationError, match="ask_again_after"):
            p.keep(ask_again_after=wrong)
    with pytest.raises(ValidationError, match="action"):
        p.SessionDecision(action="explode")
    with pytest.raises(ValidationError, match="request"):
        p.standard(3)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc)))
def test_a_time_is_kept_to_the_microsecond(now: datetime) -> None:
    assert p.SizeRequest(now=now, session=p.sample_request("size").session).now == now


def at(text: str, zone: str = "UTC") -> Any:
    return SimpleNamespace(now=datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(timezone.utc))


@pytest.mark.parametrize(
    ("now", "inside"),
    [
        ("2026-03-02T07:59", False),
        ("2026-03-02T08:00", True),
        ("2026-03-02T17:59", True),
        ("2026-03-02T18:00", False),
        ("2026-03-07T12:00", False),  # a Saturday
    ],
)
def test_business_hours_are_those_of_the_zone(now: str, inside: bool) -> None:
    assert p.is_between(at(now, "Asia/Tokyo"), "08:00", "18:00", zone="Asia/Tokyo", days="mon-fri") is inside


def test_a_span_over_midnight_belongs_to_the_day_on_which_it_starts() -> None:
    night = {"start": "22:00", "end": "06:00", "zone": "UTC", "days": "fri"}
    assert p.is_between(at("2026-03-06T23:00"), **night) and p.is_between(at("2026-03-07T05:59"), **night)
    assert not p.is_between(at("2026-03-06T05:00"), **night) and not p.is_between(at("2026-03-07T23:00"), **night)


def test_seconds_until_know_of_changed_clocks_and_chosen_days() -> None:
    before = at("2026-03-28T20:00", "Europe/Berlin")  # the clocks go forward in that night
    assert p.seconds_until(before, "08:00", zone="Europe/Berlin") == 11 * 3600
    assert p.seconds_until(at("2026-03-06T18:00"), "08:00", zone="UTC", days="mon-fri") == 62 * 3600
    assert p.seconds_until(at("2026-03-06T08:00"), "08:00", zone="UTC") == 24 * 3600
    assert p.is_weekend(at("2026-03-07T12:00"), "UTC") and not p.is_weekend(at("2026-03-06T12:00"), "UTC")


@pytest.mark.parametrize(
    "wrong",
    [
        {"zone": "Mars/Olympus"},
        {"zone": "../etc"},
        {"start": "25:00"},
        {"start": "noon"},
        {"days": "someday"},
        {"days": ""},
    ],
)
def test_hours_that_do_not_exist_are_refused(wrong: dict[str, str]) -> None:
    good = {"start": "08:00", "end": "18:00", "zone": "UTC", "days": "mon-fri"}
    with pytest.raises(ValidationError):
        p.is_between(at("2026-03-06T12:00"), **{**good, **wrong})
