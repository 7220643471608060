"""Configured policies in Python decide what an opened SDK does; no virtual machine is started."""

from __future__ import annotations

from pathlib import Path

import pytest

import infrastructure_sdk as isdk

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
