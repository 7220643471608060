"""Real sessions on real QEMU, through Python and the command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync

pytestmark = pytest.mark.integration


async def test_the_main_job(sdk: isdk.InfrastructureSDK, state_dir: Path) -> None:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice <b>", ttl="2h", tags={"team": "red"}))
    await session.wait_until_active()
    assert "&lt;b&gt;" in session._repr_html_()
    assert (await session.exec("echo $((6*7)); exit 3")).exit_code == 3
    assert (await session.exec(["cat"], stdin=bytes(range(256)))).stdout_bytes == bytes(range(256))
    assert (await session.desktop.screenshot()).png.startswith(b"\x89PNG")
    content = os.urandom(200_000)
    await session.files.put(content, "/tmp/content")
    assert [s.id for s in await sdk.sessions.list(tags={"team": "red"})] == [session.id]
    assert await sdk.sessions.list(user_id="bob") == []

    report = await sdk.isolation.validate(session)
    statuses = {finding.check_id: finding.status for finding in report.findings}
    assert len(statuses) == 10
    assert set(statuses.values()) <= {"pass", "fail"}, statuses
    root = os.geteuid() == 0
    for check in ("RUN-02", "RUN-03", "RUN-07", "STO-03", "MEM-01", "MEM-06", "NET-12"):
        assert statuses[check] == "pass", check
    if root:
        assert statuses["RUN-01"] == statuses["STO-05"] == "pass"
    kvm = sdk.vms.capabilities()["accelerator"] == "kvm"
    assert statuses["CMP-01"] == ("pass" if kvm else "fail")
    assert all(finding.evidence for finding in report.findings)
    assert "CMP-01" in report._repr_html_()

    first = session.execution_id
    await session.suspend()
    with pytest.raises(isdk.InvalidTransitionError):
        await session.exec(["true"])
    blind = await sdk.isolation.validate(session)
    assert {finding.status for finding in blind.findings} == {"unknown"}
    await session.resume()
    assert session.execution_id != first
    assert await session.files.get("/tmp/content") == content
    before = session.to_dict()["expires_at"]
    assert (await session.extend("1h")).to_dict()["expires_at"] > before
    with pytest.raises(isdk.ValidationError):
        await session.extend("100000h")
    await session.touch()
    await session.terminate()
    assert session.termination_reason == "request"
    assert [event["type"] for event in await session.events()][-1] == "session.lifecycle.terminated"


async def test_bad_requests_leave_nothing(sdk: isdk.InfrastructureSDK, state_dir: Path) -> None:
    for request, field in (
        (isdk.SessionRequest(user_id=""), "user_id"),
        (isdk.SessionRequest(user_id="a\nb"), "user_id"),
        (isdk.SessionRequest(user_id="a", ttl="-1s"), "ttl"),
        (isdk.SessionRequest(user_id="a", session_type="toaster"), "session_type"),
        (isdk.SessionRequest(user_id="a", resources=isdk.ResourceSpec(memory="lots")), "resources.memory"),
    ):
        with pytest.raises(isdk.ValidationError) as caught:
            await sdk.sessions.create(request)
        assert caught.value.context["field"] == field
    with pytest.raises(isdk.NotFoundError):
        await sdk.sessions.create(isdk.SessionRequest(user_id="a", template="linux-tinny"))
    with pytest.raises(isdk.NotFoundError):
        await sdk.sessions.get("s-0000000000000000")
    assert await sdk.sessions.list() == []
    assert list((state_dir / "vms").iterdir()) == []


async def test_cancelling_an_ephemeral_boot_leaves_nothing(sdk: isdk.InfrastructureSDK, state_dir: Path) -> None:
    entered = asyncio.Event()

    async def boot() -> None:
        entered.set()
        async with sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice")):
            raise AssertionError("the boot was cancelled")

    task = asyncio.ensure_future(boot())
    await entered.wait()
    while not await sdk.sessions.list():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list((state_dir / "vms").iterdir()) == []


async def test_a_command_that_never_ends_is_killed(sdk: isdk.InfrastructureSDK) -> None:
    async with sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice")) as session:
        with pytest.raises(isdk.OperationTimeoutError):
            await session.exec("exec sleep 9999", timeout="2s")
        assert (await session.exec("pidof sleep")).stdout.strip() == ""


def test_the_sync_twin_does_the_same(config: isdk.InfraSDKConfig) -> None:
    with (
        sync.InfrastructureSDK(config) as sdk,
        sdk.sessions.ephemeral(sync.SessionRequest(user_id="alice")) as session,
    ):
        assert session.exec(["echo", "hello"]).stdout == "hello\n"
        assert session.desktop.screenshot().png.startswith(b"\x89PNG")
        assert sdk.isolation.validate(session).findings


def test_the_next_owner_adopts_after_kill_9(config: isdk.InfraSDKConfig, state_dir: Path, image_dir: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio, sys, infrastructure_sdk as isdk
        async def main():
            config = {"store": {"state_directory": sys.argv[1]}, "vm": {"image_directory": sys.argv[2]}}
            sdk = isdk.InfrastructureSDK(config)
            await sdk.open()
            session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
            await session.wait_until_active()
            print(session.id, flush=True)
            await asyncio.sleep(3600)
        asyncio.run(main())
        """
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(state_dir), str(image_dir)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    session_id = owner.stdout.readline().strip()
    assert session_id, "the owner said nothing"
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()

    async def next_owner() -> None:
        async with isdk.InfrastructureSDK(config) as sdk:
            (session,) = await sdk.sessions.list()
            assert (session.id, session.state) == (session_id, "active")
            assert (await session.exec(["echo", "adopted"])).stdout == "adopted\n"
            await session.terminate()

    asyncio.run(next_owner())


def cli(*words: str, state_dir: Path, image_dir: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "INFRA_SDK_VM__IMAGE_DIRECTORY": str(image_dir)}
    return subprocess.run(
        [sys.executable, "-m", "infrastructure_sdk.cli", "--state-dir", str(state_dir), *words],
        capture_output=True,
        env=environment,
        timeout=300,
        check=False,
    )


def test_the_command_line_from_several_processes(state_dir: Path, image_dir: Path, tmp_path: Path) -> None:
    def infra(*words: str) -> subprocess.CompletedProcess[bytes]:
        return cli(*words, state_dir=state_dir, image_dir=image_dir)

    created = infra("session", "create", "--user", "alice", "--wait", "-o", "json")
    assert created.returncode == 0, created.stderr
    session = json.loads(created.stdout)
    assert session["state"] == "active"
    listed = infra("session", "list", "-o", "name")
    assert listed.stdout.decode().split() == [session["id"]]
    ran = infra("session", "exec", session["id"], "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, b"out\n", b"err\n")
    assert infra("session", "exec", "s-0000000000000000", "--", "true").returncode == 125
    picture = tmp_path / "screen.png"
    assert infra("session", "screenshot", session["id"], str(picture)).returncode == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    (tmp_path / "note").write_bytes(b"\x00note")
    assert infra("session", "cp", str(tmp_path / "note"), f"{session['id']}:/tmp/note").returncode == 0
    assert infra("session", "cp", f"{session['id']}:/tmp/note", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == b"\x00note"
    assert infra("isolation", "check", session["id"], "--require-isolated").returncode in (0, 6)
    ended = infra("session", "terminate", session["id"], "-o", "json")
    assert json.loads(ended.stdout)["state"] == "terminated", ended.stderr
    assert infra("session", "show", "s-0000000000000000").returncode == 3
    assert infra("session", "create", "--user", "a", "--ttl", "soon").returncode == 2
    assert b"session" in infra("session", "events", session["id"]).stdout


def test_ctrl_c_during_a_boot_leaves_nothing(state_dir: Path, image_dir: Path) -> None:
    environment = {**os.environ, "INFRA_SDK_VM__IMAGE_DIRECTORY": str(image_dir)}
    command = [sys.executable, "-m", "infrastructure_sdk.cli", "--state-dir", str(state_dir)]
    process = subprocess.Popen(
        [*command, "session", "create", "--user", "alice"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not list(state_dir.glob("vms/*/qemu.log")):
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert list((state_dir / "vms").iterdir()) == []
