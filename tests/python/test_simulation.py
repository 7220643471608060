"""Simulations from Python and the command line: results, determinism, cancellation, pictures, bad input."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from rich.console import Console

from infrastructure_sdk import exceptions, simulation
from infrastructure_sdk.policy import IdleRequest, SessionDecision, keep, policy

FLEET = simulation.Fleet(users=8, days=9)
STRICT = {"name": "strict", "idle_timeout": "10m"}
PATIENT = {"name": "patient", "idle_timeout": "2h"}
TRACE = """user,start,length,activity
alice,2026-01-05T09:00:00Z,4h,work@0s+1h work@3h+1h
bob,2026-01-05T10:00:00Z,2h,work@0s+30m
"""


def text_of(table: object) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def cli(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infrastructure_sdk.cli", "simulate", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done


def test_the_same_seed_gives_the_same_bytes() -> None:
    first = simulation.run(STRICT, FLEET, seed=3)
    assert first.to_json() == simulation.run(STRICT, FLEET, seed=3).to_json()
    assert first.to_json() != simulation.run(STRICT, FLEET, seed=4).to_json()


def test_results_add_up_and_differ_by_policy() -> None:
    strict, patient = (simulation.run(policy, FLEET, seed=3) for policy in (STRICT, PATIENT))
    assert strict.hours_run < patient.hours_run < patient.baseline_hours
    assert strict.hours_saved == pytest.approx(strict.baseline_hours - strict.hours_run)
    assert strict.total.resumes > patient.total.resumes
    assert sum(line.outcome.ran_seconds for line in strict.sessions) == pytest.approx(strict.total.ran_seconds)
    assert sum(strict.hours["ran"]) == pytest.approx(strict.hours_run, abs=0.01)
    assert strict.waits.p50_seconds <= strict.waits.p95_seconds <= strict.waits.p99_seconds
    with pytest.raises(AttributeError):
        strict.total.cost = 0  # type: ignore[misc]
    compared = simulation.compare(patient, strict)
    assert compared.hours == pytest.approx(strict.hours_run - patient.hours_run)
    changes = [abs(line["after"]["ran_seconds"] - line["before"]["ran_seconds"]) for line in compared.sessions]
    assert changes and changes == sorted(changes, reverse=True)
    table = text_of(compared.table())
    assert "patient" in table and "strict" in table and "always on" in table
    assert "user-0" in text_of(compared.session_table())


async def test_replay_leaves_the_loop_free_and_tells_how_far_it_is(tmp_path: Path) -> None:
    trace = tmp_path / "day.csv"
    trace.write_text(TRACE)
    told: list[float] = []
    result = await simulation.replay(STRICT, trace, progress=told.append)
    assert told[0] == 0 and told[-1] == 1 and told == sorted(told)
    assert [line.user for line in result.sessions] == ["alice", "bob"]
    assert result.total.suspensions == 2


async def test_a_cancelled_replay_stops() -> None:
    began = asyncio.Event()
    loop = asyncio.get_running_loop()
    told: list[float] = []

    def progress(done: float) -> None:
        told.append(done)
        loop.call_soon_threadsafe(began.set)

    task = asyncio.create_task(simulation.replay(STRICT, simulation.Fleet(users=2000, days=60), progress=progress))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told[-1] < 1


def test_signals_are_heard_while_a_fleet_is_made() -> None:
    heard = 0

    def hear(number: int, frame: object) -> None:
        nonlocal heard
        heard += 1
        if heard == 3:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, hear)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        # Unheard they would be one signal at the end, and nothing would be raised.
        with pytest.raises(KeyboardInterrupt):
            simulation.Workload.from_fleet(simulation.Fleet(users=1_000_000, days=4), 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_exception_of_progress_stops_the_run() -> None:
    def progress(done: float) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        simulation.run(STRICT, FLEET, progress=progress)


def test_an_event_log_is_replayed(tmp_path: Path) -> None:
    def event(number: int, time: str, kind: str, **data: str) -> dict[str, object]:
        return {
            "sequence": number,
            "time": f"2026-01-05T{time}Z",
            "type": f"session.{kind}",
            "subject": "s-1",
            "data": data,
        }

    events = [
        event(1, "09:00:00", "lifecycle.created", user_id="alice", template="tiny"),
        event(2, "09:00:30", "lifecycle.ready"),
        event(3, "11:00:00", "idle.armed", quiet_since="2026-01-05T10:30:00Z"),
        event(4, "14:00:00", "lifecycle.terminating", cause="request"),
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in events))
    from_list, from_file = simulation.run(STRICT, events), simulation.run(STRICT, log)
    assert from_list.to_json() == from_file.to_json()
    assert from_list.total.suspensions == 1
    assert any("does not tell" in note for note in from_list.notes)


def test_pictures_are_svg_and_the_same_bytes(tmp_path: Path) -> None:
    strict, patient = (simulation.run(policy, FLEET, seed=3) for policy in (STRICT, {"name": "<&>"}))
    compared = simulation.compare(patient, strict)
    drawn = compared.plot(tmp_path / "diff.svg")
    root = ElementTree.fromstring(drawn.read_text())
    assert root.tag.endswith("svg")
    words = " ".join(text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "strict" in words and "<&>" in words and "always on" in words
    assert compared.plot(tmp_path / "again.svg").read_bytes() == drawn.read_bytes()
    assert strict._repr_html_().startswith("<svg")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: simulation.Fleet(users=0), "fleet.users: '0'"),
        (lambda: simulation.Fleet(days=0), "fleet.days: '0'"),
        (lambda: simulation.Fleet(lunch_on="13h"), "did you mean 'lunch_at'"),
        (lambda: simulation.run(STRICT, FLEET, seed=-1), "seed: '-1'"),
        (lambda: simulation.run({"idle_timeout": "never"}, FLEET), "idle_timeout"),
        (lambda: simulation.run(3, FLEET), "policy: int"),  # type: ignore[arg-type]
        (lambda: simulation.run(STRICT, 3), "workload: int"),  # type: ignore[arg-type]
        (lambda: simulation.run(STRICT, {"users": 3}), "workload: dict"),  # type: ignore[arg-type]
        (lambda: simulation.run(STRICT, FLEET, options={"boot_tiem": "1s"}), "did you mean 'boot_time'"),
        (lambda: simulation.run(STRICT, []), "no session begins"),
        (lambda: simulation.compare(None, None), "before: NoneType"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_named(make: object, says: str) -> None:
    with pytest.raises(exceptions.ValidationError, match=says.replace("(", r"\(")):
        make()  # type: ignore[operator]


THESIS = """from infrastructure_sdk.policy import IdleRequest, SessionDecision, keep, policy, suspend

@policy("idle", name="thesis", version="1")
def thesis(request: IdleRequest) -> SessionDecision:
    if request.session.user_id == "alice":
        return keep("a thesis", ask_again_after=3600)
    return suspend("quiet")
"""


def test_a_policy_in_python_is_asked(tmp_path: Path) -> None:
    file, trace, settings = tmp_path / "thesis.py", tmp_path / "day.csv", tmp_path / "both.yaml"
    file.write_text(THESIS)
    trace.write_text(TRACE)
    settings.write_text("idle_timeout: 30m\npolicies:\n  - {source: thesis.py}\n")
    result = simulation.run(file, trace)
    assert result.policy == "thesis"
    assert {(line.point, line.answer) for line in result.decisions} == {("idle", "keep"), ("idle", "suspend")}
    assert [line.outcome.suspensions for line in result.sessions] == [0, 1]
    assert result.to_json() == simulation.run(file, trace).to_json()
    same = simulation.run(settings, trace)
    assert [line.outcome for line in same.sessions] == [line.outcome for line in result.sessions]
    settings.write_text("policies:\n  - {source: thesis.py, mode: shadow}\n")
    assert [line.outcome.suspensions for line in simulation.run(settings, trace).sessions] == [1, 1]
    file.write_text("import time\n" + THESIS.replace("return suspend", "time.time(); return suspend"))
    with pytest.raises(exceptions.PolicyError):
        simulation.run(file, trace)


def test_policies_of_both_kinds_keep_their_order_and_fields(tmp_path: Path) -> None:
    (tmp_path / "thesis.py").write_text(THESIS)
    trace, settings = tmp_path / "day.csv", tmp_path / "both.yaml"
    trace.write_text(TRACE)
    builtin = "{source: 'builtin:business-hours', settings: {hours: ['mon-fri 08:00-18:00']}}"
    settings.write_text(f"policies:\n  - {builtin}\n  - {{source: thesis.py}}\n")
    names = [line["name"] for line in simulation.run(settings, trace).to_dict()["identities"]]
    settings.write_text(f"policies:\n  - {{source: thesis.py}}\n  - {builtin}\n")
    assert [line["name"] for line in simulation.run(settings, trace).to_dict()["identities"]] == names[::-1]
    assert names[1] == "thesis"
    for entry, says in (
        ("{source: thesis.py, mood: shadow}", "mood"),
        ("{source: thesis.py, mode: canary}", "canary_tenants"),
        ("{source: thesis.py, untrusted: true}", "untrusted"),
    ):
        settings.write_text(f"policies:\n  - {entry}\n")
        with pytest.raises(exceptions.InfrastructureSDKError, match=says):
            simulation.run(settings, trace)


def test_a_decorated_function_is_asked(tmp_path: Path) -> None:
    trace = tmp_path / "day.csv"
    trace.write_text(TRACE)

    @policy("idle", name="patient", version="1")
    def patient(request: IdleRequest) -> SessionDecision:
        return keep("no hurry", ask_again_after=3600)

    result = simulation.run(patient, trace)
    assert result.policy == "patient" and result.total.suspensions == 0
    assert {(line.point, line.answer) for line in result.decisions} == {("idle", "keep")}


def test_what_savings_leave_out_is_said(tmp_path: Path) -> None:
    trace = tmp_path / "day.csv"
    trace.write_text(TRACE.replace("10:00:00Z,2h,work@0s+30m", "09:30:00Z,20m,work@0s+20m"))
    result = simulation.run({"limits": [{"scope": "host", "sessions": 1}]}, trace)
    assert result.total.gave_up == 1 and any("count as saved" in note for note in result.notes)
    shown = " ".join(text_of(result.table()).split())
    assert "waited in vain" in shown and "count as saved" in shown


def test_a_policy_that_raises_leaves_it_to_the_engine(tmp_path: Path) -> None:
    file, trace = tmp_path / "broken.py", tmp_path / "day.csv"
    file.write_text(THESIS.replace('== "alice"', '== "bob" and 1 / 0'))
    trace.write_text(TRACE)
    result = simulation.run(file, trace)
    assert [line.outcome.suspensions for line in result.sessions] == [1, 1]
    assert ("idle", "failed", 1) in {(line.point, line.answer, line.count) for line in result.decisions}


def test_missing_files_are_named(tmp_path: Path) -> None:
    for call in (
        lambda: simulation.run(tmp_path / "none.yaml", FLEET),
        lambda: simulation.run(STRICT, tmp_path / "none.csv"),
        lambda: simulation.run(STRICT, tmp_path / "none.jsonl"),
    ):
        with pytest.raises(exceptions.NotFoundError, match="there is no file"):
            call()


def test_the_command_compares_and_draws(tmp_path: Path) -> None:
    policy = tmp_path / "strict.yaml"
    policy.write_text("idle_timeout: 10m\nlimits:\n  - {scope: user, subject: '*', sessions: 2}\n")
    picture = tmp_path / "diff.svg"
    words = ("--users", "5", "--days", "3", "--policy", str(policy), "--against", "builtin", "--seed", "2")
    shown = cli(*words, "--picture", str(picture), "--sessions")
    assert "wrongly suspended" in shown.stdout and "strict" in shown.stdout and "builtin" in shown.stdout
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    document = json.loads(cli(*words, "-o", "json").stdout)
    assert [result["policy"] for result in document["results"]] == ["builtin", "strict"]
    assert document["comparison"]["ran_seconds"] < 0
    assert cli(*words, "-o", "json").stdout == cli(*words, "-o", "json").stdout


def test_the_command_reads_traces_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    trace = tmp_path / "day.csv"
    trace.write_text(TRACE)
    document = json.loads(cli("--trace", str(trace), "--sessions", "-o", "json", "--set", "boot_time=88s").stdout)
    assert document["planned_sessions"] == 2 and len(document["sessions"]) == 2
    assert document["start_waits"]["p50_seconds"] == 90
    trace.write_text(TRACE + "carol,2026-01-05T09:00:00Z,soon,\n")
    assert "day.csv:4: column 'length': 'soon'" in cli("--trace", str(trace), code=2).stderr
    assert "exclude each other" in cli("--trace", str(trace), "--events", str(trace), code=2).stderr
    assert "there is no file" in cli("--policy", str(tmp_path / "none.yaml"), "--users", "2", code=3).stderr
    assert "NAME=VALUE" in cli("--set", "boot_time", code=2).stderr
    assert "Example: infra-sdk simulate" in cli("--help").stdout
