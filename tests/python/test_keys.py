"""Keys of users and what they encrypt, through Python and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync


@pytest.mark.parametrize("asked", ["off", "everything", ""])
async def test_a_session_cannot_ask_for_less_than_its_template(asked: str, sdk: isdk.InfrastructureSDK) -> None:
    with pytest.raises(isdk.ValidationError) as caught:
        await sdk.sessions.plan(isdk.SessionRequest(user_id="alice", encryption=asked))
    assert caught.value.context["field"] == "encryption"
    assert caught.value.context["value"] == asked


async def test_a_session_may_ask_for_more_and_the_configuration_for_all(config: isdk.InfraSDKConfig) -> None:
    async with isdk.InfrastructureSDK(config) as sdk:
        assert (await sdk.sessions.plan(isdk.SessionRequest(user_id="alice")))["encryption"] == "memory"
        more = isdk.SessionRequest(user_id="alice", encryption="all")
        assert (await sdk.sessions.plan(more))["encryption"] == "all"
    for level in ("off", "all"):
        over = isdk.InfraSDKConfig.from_dict({"vm": {"encryption": level}})
        async with isdk.InfrastructureSDK(config.overlaid_with(over)) as sdk:
            assert (await sdk.sessions.plan(isdk.SessionRequest(user_id="alice")))["encryption"] == level


async def test_a_master_key_that_is_too_short_is_refused(config: isdk.InfraSDKConfig, tmp_path: Path) -> None:
    key = tmp_path / "master"
    key.write_text("hunter2")
    key.chmod(0o600)
    short = config.overlaid_with(isdk.InfraSDKConfig.from_dict({"vm": {"master_key": f"file:{key}"}}))
    with pytest.raises(isdk.ConfigurationError, match=r"vm\.master_key") as caught:
        async with isdk.InfrastructureSDK(short):
            pass
    assert "hunter2" not in str(caught.value)


async def test_nobody_s_keys_cannot_be_changed(sdk: isdk.InfrastructureSDK) -> None:
    assert await sdk.keys.list() == []
    for verb in (sdk.keys.rotate, sdk.keys.erase):
        with pytest.raises(isdk.NotFoundError, match="nobody") as caught:
            await verb("nobody")
        assert caught.value.context["field"] == "user_id"


@pytest.mark.integration
async def test_keys_are_rotated_while_a_session_sleeps_and_erased_when_it_is_gone(
    sdk: isdk.InfrastructureSDK, state_dir: Path
) -> None:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    await session.wait_until_active()
    await session.files.put(b"kept", "/tmp/note")
    await session.suspend()
    assert (state_dir / "vms" / session.vm_id / "guest/memory.state").read_bytes().startswith(b"ISDKSEAL")
    (before,) = await sdk.keys.list()
    assert before["user_id"] == "alice"
    rotation = await sdk.keys.rotate("alice")
    (after,) = await sdk.keys.list()
    assert [key["id"] for key in after["keys"]] == [rotation["key"]]
    assert rotation["key"] != before["keys"][0]["id"]
    assert (rotation["vms"], rotation["disks"], rotation["snapshots"]) == (1, 0, 0)
    # Without the key the session stays what it is, and says why.
    keys, elsewhere = state_dir / "keys", state_dir / "keys-elsewhere"
    (key,) = keys.glob("*.json")
    key.rename(elsewhere)
    with pytest.raises(isdk.InvalidTransitionError, match="may have been erased"):
        await session.resume()
    assert (await session.refresh()).state == "suspended"
    assert "session.lifecycle.resume_refused" in [event["type"] for event in await session.events()]
    elsewhere.rename(key)
    await session.resume()
    assert await session.files.get("/tmp/note") == b"kept"
    with pytest.raises(isdk.ConflictError, match=session.id):
        await sdk.keys.erase("alice")
    await session.terminate()
    await sdk.keys.erase("alice")
    assert await sdk.keys.list() == []


def test_the_command_line_lists_rotates_and_erases(config: isdk.InfraSDKConfig, state_dir: Path) -> None:
    with sync.InfrastructureSDK(config) as sdk:
        assert sdk.keys.list() == []

    def infra_sdk(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infrastructure_sdk.cli", "--state-dir", str(state_dir), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    listed = infra_sdk("keys", "list", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    assert json.loads(listed.stdout) == []
    missing = infra_sdk("keys", "rotate", "--user", "nobody")
    assert missing.returncode != 0
    assert "nobody" in missing.stderr
    dry = infra_sdk("keys", "erase", "--user", "nobody", "--dry-run")
    assert dry.returncode == 0, dry.stderr
