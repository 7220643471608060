"""Configured policies in Python decide what an opened SDK does; no virtual machine is started."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

import infrastructure_sdk as isdk
from infrastructure_sdk import simulation
from infrastructure_sdk.policy import PolicyRunner

RECORDING = Path(__file__).parents[2] / "examples" / "notebooks" / "recordings" / "five_people.jsonl"
GATE = """
from infrastructure_sdk.policy import AdmitDecision, AdmitRequest, admit, deny, policy


@policy("admit", name="gate", version="3")
def gate(request: AdmitRequest) -> AdmitDecision:
    if request.session.user_id == "mallory":
        return deny("not you, mallory")
    return admit()
"""


def with_policy(config: isdk.InfraSDKConfig, path: Path, untrusted: bool) -> isdk.InfraSDKConfig:
    section = {"files": [str(path)], "untrusted": untrusted, "time_budget": "10s"}
    return config.overlaid_with(isdk.InfraSDKConfig.from_dict({"policy": section}))


@pytest.mark.parametrize("untrusted", [False, True], ids=["in_process", "sandboxed"])
async def test_a_file_says_who_gets_a_session(config: isdk.InfraSDKConfig, tmp_path: Path, untrusted: bool) -> None:
    path = tmp_path / "gate.py"
    path.write_text(GATE)
    async with isdk.InfrastructureSDK(with_policy(config, path, untrusted)) as sdk:
        denial = await sdk.sessions.can_create(isdk.SessionRequest(user_id="mallory", template="linux-tiny"))
        assert denial is not None and "not you, mallory" in str(denial)
        with pytest.raises(isdk.AdmissionDeniedError, match="gate"):
            await sdk.sessions.create(isdk.SessionRequest(user_id="mallory", template="linux-tiny"))
        assert await sdk.sessions.can_create(isdk.SessionRequest(user_id="alice", template="linux-tiny")) is None
        (listed,) = await sdk.policies.list()
        assert (listed["decided"], listed["overdue"]) == (1, 0)
        async with await PolicyRunner.open(path, untrusted=untrusted) as runner:
            sandbox = runner.sandbox
        assert listed["missing_protections"] == (sandbox["missing"] if untrusted else [])
        assert await sdk.policies.status("gate") == listed


LOOPING = """
from infrastructure_sdk.policy import AdmitDecision, AdmitRequest, admit, policy


@policy("admit", name="looping", version="1")
def looping(request: AdmitRequest) -> AdmitDecision:
    if request.session.user_id != "mallory":
        return admit()
    for _ in range(30):  # interruptions
        try:
            while request:
                pass
        except BaseException:
            pass
    return admit()
"""


async def test_a_policy_that_does_not_come_back_is_shown(config: isdk.InfraSDKConfig, tmp_path: Path) -> None:
    path = tmp_path / "looping.py"
    path.write_text(LOOPING)
    section = {"files": [str(path)], "time_budget": "20ms"}
    config = config.overlaid_with(isdk.InfraSDKConfig.from_dict({"policy": section}))
    async with isdk.InfrastructureSDK(config) as sdk:
        request = isdk.SessionRequest(user_id="mallory", template="linux-tiny")
        assert await sdk.sessions.can_create(request) is None
        shown = [(await sdk.policies.status("looping"))["overdue"] for _ in range(500)]
        assert 1 in shown


@pytest.mark.parametrize("untrusted", [False, True], ids=["in_process", "sandboxed"])
@pytest.mark.parametrize("text", ["import time\n1 / 0\n", GATE.replace("return admit()", "return 1"), None])
async def test_a_policy_that_is_not_good_keeps_the_sdk_closed(
    config: isdk.InfraSDKConfig, tmp_path: Path, untrusted: bool, text: str | None
) -> None:
    path = tmp_path / "gate.py"
    if text is not None:
        path.write_text(text.replace('== "mallory"', '== "nobody"'))
    with pytest.raises((isdk.exceptions.PolicyError, isdk.ConfigurationError), match=r"gate\.py|gate"):
        async with isdk.InfrastructureSDK(with_policy(config, path, untrusted)):
            pass


def record(state: Path) -> int:
    """Puts what five people did on a real host into the event log of a state folder; how many events."""
    lines = [json.loads(line) for line in RECORDING.read_text().splitlines()]
    rows = [
        (line["time"], line["type"], line["subject"], line.get("execution_id", ""), "", json.dumps(line["data"]))
        for line in lines
    ]
    (database,) = state.glob("*.db")
    with sqlite3.connect(database) as store:
        store.executemany(
            "INSERT INTO events(time, type, subject, execution_id, correlation_id, data) VALUES(?, ?, ?, ?, ?, ?)", rows
        )
    store.close()
    return len(rows)


async def test_two_policies_are_replayed_on_the_own_event_log(config: isdk.InfraSDKConfig, state_dir: Path) -> None:
    strict, patient = (
        {"name": name, "idle_timeout": timeout, "sample_interval": "5s", "arming_delay": "0s"}
        for name, timeout in (("strict", "30s"), ("patient", "4h"))
    )
    async with isdk.InfrastructureSDK(config):
        pass
    count = record(state_dir)
    async with isdk.InfrastructureSDK(config) as sdk:
        before, after = await sdk.policies.replay(patient), await sdk.policies.replay(strict)
        again = await sdk.policies.replay(strict)
    assert count > 10
    assert after.to_json() == again.to_json()
    assert after.to_json() == simulation.run(strict, RECORDING).to_json()
    users = {line.user for line in after.sessions}
    assert len(users) == 5
    compared = simulation.compare(before, after)
    # They were quiet for longer than half a minute; dora was not.
    assert {line["user"] for line in compared.sessions} == {"ada", "ben", "cleo", "emil"}
    for line in compared.sessions:
        assert line["before"]["suspensions"] == 0 < line["after"]["suspensions"]
        assert line["after"]["ran_seconds"] <= line["before"]["ran_seconds"]
