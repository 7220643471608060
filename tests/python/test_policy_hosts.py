"""Policies in this process and in the sandbox: answers, budgets, and what hostile ones can do."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import nbformat
import pytest
import pytest_asyncio
from nbclient import NotebookClient

import infrastructure_sdk
from infrastructure_sdk import _core
from infrastructure_sdk import policy as p
from infrastructure_sdk.exceptions import OperationTimeoutError, PolicyError, ValidationError

HERE = Path(__file__).parent
HOSTILE = (HERE / "hostile_policy.py").read_text()
STATEFUL = """
from infrastructure_sdk.policy import Policy, keep, suspend

class Counting(Policy):
    version = "2"

    def idle(self, request, state):
        state["asked"] = state.get("asked", 0) + 1
        return suspend(str(state["asked"]))
"""
PLENTY = 60.0  # seconds: for answers that must come
LITTLE = 0.1

BOTH = pytest.mark.parametrize("untrusted", [False, True], ids=["in_process", "sandboxed"])


def about(session: str, **tags: str) -> p.IdleRequest:
    sample = p.sample_request("idle").session
    made = p.PolicySession(id=session, user_id="alice", created_at=sample.created_at, tags=tags)
    return p.IdleRequest(now=p.sample_request("idle").now, session=made, quiet_for=60.0)


async def answers_again(runner: p.PolicyRunner) -> None:
    """An attacker that was interrupted, or whose process was replaced, still does its work."""
    for _ in range(600):
        answer = await runner.decide(about("somebody"), time_budget=PLENTY)
        if answer.outcome != "refused":
            assert (answer.outcome, answer.decision.reason) == ("decided", "harmless")
            return
        await asyncio.sleep(0.05)
    raise AssertionError(answer.detail)


@pytest_asyncio.fixture
async def bystander() -> AsyncIterator[p.PolicyRunner]:
    async with await p.PolicyRunner.open(source=STATEFUL) as runner:
        yield runner
        answer = await runner.decide(about("bystander"), time_budget=PLENTY)
        assert (answer.outcome, answer.decision.reason) == ("decided", "1")


@BOTH
async def test_an_answer_comes_with_its_state(untrusted: bool) -> None:
    async with await p.PolicyRunner.open(source=STATEFUL, untrusted=untrusted, time_budget=PLENTY) as runner:
        assert runner.identity == p.load_source(STATEFUL, "<policy>").identity
        assert runner.points == ("idle",)
        first = await runner.decide(about("a"))
        second = await runner.decide(about("a"), first.state)
        assert (first.outcome, first.decision, first.detail) == ("decided", p.suspend("1"), "")
        assert second.decision == p.suspend("2") and second.state == '{"asked":2}'
        assert (await runner.decide(p.sample_request("admit"))).outcome in ("refused", "failed")
        with pytest.raises(ValidationError):
            await runner.decide("a request")


@BOTH
async def test_many_questions_at_once_get_each_its_own_answer(untrusted: bool) -> None:
    source = "from infrastructure_sdk.policy import *\n@policy('idle')\ndef f(r): return keep(r.session.id)\n"
    async with await p.PolicyRunner.open(source=source, untrusted=untrusted, time_budget=PLENTY) as runner:
        answers = await asyncio.gather(*(runner.decide(about(str(number))) for number in range(200)))
    assert [answer.decision.reason for answer in answers] == [str(number) for number in range(200)]


@BOTH
@pytest.mark.parametrize("source", ["1 / 0", "def f(:", "x = 1", STATEFUL.replace("suspend(", "(")])
async def test_a_policy_that_fails_its_trial_is_not_taken(source: str, untrusted: bool) -> None:
    with pytest.raises(PolicyError):
        await p.PolicyRunner.open(source=source, untrusted=untrusted)


async def test_a_policy_that_hangs_while_it_is_loaded_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infrastructure_sdk.policy.runner.LOAD_BUDGET", 0.5)
    for untrusted in (False, True):
        with pytest.raises(OperationTimeoutError):
            await p.PolicyRunner.open(source="while True: pass", untrusted=untrusted, lint=False)


async def test_arguments_are_checked(tmp_path: Path) -> None:
    for wrong in (
        {},
        {"path": "a", "source": "b"},
        {"source": "", "time_budget": 0.0},
        {"source": "", "memory_budget": -1},
    ):
        with pytest.raises(ValidationError):
            await p.PolicyRunner.open(**wrong)  # type: ignore[arg-type]


async def test_a_caller_that_gives_up_does_not_interrupt() -> None:
    source = """
import os
from infrastructure_sdk.policy import keep, policy
DONE = []

@policy("idle")
def f(request):
    if "begun" in request.session.tags:
        os.write(int(request.session.tags["begun"]), b"x")
        os.read(int(request.session.tags["gate"]), 1)
        DONE.append(1)
    return keep(str(len(DONE)))
"""
    begun, gate = os.pipe(), os.pipe()
    try:
        async with await p.PolicyRunner.open(source=source, lint=False, time_budget=PLENTY) as runner:
            asked = asyncio.create_task(runner.decide(about("a", begun=str(begun[1]), gate=str(gate[0]))))
            await asyncio.to_thread(os.read, begun[0], 1)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            following = asyncio.create_task(runner.decide(about("b")))
            os.write(gate[1], b"x")
            answer = await following
            assert (answer.outcome, answer.decision.reason) == ("decided", "1")
    finally:
        for fd in (*begun, *gate):
            os.close(fd)


async def test_an_answer_does_not_wait_for_a_later_question() -> None:
    source = """
import os
from infrastructure_sdk.policy import keep, policy

@policy("idle")
def f(request):
    if "gate" in request.session.tags:
        os.read(int(request.session.tags["gate"]), 1)
    return keep(request.session.id)
"""
    gate, other = os.pipe()
    try:
        async with await p.PolicyRunner.open(source=source, lint=False, time_budget=PLENTY) as runner:
            asked = [about("a"), about("b", gate=str(gate)), about("c")]
            first, second, third = (asyncio.create_task(runner.decide(request)) for request in asked)
            assert (await asyncio.wait_for(first, PLENTY / 2)).decision.reason == "a"
            assert not second.done() and not third.done()
            os.write(other, b"x")
            assert [(await task).decision.reason for task in (second, third)] == ["b", "c"]
    finally:
        os.close(gate)
        os.close(other)


async def test_memory_that_is_given_back_does_not_count() -> None:
    source = """
from infrastructure_sdk.policy import keep, policy

@policy("idle")
def f(request):
    # A circle is given back by whoever collects the garbage, on any thread.
    circle = [bytes(1 << 20)]
    circle.append(circle)
    return keep()
"""
    async with await p.PolicyRunner.open(source=source, time_budget=PLENTY, memory_budget=16 << 20) as runner:
        for _ in range(10):
            answers = [await runner.decide(about("a")) for _ in range(8)]
            assert {answer.outcome for answer in answers} == {"decided"}, answers
            gc.collect()


FAILED, TIMED_OUT, INVALID, DECIDED = "failed", "timed_out", "invalid", "decided"

# What only a process of its own stops: a policy in this process can do these, for Python has no walls inside.
ONLY_THE_SANDBOX = {
    "loop_in_c": {TIMED_OUT},
    "exit_at_once": {FAILED},
    "segmentation_fault": {FAILED},
    "fork_bomb": {FAILED},
    "more_threads": {FAILED},
    "phone_home": {FAILED},
    "write_file": {FAILED},
    "read_file": {FAILED},
    "read_environment": {DECIDED},
    "kill_everybody": {FAILED},
    "patch_the_check": {INVALID},
    "answer_for_another": {FAILED, INVALID},
    "endless_line": {FAILED, TIMED_OUT},
    "close_descriptors": {DECIDED, FAILED},
    "dig_in_the_heap": {DECIDED, FAILED},
}
ANYWHERE = {
    "endless_loop": {TIMED_OUT},
    "stubborn_loop": {TIMED_OUT},
    "long_sleep": {TIMED_OUT, FAILED},
    "recursion": {FAILED},
    "exit_politely": {FAILED},
    "memory_bomb": {FAILED},
    "memory_leak": {FAILED, TIMED_OUT},
    "signal_handlers": {FAILED},
    "patch_the_classes": {FAILED},
    "subclass_the_decision": {FAILED},
    "no_decision": {INVALID},
    "decision_of_another_point": {INVALID},
    "change_the_request": {FAILED},
    "endless_reason": {INVALID},
    "reason_without_characters": {FAILED, INVALID},
    "error_without_text": {FAILED},
    "loop_when_collected": {TIMED_OUT},
}
HANGS = {"endless_loop", "stubborn_loop", "long_sleep", "loop_in_c", "loop_when_collected", "endless_line"}
STAYS_LOST = {"stubborn_loop", "long_sleep", "memory_leak"}


async def attack(runner: p.PolicyRunner, name: str, **tags: str) -> p.PolicyAnswer:
    answer = await runner.decide(about(name, **tags), time_budget=LITTLE if name in HANGS else PLENTY)
    if answer.outcome != DECIDED:
        assert answer.decision == p.SessionDecision() and answer.detail and len(answer.detail.encode()) <= 2000
    return answer


@pytest.mark.parametrize("name", ANYWHERE)
async def test_a_hostile_policy_in_this_process_harms_only_its_own_decisions(
    name: str, bystander: p.PolicyRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An interruption inside __del__ ends there, and Python prints it.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    async with await p.PolicyRunner.open(source=HOSTILE, lint=False, memory_budget=32 << 20) as runner:
        answer = await attack(runner, name)
        assert answer.outcome in ANYWHERE[name], answer
        if name not in STAYS_LOST:
            await answers_again(runner)


@pytest.mark.parametrize("name", [*ANYWHERE, *ONLY_THE_SANDBOX])
async def test_a_hostile_policy_in_the_sandbox_harms_only_its_own_decisions(
    name: str, bystander: p.PolicyRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_SDK_TEST_SECRET", "geheim")
    file = tmp_path / "written"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tags = {"port": str(listener.getsockname()[1]), "file": str(file)}
        async with await p.PolicyRunner.open(source=HOSTILE, untrusted=True, memory_budget=32 << 20) as runner:
            attacked = runner.sandbox["pid"]
            answer = await attack(runner, name, **tags)
            assert answer.outcome in {**ANYWHERE, **ONLY_THE_SANDBOX}[name], answer
            assert "geheim" not in answer.decision.reason and "forged" not in answer.decision.reason
            assert children_of(attacked) == []
            if name != "memory_leak":
                await answers_again(runner)
            last = runner.sandbox["pid"]
        await is_gone(attacked)
        await is_gone(last)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert not file.exists()


async def is_gone(pid: int) -> None:
    """Ended and waited for: not even a zombie is left."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + PLENTY
    while pid and Path(f"/proc/{pid}").exists():
        assert clock() < deadline, pid
        await asyncio.sleep(0.01)


def children_of(pid: int) -> list[str]:
    """Of a process that may have ended: who has it as parent."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == pid:
            children.append(stat.parent.name)
    return children


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def test_the_sandbox_is_what_it_says() -> None:
    async with await p.PolicyRunner.open(source=STATEFUL, untrusted=True) as runner:
        sandbox = runner.sandbox
        assert {"seccomp", "no_new_privs"} <= set(sandbox["protections"])
        status = status_of(sandbox["pid"])
        assert (status["Seccomp"], status["NoNewPrivs"], status["Threads"]) == ("2", "1", "1")
        limits = Path(f"/proc/{sandbox['pid']}/limits").read_text()
        for name in ("Max file size", "Max core file size", "Max processes", "Max open files"):
            assert next(line for line in limits.splitlines() if line.startswith(name)).split()[-3:-1] == ["0", "0"]
        links = [os.readlink(f"/proc/{sandbox['pid']}/fd/{fd}") for fd in os.listdir(f"/proc/{sandbox['pid']}/fd")]
        assert sorted(link.split(":")[0] for link in links) == ["/dev/null"] * 3 + ["socket"]
        if not any(text.startswith("network") for text in sandbox["missing"]):
            assert os.readlink(f"/proc/{sandbox['pid']}/ns/net") != os.readlink("/proc/self/ns/net")
        assert Path(f"/proc/{sandbox['pid']}/environ").read_bytes() == b""


async def test_a_dead_process_is_replaced_and_answers_again() -> None:
    async with await p.PolicyRunner.open(source=HOSTILE, untrusted=True) as runner:
        before = runner.sandbox["pid"]
        os.kill(before, 9)
        answer = await runner.decide(about("a"), time_budget=PLENTY)
        assert answer.outcome == "failed" and "ended" in answer.detail
        await answers_again(runner)
        assert runner.sandbox["pid"] not in (0, before)


ORDINARY = """
import asyncio, os, sys, types
package = types.ModuleType("infrastructure_sdk")  # without its own start, which needs other packages
package.__path__ = [sys.argv[1]]
sys.modules["infrastructure_sdk"] = package
from infrastructure_sdk import policy as p

async def main():
    async with await p.PolicyRunner.open(source=sys.argv[2], untrusted=True, time_budget=60) as runner:
        assert os.getuid() == 65534 and "seccomp" in runner.sandbox["protections"], runner.sandbox
        print((await runner.decide(p.sample_request("idle"))).decision.reason)

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_an_ordinary_user_has_the_sandbox_too() -> None:
    interpreter = f"/usr/bin/python3.{sys.version_info.minor}"
    if not os.access(interpreter, os.X_OK):
        pytest.skip("there is no interpreter of this version that every user may run")
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        source = Path(infrastructure_sdk.__file__).parent
        shutil.copytree(source / "policy", Path(place, "policy"))
        for name in ("exceptions.py", "logging.py", "_bridge.py", Path(_core.__file__).name):
            shutil.copy(source / name, place)
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        done = subprocess.run(
            [*user, interpreter, "-c", ORDINARY, place, STATEFUL],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={"PATH": "/usr/bin:/bin"},
        )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.parametrize("name", ["endless_loop", "stubborn_loop", "long_sleep"])
def test_the_interpreter_ends_although_a_policy_hangs(name: str) -> None:
    code = f"""
import asyncio
from infrastructure_sdk import policy as p
async def main():
    runner = await p.PolicyRunner.open(source=open({str(HERE / "hostile_policy.py")!r}).read(), lint=False)
    sample = p.sample_request("idle")
    session = p.PolicySession(id={name!r}, user_id="a", created_at=sample.now)
    answer = await runner.decide(p.IdleRequest(now=sample.now, session=session, quiet_for=1))
    print(answer.outcome)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "timed_out\n", "")


DATA = HERE.parent / "data" / "policies"
DECISIONS = (DATA / "recorded_decisions.jsonl").read_text().splitlines()


@BOTH
async def test_the_recorded_log_is_answered_as_on_record(untrusted: bool) -> None:
    path = DATA / "recorded_policy.py"
    answers = []
    async with await p.PolicyRunner.open(path, untrusted=untrusted, time_budget=PLENTY) as runner:
        for line in (DATA / "recorded_requests.jsonl").read_text().splitlines():
            request = p.policy_request_from_json(line)
            assert request.to_json() == line
            answers.append((await runner.decide(request)).decision.to_json())
    assert answers == DECISIONS and len({json.loads(line).get("action") for line in answers}) > 5


IN_JUPYTER = """\
from infrastructure_sdk import policy as p

async with await p.PolicyRunner.open({path!r}, time_budget={budget}) as runner:
    for line in open({log!r}):
        print((await runner.decide(p.policy_request_from_json(line.rstrip()))).decision.to_json())
"""


def test_jupyter_answers_the_recorded_log_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, log = str(DATA / "recorded_policy.py"), str(DATA / "recorded_requests.jsonl")
    cell = nbformat.v4.new_code_cell(IN_JUPYTER.format(path=path, budget=PLENTY, log=log))
    notebook = nbformat.v4.new_notebook(cells=[cell])
    for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert "".join(output.text for output in cell.outputs).splitlines() == DECISIONS


def test_a_cpp_program_answers_the_recorded_log_the_same() -> None:
    program = Path(infrastructure_sdk.__file__).parent.parent.parent / "examples" / "cpp" / "example_02_policy"
    if not program.exists():
        pytest.skip("built only where Python's library is")
    words = [str(program), str(DATA / "recorded_policy.py"), str(DATA / "recorded_requests.jsonl")]
    # Nothing of the package may be found: the program has it inside.
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, env={"LC_ALL": "C"})
    assert (done.returncode, done.stdout.splitlines()) == (0, DECISIONS), done.stderr
    assert p.load_file(DATA / "recorded_policy.py").identity.sha256 in done.stderr
