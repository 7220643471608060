"""Audits of QEMU processes that were started by hand, without a guest."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync
from infrastructure_sdk.cli.app import app
from infrastructure_sdk.isolation import check_catalogue

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
Start = Callable[..., tuple[int, Path]]


def answered(path: Path) -> None:
    """Block until the monitor answers a command: then everything is open."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(path))
        client.sendall(b'{"execute":"qmp_capabilities"}\n')
        text = b""
        while b'"return"' not in text:
            part = client.recv(4096)
            assert part, "QEMU ended"
            text += part


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a paused QEMU with a disk; gives its pid and QMP socket."""
    place = Path(tempfile.mkdtemp(prefix="isdk-audit-"))
    running: list[subprocess.Popen[bytes]] = []

    def run(disk: Path | None = None, mac: str | None = None, *more: str, sandbox: bool = True) -> tuple[int, Path]:
        folder = place / str(len(running))
        folder.mkdir(mode=0o700)
        if disk is None:
            disk = folder / "disk.raw"
            with disk.open("wb") as file:
                file.truncate(1 << 20)
            disk.chmod(0o600)
        path = folder / "qmp.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            number = listener.fileno()
            address = f",mac={mac}" if mac else ""
            command = [
                *("qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-accel", "tcg,tb-size=8", "-m", "32"),
                *("-chardev", f"socket,id=qmp,fd={number},server=on,wait=off", "-mon", "chardev=qmp,mode=control"),
                *("-blockdev", f"driver=file,node-name=f,filename={disk},locking=off"),
                *("-device", "virtio-blk-pci,drive=f,share-rw=on"),
                *("-netdev", "user,id=net0,restrict=on", "-device", f"virtio-net-pci,netdev=net0,romfile={address}"),
                *(("-sandbox", SANDBOX) if sandbox else ()),
                *more,
            ]
            running.append(subprocess.Popen(command, cwd=folder, pass_fds=[number]))
        answered(path)
        return running[-1].pid, path

    yield run
    for process in running:
        process.kill()
        process.wait()
    shutil.rmtree(place)


def statuses(report: isdk.IsolationReport) -> dict[str, str]:
    return {finding.check_id: finding.status for finding in report.findings}


def reasons(report: isdk.IsolationReport) -> dict[str, str]:
    return {finding.check_id: finding.reason for finding in report.findings}


async def test_processes_are_judged_against_each_other(sdk: isdk.InfrastructureSDK, start: Start) -> None:
    first, first_qmp = start(mac="52:54:00:00:00:01")
    disk = first_qmp.parent / "disk.raw"
    linked = disk.with_name("other-name")
    os.link(disk, linked)
    second, second_qmp = start(linked, "52:54:00:00:00:02", sandbox=False)
    third, third_qmp = start(mac="52:54:00:00:00:02")

    sockets = {first: first_qmp, second: second_qmp, third: third_qmp}
    reports = await sdk.isolation.audit(pids=[third, first, second], qmp=sockets)
    assert [report.session_id for report in reports] == [f"pid {pid}" for pid in sorted(sockets)]
    found = {int(report.session_id[4:]): statuses(report) for report in reports}
    assert all(len(checks) == 50 for checks in found.values())
    assert [found[pid]["STO-01"] for pid in sockets] == ["fail", "fail", "pass"]
    assert [found[pid]["NET-12"] for pid in sockets] == ["pass", "fail", "fail"]
    assert [found[pid]["RUN-02"] for pid in sockets] == ["pass", "fail", "pass"]
    assert [found[pid]["STO-03"] for pid in sockets] == ["fail"] * 3
    assert [found[pid]["MEM-03"] for pid in sockets] == ["fail"] * 3  # they run under one uid
    for report in reports:
        for finding in report.findings:
            assert finding.reason and finding.meaning
            assert finding.status in ("pass", "fail", "unknown", "not_applicable")
            assert finding.evidence or finding.status == "unknown"
        assert report.verdict == "not_isolated"
    # It was only looked at.
    answered(first_qmp)


async def test_without_a_monitor_what_needs_it_is_unknown(sdk: isdk.InfrastructureSDK, start: Start) -> None:
    first, path = start(mac="52:54:00:00:00:01")
    (report,) = await sdk.isolation.audit([first])
    found = statuses(report)
    for check in ("NET-01", "NET-12", "RUN-07", "RUN-10", "RUN-12", "STO-06"):
        assert found[check] == "unknown"
        assert "no QMP socket is at hand" in reasons(report)[check], check
    assert found["RUN-02"] == found["STO-05"] == found["MEM-02"] == "pass"
    assert found["STO-03"] == "fail"

    (lost,) = await sdk.isolation.audit([first], qmp={first: "/nowhere/qmp.sock"})
    assert statuses(lost) == found
    assert "there is no QMP socket /nowhere/qmp.sock" in reasons(lost)["RUN-10"]
    # QEMU serves one client at a time.
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(path))
        assert other.recv(4096)
        (deaf,) = await sdk.isolation.audit([first], qmp={first: path})
    assert statuses(deaf) == found
    assert f"{path} does not answer" in reasons(deaf)["RUN-10"]


@pytest.mark.integration
async def test_all_finds_those_of_sessions_and_those_of_others(sdk: isdk.InfrastructureSDK, start: Start) -> None:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    await session.wait_until_active()
    pid, path = start(mac="52:54:00:00:00:01")
    reports = {report.session_id: report for report in await sdk.isolation.audit(all=True, qmp={pid: path})}
    assert {session.id, f"pid {pid}"} <= set(reports)
    # Each through the monitor that is at hand: the session's own, and the given one.
    assert statuses(reports[session.id])["RUN-10"] == statuses(reports[f"pid {pid}"])["RUN-10"] == "pass"
    assert statuses(reports[session.id])["STO-03"] == "pass"
    assert reports[session.id].vm_id == session.vm_id


async def test_bad_requests_name_the_field(sdk: isdk.InfrastructureSDK, start: Start) -> None:
    pid, _ = start()
    for arguments, field in (
        ({}, "pids"),
        ({"pids": [pid], "all": True}, "pids"),
        ({"pids": [pid, pid]}, "pids"),
        ({"pids": [0]}, "pids"),
        ({"pids": [-1]}, "pids"),
        ({"pids": [pid], "qmp": {pid + 1: "/x"}}, "qmp"),
        ({"pids": [pid], "layers": ["soup"]}, "layers"),
    ):
        with pytest.raises(isdk.ValidationError) as caught:
            await sdk.isolation.audit(**arguments)  # type: ignore[arg-type]
        assert caught.value.context["field"] == field, arguments
    with pytest.raises(isdk.NotFoundError) as gone:
        await sdk.isolation.audit([1 << 30])
    assert gone.value.context["value"] == str(1 << 30)
    (report,) = await sdk.isolation.audit([pid], layers=["memory"])
    assert {finding.layer for finding in report.findings} == {"memory"}


def test_the_sync_twin_audits_too(config: isdk.InfraSDKConfig, start: Start) -> None:
    pid, _ = start()
    with sync.InfrastructureSDK(config) as sdk:
        (report,) = sdk.isolation.audit([pid])
    assert report.session_id == f"pid {pid}"


def test_the_command_lists_every_check_with_its_evidence(state_dir: Path, start: Start) -> None:
    first, path = start(mac="52:54:00:00:00:01")
    second, _ = start()

    def infra(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infrastructure_sdk.cli", "--state-dir", str(state_dir), "isolation", "audit"]
        return subprocess.run([*command, *words], capture_output=True, text=True, check=False)

    done = infra("--pid", str(first), "--pid", str(second), "--qmp", f"{first}={path}", "-o", "json")
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    assert [report["session_id"] for report in reports] == [f"pid {pid}" for pid in sorted((first, second))]
    for report in reports:
        assert len(report["findings"]) == 50
        for finding in report["findings"]:
            assert {"check_id", "status", "reason", "evidence"} <= set(finding)
            assert all(item["sha256"] and item["locator"] for item in finding["evidence"])
    table = infra("--pid", str(second))
    assert table.returncode == 0 and "STO-03" in table.stdout and "not_isolated" in table.stdout
    assert infra().returncode == 2
    assert infra("--pid", str(first), "--all").returncode == 2
    assert infra("--pid", str(first), "--qmp", "nonsense").returncode == 2
    assert infra("--pid", str(1 << 30)).returncode == 3


def test_the_catalogue_is_data() -> None:
    checks = {check["id"]: check for check in check_catalogue()}
    assert len(checks) == 50
    shown = CliRunner().invoke(app, ["isolation", "checks", "-o", "json"])
    assert shown.exit_code == 0 and {check["id"]: check for check in json.loads(shown.output)} == checks
    for check in checks.values():
        assert check["title"] and check["meaning"] and check["fix"] and check["controls"] and check["facts"]
        assert check["floor"] in ("E1", "E2", "E3", "E4")
        names = [name.removeprefix("neighbours:") for name in check["kubernetes_facts"]]
        assert names and all(name.startswith(("k8s:", "exec:", "agent:", "probe.")) for name in names)


@pytest.mark.integration
async def test_a_disk_that_is_opened_to_others_is_told_and_so_is_its_end(
    config: isdk.InfraSDKConfig, state_dir: Path
) -> None:
    # What happens to the file makes the looks, not the time.
    seldom = isdk.InfraSDKConfig.from_dict({"isolation": {"recheck_interval": "1h"}})
    kinds = []
    async with isdk.InfrastructureSDK(config.overlaid_with(seldom)) as sdk, asyncio.timeout(300):
        session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
        await session.wait_until_active()
        (disk,) = (state_dir / "vms").glob("*/guest/disk.qcow2")
        async for event in sdk.isolation.watch(session):
            kinds.append(event["type"].removeprefix("session.isolation."))
            changed = {change["check"]: change["to"] for change in event["data"].get("changes", [])}
            if kinds[-1] == "checked":
                assert event["data"]["verdict"] in ("not_isolated", "unproven", "degraded", "isolated")
                disk.chmod(0o644)
            elif changed.get("STO-05") == "fail":
                disk.chmod(0o600)
            elif changed.get("STO-05") == "pass":
                break
        report = await sdk.isolation.validate(session)
        assert next(finding.status for finding in report.findings if finding.check_id == "STO-05") == "pass"
        await session.terminate()
    assert kinds[0] == "checked" and kinds.count("checked") == 1
