"""Snapshots, forks and recovery on real QEMU, through Python and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync

pytestmark = pytest.mark.integration

NOTHING = "snap-0000000000000000"


async def test_a_snapshot_outlives_its_session_and_new_ones_begin_from_it(sdk: isdk.InfrastructureSDK) -> None:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice", ttl="2h"))
    await session.wait_until_active()
    await session.exec("echo golden > /data/note")
    snapshot = await session.snapshot("before <b>")
    assert (snapshot.state, snapshot.consistent, snapshot.user_id) == ("ready", "frozen", "alice")
    assert snapshot.session_id == session.id
    assert len(snapshot.sha256) == 64
    assert "&lt;b&gt;" in snapshot._repr_html_()
    assert "session.lifecycle.snapshotted" in [event["type"] for event in await session.events()]
    await session.terminate()

    assert [s.id for s in await sdk.snapshots.list(user_id="alice")] == [snapshot.id]
    assert await sdk.snapshots.list(session_id="s-another") == []
    assert (await sdk.snapshots.get(snapshot.id)).to_dict() == snapshot.to_dict()
    request = isdk.SessionRequest(user_id="bob", snapshot=snapshot.id)
    assert (await sdk.sessions.plan(request))["snapshot"] == snapshot.id
    async with sdk.sessions.ephemeral(request) as later:
        assert (await later.exec("cat /data/note")).stdout == "golden\n"
        await snapshot.delete()
        assert (await later.exec("cat /data/note")).stdout == "golden\n"
    with pytest.raises(isdk.NotFoundError):
        await sdk.snapshots.get(snapshot.id)
    with pytest.raises(isdk.NotFoundError):
        await sdk.sessions.create(request)


async def test_a_fork_gives_a_session_or_an_error_each(config: isdk.InfraSDKConfig, tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text('limits:\n  - {scope: user, subject: "*", sessions: 2}\n')
    limited = config.overlaid_with(isdk.InfraSDKConfig.from_dict({"session": {"limits_file": str(limits)}}))
    async with isdk.InfrastructureSDK(limited) as sdk:
        session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
        await session.wait_until_active()
        await session.exec("echo past > /data/note")
        try:
            first, second = await session.fork(2, ttl="1h", tags={"of": "alice"})
            assert first.error is None
            assert first.session is not None
            assert second.session is None
            assert isinstance(second.error, isdk.QuotaExceededError)
            assert "2" in str(second.error)
            fork = await first.session.wait_until_active()
            assert fork.to_dict()["tags"] == {"of": "alice"}
            assert (await fork.exec("cat /data/note")).stdout == "past\n"
            for count in (0, 101):
                with pytest.raises(isdk.ValidationError) as caught:
                    await sdk.sessions.fork(session.id, count)
                assert caught.value.context["field"] == "count"
        finally:
            for left in await sdk.sessions.list():
                await left.terminate()
        assert await sdk.snapshots.list() == []


async def test_a_killed_session_is_recovered(sdk: isdk.InfrastructureSDK) -> None:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    await session.wait_until_active()
    await session.exec("echo kept > /data/note; sync")
    process = (await sdk.vms.inspect(session.id))["process"]
    os.kill(process["pid"], signal.SIGKILL)
    with pytest.raises(isdk.ProviderError):
        await session.wait_until("terminated", timeout="60s")
    await session.refresh()
    assert (session.state, session.failure["reason"]) == ("failed", "ProcessKilled")
    first = session.execution_id
    await session.recover()
    assert session.state == "active"
    assert session.execution_id != first
    assert (await (await sdk.sessions.recover(session.id)).exec("cat /data/note")).stdout == "kept\n"
    await session.suspend()
    with pytest.raises(isdk.InvalidTransitionError):
        await session.recover()


def test_the_sync_twin_forks_too(config: isdk.InfraSDKConfig) -> None:
    with sync.InfrastructureSDK(config) as sdk:
        with sdk.sessions.ephemeral(sync.SessionRequest(user_id="alice")) as session:
            session.exec("echo hello > /tmp/note")
            snapshot = session.snapshot("a name", memory=True)
            assert isinstance(snapshot, sync.Snapshot)
            assert (snapshot.mode, snapshot.consistent) == ("memory", "memory")
            assert snapshot.memory_size_bytes > 0
            with pytest.raises(isdk.ValidationError) as caught:
                snapshot.fork(user_id="bob")
            assert caught.value.context["field"] == "user_id"
            (result,) = snapshot.fork()
            assert isinstance(result.session, sync.Session)
            assert result.session.wait_until_active().exec("cat /tmp/note").stdout == "hello\n"
            assert result.session.launched_from == "snapshot"
            result.session.terminate()
            snapshot.delete()
        assert sdk.snapshots.list() == []


def command(state_dir: Path, image_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infrastructure_sdk.cli", "--state-dir", str(state_dir), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "INFRA_SDK_VM__IMAGE_DIRECTORY": str(image_dir)},
        check=False,
    )


def test_the_command_line(state_dir: Path, image_dir: Path) -> None:
    def infra(*words: str, code: int = 0) -> Any:
        done = command(state_dir, image_dir, *words)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if "-o" in words and "json" in words and code == 0 else done.stdout

    session = infra("session", "create", "--user", "alice", "-o", "json")["id"]
    infra("session", "exec", session, "--", "sh", "-c", "echo golden > /data/note")
    snapshot = infra("session", "snapshot", session, "before the update", "-o", "json")
    assert snapshot["consistent"] == "frozen"
    assert "before the update" in infra("snapshot", "list")
    assert infra("snapshot", "list", "--session", session, "-o", "name") == snapshot["id"] + "\n"
    assert infra("snapshot", "show", snapshot["id"], "-o", "json") == snapshot
    moment = infra("snapshot", "create", session, "a moment", "--memory", "-o", "json")
    assert (moment["mode"], moment["consistent"]) == ("memory", "memory")
    infra("snapshot", "delete", moment["id"])
    (fork,) = infra("session", "fork", session, "--user", "bob", "-o", "json")
    assert (fork["state"], fork["user_id"], fork["error"]) == ("active", "bob", None)
    made = infra("session", "create", "--user", "carol", "--from", snapshot["id"], "-o", "name").strip()
    for copy in (fork["id"], made):
        assert infra("session", "exec", copy, "--", "cat", "/data/note") == "golden\n"
        infra("session", "terminate", copy)
    assert infra("session", "recover", session, "-o", "json")["state"] == "active"
    infra("session", "terminate", session)
    infra("session", "recover", session, code=1)
    assert "dry run" in command(state_dir, image_dir, "snapshot", "delete", snapshot["id"], "--dry-run").stderr
    infra("snapshot", "delete", snapshot["id"])
    assert infra("snapshot", "list", "-o", "json") == []
    for words in (["snapshot", "show"], ["snapshot", "delete"], ["session", "fork"]):
        infra(*words, NOTHING, code=3)
    infra("session", "fork", session, "--count", "101", code=2)
