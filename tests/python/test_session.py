"""Real sessions on real QEMU, through Python and the command line."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync
from infrastructure_sdk import isolation, vm
from processes import INTERRUPTIBLE

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
    assert len(statuses) == 50
    root = os.geteuid() == 0
    for check in (
        "RUN-02",
        "RUN-03",
        "RUN-06",
        "RUN-07",
        "RUN-11",
        "RUN-12",
        "STO-01",
        "STO-03",
        "STO-04",
        "STO-06",
        "STO-08",
        "MEM-01",
        "MEM-02",
        "MEM-06",
        "NET-01",
        "NET-02",
        "NET-09",
        "NET-12",
        "NET-13",
    ):
        assert statuses[check] == "pass", f"{check} {report.to_dict()}"
    if root:
        assert statuses["RUN-01"] == statuses["STO-05"] == statuses["MEM-03"] == "pass"
    # What only a probe can show, and what a local VM does not have.
    for check in ("NET-03", "NET-04", "NET-05", "NET-07", "NET-11", "RUN-08", "RUN-09", "STO-09"):
        assert statuses[check] == "unknown", check
    for check in ("CMP-06", "CMP-07", "NET-06", "NET-10", "STO-07", "MEM-08"):
        assert statuses[check] == "not_applicable", check
    kvm = sdk.vms.capabilities()["accelerator"] == "kvm"
    assert statuses["CMP-01"] == ("pass" if kvm else "fail")
    for finding in report.findings:
        assert finding.evidence or finding.status == "unknown", finding
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


async def test_networks_are_listed_and_planned(sdk: isdk.InfrastructureSDK) -> None:
    networks = sdk.vms.capabilities()["networks"]
    assert set(networks) == {"none", "isolated", "internet", "bridge"}
    assert networks["none"] == networks["isolated"] == ""

    async def planned(network: str | dict[str, str] | None) -> dict[str, str]:
        resources = isdk.ResourceSpec(network=network)
        document = await sdk.sessions.plan(isdk.SessionRequest(user_id="a", resources=resources))
        found: dict[str, str] = document["resources"]["network"]
        return found

    assert await planned(None) == {"mode": "isolated", "bridge": ""}
    assert await planned("none") == await planned({"mode": "none"}) == {"mode": "none", "bridge": ""}
    with pytest.raises(isdk.UnsupportedError) as caught:
        await planned("bridge:no-such-bridge")
    assert caught.value.context["field"] == "network.mode"


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


async def test_cancelling_an_ephemeral_session_that_is_just_recorded_ends_it(
    sdk: isdk.InfrastructureSDK, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, answer = asyncio.Event(), asyncio.Event()
    create = sdk.sessions.create

    async def answer_late(request: isdk.SessionRequest) -> isdk.Session:
        session = await create(request)
        recorded.set()
        await answer.wait()
        return session

    monkeypatch.setattr(sdk.sessions, "create", answer_late)

    async def boot() -> None:
        async with sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice")):
            raise AssertionError("the boot was cancelled")

    task = asyncio.ensure_future(boot())
    await recorded.wait()
    task.cancel()
    await asyncio.sleep(0)
    answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await sdk.sessions.list() == []
    assert list((state_dir / "vms").iterdir()) == []


async def test_a_command_that_never_ends_is_killed(sdk: isdk.InfrastructureSDK) -> None:
    async with sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice")) as session:
        with pytest.raises(isdk.OperationTimeoutError):
            await session.exec("exec sleep 9999", timeout="2s")
        assert (await session.exec("pidof sleep")).stdout.strip() == ""


async def test_output_and_files_of_any_size_and_content(sdk: isdk.InfrastructureSDK) -> None:
    roomy = isdk.ResourceSpec(memory="512Mi")
    async with sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice", resources=roomy)) as session:
        noise = await session.exec("head -c 6000001 /dev/urandom | tee /tmp/noise; sha256sum </tmp/noise >&2")
        assert (len(noise.stdout_bytes), noise.stdout_truncated) == (6_000_001, False)
        assert noise.stderr.split()[0] == hashlib.sha256(noise.stdout_bytes).hexdigest()
        assert len(repr(noise)) < 1000
        assert await session.files.get("/tmp/noise") == noise.stdout_bytes
        cut = await session.exec(f"head -c {17 << 20} /dev/zero; echo whole >&2")
        assert (len(cut.stdout_bytes), cut.stdout_truncated, cut.stderr_truncated) == (16 << 20, True, False)
        assert cut.stderr == "whole\n"

        content = os.urandom(3_000_001)
        await session.files.put(content, "/tmp/content")
        assert await session.files.get("/tmp/content") == content
        assert (await session.exec(["cat"], stdin=content[:500_000])).stdout_bytes == content[:500_000]
        for path in ("/tmp/two words \u00e4 $(id) '\"", "/data/content"):
            await session.files.put(content[:1000], path)
            assert await session.files.get(path) == content[:1000]
        await session.files.put(b"", "/tmp/content")
        assert await session.files.get("/tmp/content") == b""
        assert (await session.exec("kill -9 $$")).exit_code == 128 + 9
        assert (await session.exec('echo "$A"', env={"A": "b c\n"})).stdout == "b c\n\n"

        refused: list[tuple[Awaitable[Any], type[Exception], str]] = [
            (session.files.get("/tmp/noise", limit=6_000_000), isdk.ValidationError, "limit_bytes"),
            (session.files.get("/dev/zero", limit=100_000), isdk.ValidationError, "limit_bytes"),
            (session.files.get("/tmp/noise", limit=-1), isdk.ValidationError, "arguments"),
            (session.files.get("tmp/noise"), isdk.ValidationError, "path"),
            (session.files.get("/tmp/nothing"), isdk.NotFoundError, "path"),
            (session.files.put(b"", "/nowhere/at/all"), isdk.NotFoundError, "path"),
            (session.exec(["no-such-command"]), isdk.NotFoundError, "arguments"),
            (session.exec([]), isdk.ValidationError, "arguments"),
            (session.exec([1]), isdk.ValidationError, "command"),  # type: ignore[list-item]
            (session.exec(["echo", "a\0b"]), isdk.ValidationError, "command"),
            (session.exec(["echo", "\udcff"]), isdk.ValidationError, "arguments"),
            (session.exec("true", env={"A=B": "c"}), isdk.ValidationError, "env"),
            (session.exec("true", env={"A": 1}), isdk.ValidationError, "env"),  # type: ignore[dict-item]
            (session.exec("true", timeout="soon"), isdk.ValidationError, "timeout"),
            (session.exec("true", timeout=float("nan")), isdk.ValidationError, "timeout"),
        ]
        for attempt, kind, name in refused:
            with pytest.raises(kind) as caught:
                await attempt
            assert isinstance(caught.value, isdk.InfrastructureSDKError)
            assert caught.value.context["field"] == name
        for path in ("/tmp", "/dev/full"):
            with pytest.raises(isdk.ProviderError) as failed:
                await session.files.put(content[:65536], path)
            assert failed.value.context["remote_message"]
        assert (await session.exec("echo still here")).stdout == "still here\n"


async def test_a_vm_that_is_killed_from_outside_fails_and_keeps_its_disk(
    sdk: isdk.InfrastructureSDK, state_dir: Path
) -> None:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    await session.wait_until_active()
    in_flight = asyncio.ensure_future(session.exec("echo begun >/tmp/begun; exec sleep 9999", timeout="5m"))
    while (await session.exec("cat /tmp/begun 2>/dev/null")).stdout != "begun\n":
        pass
    os.kill((await sdk.vms.inspect(session.id))["process"]["pid"], signal.SIGKILL)
    with pytest.raises(isdk.InfrastructureSDKError):
        await in_flight
    await session.wait_until("failed", timeout="60s")
    assert session.failure["reason"] == "ProcessKilled"
    assert "without being asked" in session.failure["message"]
    assert [event["type"] for event in await session.events()][-1] == "session.lifecycle.failed"
    assert (await sdk.vms.inspect(session.id))["state"] == "failed"
    assert (state_dir / "vms" / session.vm_id / "guest/disk.qcow2").stat().st_size > 0
    with pytest.raises(isdk.ProviderError, match="ProcessKilled"):
        await session.wait_until_active()
    for attempt in (session.exec(["true"]), session.suspend(), session.resume(), session.desktop.screenshot()):
        with pytest.raises(isdk.InvalidTransitionError):
            await attempt
    await session.terminate()
    assert (session.state, session.termination_reason) == ("terminated", "request")
    assert list((state_dir / "vms").iterdir()) == []


def change_a_byte(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        (byte,) = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("damage", [change_a_byte, Path.unlink], ids=["changed", "gone"])
async def test_a_damaged_memory_file_is_never_resumed(
    damage: Callable[[Path], None], sdk: isdk.InfrastructureSDK, state_dir: Path
) -> None:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    await session.wait_until_active()
    await session.suspend()
    vm = state_dir / "vms" / session.vm_id
    damage(vm / "guest/memory.state")
    with pytest.raises(isdk.InfrastructureSDKError, match="MemoryFileCorrupted") as caught:
        await session.resume()
    assert caught.value.context["reason"] == "MemoryFileCorrupted"
    assert (await session.refresh()).state == "failed"
    assert session.failure["reason"] == "MemoryFileCorrupted"
    assert (vm / "guest/disk.qcow2").stat().st_size > 0
    assert (await sdk.vms.inspect(session.id))["process"] is None
    await session.terminate()
    assert not vm.exists()


async def test_a_suspend_without_room_on_the_disk_leaves_the_session_active(
    image_dir: Path, tiny_disk: Callable[[str], Path]
) -> None:
    place = tiny_disk("8m")
    config = {"store": {"state_directory": str(place)}, "vm": {"image_directory": str(image_dir)}}
    async with isdk.InfrastructureSDK(config) as sdk:
        session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
        await session.wait_until_active()
        await session.files.put(b"kept", "/tmp/note")
        with pytest.raises(isdk.InvalidTransitionError, match="disk"):
            await session.suspend()
        await session.refresh()
        assert session.state == "active"
        assert "session.lifecycle.suspend_failed" in [event["type"] for event in await session.events()]
        assert await session.files.get("/tmp/note") == b"kept"
        assert not (place / "vms" / session.vm_id / "guest/memory.state").exists()
        await session.terminate()
    assert list((place / "vms").iterdir()) == []


async def test_two_sessions_do_not_see_one_another(sdk: isdk.InfrastructureSDK, state_dir: Path) -> None:
    alice = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    bob = await sdk.sessions.create(isdk.SessionRequest(user_id="bob"))
    await asyncio.gather(alice.wait_until_active(), bob.wait_until_active())
    await alice.files.put(b"alice's", "/data/note")
    await alice.exec("sleep 9999 >/dev/null 2>&1 &")
    with pytest.raises(isdk.NotFoundError):
        await bob.files.get("/data/note")
    assert (await bob.exec("pidof sleep")).stdout == ""
    assert (await alice.exec("pidof sleep")).stdout != ""
    names = [(await session.exec(["hostname"])).stdout.strip() for session in (alice, bob)]
    assert names == [alice.id, bob.id]
    addresses = {(await session.exec(["cat", "/sys/class/net/eth0/address"])).stdout for session in (alice, bob)}
    assert len(addresses) == 2
    assert [session.id for session in await sdk.sessions.list(user_id="bob")] == [bob.id]

    vms = {vm["owner_session"]: vm for vm in await sdk.vms.list()}
    assert set(vms) == {alice.id, bob.id}
    assert vms[alice.id]["process"]["pid"] != vms[bob.id]["process"]["pid"]
    folders = [(state_dir / "vms" / session.vm_id / "guest").stat() for session in (alice, bob)]
    assert [folder.st_mode & 0o777 for folder in folders] == [0o700, 0o700]
    if os.geteuid() == 0:
        assert folders[0].st_uid != folders[1].st_uid
    by_probes = ("NET-03", "NET-04", "NET-05", "NET-07", "NET-11", "RUN-08", "RUN-09", "STO-05", "STO-09")
    for session in (alice, bob):
        report = await sdk.isolation.validate(session, probes=True)
        statuses = {finding.check_id: finding.status for finding in report.findings}
        for check in ("STO-01", "STO-03", "STO-08", "MEM-02", "NET-12", "RUN-07", "RUN-11"):
            assert statuses[check] == "pass", (check, report.to_dict())
        assert statuses["MEM-03"] == ("pass" if os.geteuid() == 0 else "fail")
        if os.geteuid() != 0:
            continue
        for finding in report.findings:
            if finding.check_id in by_probes:
                assert finding.status == "pass", finding
                assert any(item.source == "probe" and item.strength == "E4" for item in finding.evidence), finding
    if os.geteuid() == 0:
        # A control channel that somebody opened to others: the probe catches it, and in that session alone.
        guest = state_dir / "vms" / alice.vm_id / "guest"
        guest.chmod(0o711)
        (guest / "vnc.sock").chmod(0o777)
        found = {}
        for session in (alice, bob):
            report = await sdk.isolation.validate(session, probes=["RUN-08"])
            found[session.id] = {finding.check_id: finding.status for finding in report.findings}
        assert found[alice.id]["RUN-08"] == "fail" and found[bob.id]["RUN-08"] == "pass"
        assert found[alice.id]["NET-04"] == found[bob.id]["NET-04"] == "pass"  # what was probed before still counts

    await alice.terminate()
    assert (await bob.exec("echo unharmed")).stdout == "unharmed\n"
    await bob.terminate()


async def test_checks_of_the_users_own(sdk: isdk.InfrastructureSDK) -> None:
    @isdk.isolation_check(
        "ACME-01", layer="runtime", severity="high", title="Its name is its own", facts=["qmp:query-name"]
    )
    def named(facts: Mapping[str, Any]) -> isolation.Verdict:
        return "pass" if facts["qmp:query-name"]["name"] else ("fail", "it has no name")

    @isdk.isolation_check("ACME-02", layer="memory", severity="low", title="Nothing", facts=["proc.ksm"])
    def broken(facts: Mapping[str, Any]) -> isolation.Verdict:
        raise KeyError("a bug of ours")

    await sdk.isolation.register(named)
    await sdk.isolation.register(broken)
    with pytest.raises(isdk.ValidationError) as caught:
        await sdk.isolation.register(named)
    assert caught.value.context["field"] == "id"
    with pytest.raises(isdk.ValidationError) as caught:
        await sdk.isolation.register(dataclasses.replace(named, id="ACME-03", layer="cellar"))
    assert caught.value.context["field"] == "layer"

    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    await session.wait_until_active()
    with pytest.raises(isdk.ValidationError) as caught:
        await sdk.isolation.validate(session, probes=["CMP-01"])
    assert caught.value.context["field"] == "probes"
    report = await sdk.isolation.validate(session)
    found = {finding.check_id: finding for finding in report.findings}
    assert len(found) == 52
    assert found["ACME-01"].status == "pass" and found["ACME-01"].evidence[0].locator == "qmp:query-name"
    assert found["ACME-02"].status == "unknown" and "a bug of ours" in found["ACME-02"].reason
    kept = (await sdk.isolation.history(session))[-1]
    assert "ACME-01" in kept.export("sarif") and "ACME-01" in kept.export("html")
    await session.terminate()


async def test_verbs_that_the_state_forbids_change_nothing(sdk: isdk.InfrastructureSDK) -> None:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    await session.wait_until_active()

    async def refused(kind: type[Exception], *attempts: Awaitable[Any]) -> None:
        before = (await session.refresh()).to_dict()["version"]
        for attempt in attempts:
            with pytest.raises(kind) as caught:
                await attempt
            assert isinstance(caught.value, isdk.InfrastructureSDKError)
        assert (await session.refresh()).to_dict()["version"] == before

    await refused(isdk.InvalidTransitionError, session.wait_until("suspended"))
    await refused(
        isdk.ValidationError,
        session.wait_until("sleepy"),
        session.terminate(reason="boredom"),
        session.terminate(timeout="soon"),
        session.suspend(timeout=-1),
        session.extend("0s"),
        session.extend("soon"),
        sdk.isolation.validate(session, layers=["feelings"]),
    )
    assert (await session.resume()).state == "active", "resuming what runs does nothing"
    await session.suspend()
    await refused(
        isdk.InvalidTransitionError,
        session.exec(["true"]),
        session.files.get("/tmp/x"),
        session.files.put(b"", "/tmp/x"),
        session.desktop.screenshot(),
        session.wait_until_active(),
    )
    await refused(isdk.ValidationError, session.resume(timeout="soon"))
    assert (await session.suspend()).state == "suspended"
    await session.terminate(reason="admin")
    assert session.termination_reason == "admin"
    await refused(
        isdk.InvalidTransitionError,
        session.exec(["true"]),
        session.suspend(),
        session.resume(),
        session.touch(),
        session.extend("1h"),
        session.wait_until_active(),
    )
    await session.terminate()
    assert session.termination_reason == "admin"
    with pytest.raises(isdk.ValidationError):
        async with sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice"), timeout="soon"):
            raise AssertionError("the timeout is wrong")
    assert await sdk.sessions.list() == []


async def test_a_closed_sdk_says_so(config: isdk.InfraSDKConfig) -> None:
    sdk = isdk.InfrastructureSDK(config)
    with pytest.raises(isdk.InvalidTransitionError, match="not open"):
        await sdk.sessions.list()
    async with sdk:
        pass
    with pytest.raises(isdk.InvalidTransitionError, match="not open"):
        sdk.vms.capabilities()
    await sdk.close()


async def test_a_request_that_is_none_is_refused(sdk: isdk.InfrastructureSDK) -> None:
    for request in (
        {"user_id": "alice"},
        isdk.SessionRequest(user_id="alice", resources={"cpu": "2"}),  # type: ignore[arg-type]
        isdk.SessionRequest(user_id="alice", tags={"a": object()}),  # type: ignore[dict-item]
        isdk.SessionRequest(user_id="\udcff"),
        isdk.SessionRequest(user_id=7),  # type: ignore[arg-type]
    ):
        with pytest.raises(isdk.ValidationError):
            await sdk.sessions.create(request)  # type: ignore[arg-type]
    assert await sdk.sessions.list() == []


async def test_correlation_ids_arrive_and_secrets_do_not(
    state_dir: Path, image_dir: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hunter2-canary"
    monkeypatch.setenv("CANARY", secret)
    config = isdk.InfraSDKConfig.from_dict(
        {
            "store": {"state_directory": str(state_dir)},
            "vm": {"image_directory": str(image_dir)},
            "kubernetes": {"token": "env:CANARY"},
            "logging": {"level": "debug"},
        }
    )
    shown = [repr(config), repr(config.kubernetes), str(config.to_dict())]
    with pytest.raises(isdk.ConfigurationError) as caught:
        isdk.InfraSDKConfig.from_dict({"kubernetes": {"token": secret}})
    shown += [str(caught.value), repr(caught.value), repr(caught.value.context)]
    with caplog.at_level(logging.DEBUG, logger="infrastructure_sdk"):
        async with isdk.InfrastructureSDK(config) as sdk:
            with isdk.logging.correlation_id("request-7"):
                session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
                await session.wait_until_active()
                result = await session.exec("cat; echo $TOKEN", stdin=secret, env={"TOKEN": secret})
                assert result.stdout == f"{secret}{secret}\n"
                await session.files.put(secret.encode(), "/tmp/secret")
                with pytest.raises(isdk.ValidationError) as refused:
                    await session.exec("true", env={"TOKEN": secret + "\0"})
                shown += [str(refused.value), repr(refused.value.context)]
                command = Path(f"/proc/{(await sdk.vms.inspect(session.id))['process']['pid']}/cmdline").read_text()
            with isdk.logging.correlation_id("request-8"):
                await session.terminate()
            events = await session.events()
            shown += [repr(sdk), repr(session), session._repr_html_(), str(session.to_dict()), str(events), command]
    by_type = {event["type"].rpartition(".")[2]: event["correlation_id"] for event in events}
    assert {by_type[word] for word in ("created", "started", "ready")} == {"request-7"}
    assert {by_type[word] for word in ("terminating", "terminated")} == {"request-8"}
    records = [record for record in caplog.records if record.name.startswith("infrastructure_sdk.")]
    ids = {getattr(record, "correlation_id", "") for record in records}
    assert "request-8" in ids
    assert all(record.__dict__["fields"]["session"] == session.id for record in records if "session" in record.name)
    shown += [record.getMessage() + str(record.__dict__) for record in caplog.records]
    shown += [file.read_bytes().decode(errors="replace") for file in state_dir.rglob("*") if file.is_file()]
    assert secret not in "".join(shown)


async def test_watching_misses_nothing_and_repeats_nothing(sdk: isdk.InfrastructureSDK) -> None:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))

    async def watch(after: int, stop_at: str) -> list[dict[str, Any]]:
        seen = []
        async for event in session.watch(after=after):
            seen.append(dict(event))
            if event["type"].endswith(stop_at):
                break
        return seen

    first = await watch(0, "ready")
    rest = asyncio.create_task(watch(first[-1]["sequence"], "never"))
    await session.terminate()
    seen = first + await rest
    async for event in sdk.events.watch(after=first[-1]["sequence"]):
        assert event["subject"] == session.id
        break
    assert seen == [dict(event) for event in await session.events()]
    assert [event["type"].rpartition(".")[2] for event in seen] == [
        "created",
        "started",
        "ready",
        "terminating",
        "terminated",
    ]


def test_the_sync_twin_watches_too(config: isdk.InfraSDKConfig) -> None:
    with sync.InfrastructureSDK(config) as sdk:
        with sdk.sessions.ephemeral(sync.SessionRequest(user_id="alice")) as session:
            for event in session.watch():
                if event["type"].endswith("ready"):
                    break
        types = [event["type"].rpartition(".")[2] for event in session.watch()]
    assert types[0] == "created"
    assert types[-1] == "terminated"


async def test_the_doctor_may_be_asked_inside_a_running_loop(config: isdk.InfraSDKConfig) -> None:
    lines = vm.doctor(config)
    assert {"qemu", "accelerator", "image"} <= {line["name"] for line in lines}


def test_the_sync_twin_does_the_same(config: isdk.InfraSDKConfig) -> None:
    with (
        sync.InfrastructureSDK(config) as sdk,
        sdk.sessions.ephemeral(sync.SessionRequest(user_id="alice")) as session,
    ):
        assert session.exec(["echo", "hello"]).stdout == "hello\n"
        assert session.desktop.screenshot().png.startswith(b"\x89PNG")
        assert sdk.isolation.validate(session).findings


def test_ctrl_c_between_a_recorded_session_and_its_block_ends_it(
    config: isdk.InfraSDKConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    with sync.InfrastructureSDK(config) as sdk:
        create = sdk._twin.sessions.create

        async def answer_late(request: isdk.SessionRequest) -> isdk.Session:
            session: isdk.Session = await create(request)
            signal.pthread_kill(waiting, signal.SIGINT)
            await asyncio.to_thread(interrupted.wait)
            return session

        monkeypatch.setattr(sdk._twin.sessions, "create", answer_late)
        waiting = threading.get_ident()
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            with pytest.raises(KeyboardInterrupt), sdk.sessions.ephemeral(sync.SessionRequest(user_id="alice")):
                raise AssertionError("it was interrupted")
        finally:
            signal.signal(signal.SIGINT, before)
        assert sdk.sessions.list() == []
        assert [event["type"].rpartition(".")[2] for event in sdk.events.list()][-1] == "terminated"


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
    assert listed.returncode == 0, listed.stderr
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
        [*INTERRUPTIBLE, *command, "session", "create", "--user", "alice"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not list(state_dir.glob("vms/*/guest/qemu.log")):
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert list((state_dir / "vms").iterdir()) == []
