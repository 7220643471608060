"""Warm pools on real QEMU: claims, identities, what operators ask."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync

pytestmark = pytest.mark.integration

LOOK = """
hostname; cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub /sys/class/net/eth0/address /etc/hostname
head -c 32 /dev/urandom | hexdump -ve '1/1 "%02x"'; echo
ls /tmp/mark /data/mark /root/mark 2>/dev/null | wc -l; date +%s
"""


@pytest.fixture
def pool_config(config: isdk.InfraSDKConfig, state_dir: Path) -> isdk.InfraSDKConfig:
    document = state_dir / "pools.yaml"
    document.write_text("pools: [{name: desks, template: linux-tiny, min: 1, max: 2}]")
    return config.overlaid_with(isdk.InfraSDKConfig.from_dict({"session": {"pools_file": str(document)}}))


@pytest.fixture
async def sdk(pool_config: isdk.InfraSDKConfig) -> AsyncIterator[isdk.InfrastructureSDK]:
    async with isdk.InfrastructureSDK(pool_config) as opened:
        yield opened
        for session in await opened.sessions.list():
            await session.terminate()
        await opened.pools.drain("desks")


async def test_every_claim_is_of_a_guest_of_its_own(sdk: isdk.InfrastructureSDK) -> None:
    seen: list[list[str]] = []
    for number in range(3):
        pool = await sdk.pools.wait("desks")
        assert (pool.ready, pool.booting, pool.claimed) == (1, 0, 0)
        (unit,) = pool.document["units"]
        session = await sdk.sessions.create(isdk.SessionRequest(user_id=f"user-{number}"))
        assert session.state == "provisioning"
        await session.wait_until_active()
        assert (session.launch_type, session.pool, session.vm_id) == ("warm", "desks", unit["vm_id"])
        assert (await sdk.pools.get("desks")).claimed == 1
        lines = (await session.exec(LOOK)).stdout.split("\n")
        hostname, machine_id, key, mac, etc_hostname, random, marks, guest_time = lines[:8]
        assert hostname == etc_hostname == session.id
        assert mac == session.to_dict()["mac_address"] == unit["mac_address"]
        assert key.startswith("ssh-ed25519 ") and key.endswith(f" {session.id}")
        assert marks == "0", "a file of the user before"
        host_time = (await session.exec(["date", "+%s"])).stdout
        assert abs(int(host_time) - int(guest_time)) < 60
        private = await session.files.get("/etc/ssh/ssh_host_ed25519_key")
        assert (await session.exec("stat -c %a /etc/ssh/ssh_host_ed25519_key /etc/machine-id")).stdout == "600\n644\n"
        assert private.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
        seen.append([hostname, machine_id, key, mac, random, private.decode()])
        for folder in ("/tmp", "/data", "/root"):
            await session.files.put(b"mine", f"{folder}/mark")
        vms = {vm["id"]: vm["owner_session"] for vm in await sdk.vms.list()}
        assert vms[session.vm_id] == session.id
        await session.terminate()
    for column in zip(*seen, strict=True):
        assert len(set(column)) == len(seen), column
    events = [event for event in await sdk.events.list() if event["type"].startswith("pool.unit.")]
    claimed = [event for event in events if event["type"] == "pool.unit.claimed"]
    assert len(claimed) == 3
    assert {event["data"]["session"] for event in claimed} == {line[0] for line in seen}
    kinds = [event["type"].removeprefix("pool.unit.") for event in events if event["subject"] == claimed[0]["subject"]]
    assert kinds == ["booting", "ready", "claimed"]


async def test_a_cold_session_has_an_identity_too(config: isdk.InfraSDKConfig) -> None:
    async with isdk.InfrastructureSDK(config) as plain:
        session = await plain.sessions.create(isdk.SessionRequest(user_id="alice"))
        try:
            await session.wait_until_active()
            assert session.launch_type == "cold"
            lines = (await session.exec(LOOK)).stdout.split("\n")
            assert lines[0] == lines[4] == session.id
            assert len(lines[1]) == 32
            assert lines[2].startswith("ssh-ed25519 ")
        finally:
            await session.terminate()


async def test_a_unit_that_is_there_is_adopted_by_the_next_owner(pool_config: isdk.InfraSDKConfig) -> None:
    async with isdk.InfrastructureSDK(pool_config) as first:
        (unit,) = (await first.pools.wait("desks")).document["units"]
    async with isdk.InfrastructureSDK(pool_config) as second:
        pool = await second.pools.get("desks")
        assert [found["id"] for found in pool.document["units"]] == [unit["id"]]
        assert pool.ready == 1
        session = await second.sessions.create(isdk.SessionRequest(user_id="alice"))
        await session.wait_until_active()
        assert (session.vm_id, session.launch_type) == (unit["vm_id"], "warm")
        await session.suspend()
        await session.resume()
        assert (await session.exec(["hostname"])).stdout == f"{session.id}\n"
        await session.terminate()
        await second.pools.drain("desks")
        assert await second.vms.list() == []


def qemu_of(vm_id: str) -> int:
    """The process of a virtual machine."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if vm_id.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    return int(entry.name)
    raise AssertionError(f"VM {vm_id} has no process")


async def test_a_unit_that_dies_is_not_the_users_trouble(sdk: isdk.InfrastructureSDK) -> None:
    (unit,) = (await sdk.pools.wait("desks")).document["units"]
    os.kill(qemu_of(unit["vm_id"]), signal.SIGKILL)
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    await session.wait_until_active()
    await session.refresh()
    assert session.vm_id != unit["vm_id"]
    assert (await session.exec(["hostname"])).stdout == f"{session.id}\n"
    types = {event["type"] for event in await sdk.events.list()}
    assert "session.lifecycle.failed" not in types
    await sdk.pools.wait("desks")
    ends = [event for event in await sdk.events.list() if event["type"] == "pool.unit.discarded"]
    assert [event["subject"] for event in ends] == [unit["id"]]


async def test_a_unit_whose_owner_was_killed_while_it_booted_is_finished(pool_config: isdk.InfraSDKConfig) -> None:
    script = f"""
import asyncio, json
import infrastructure_sdk as isdk

async def main():
    async with isdk.InfrastructureSDK(json.loads({json.dumps(pool_config.to_dict())!r})) as sdk:
        while not await sdk.vms.list():
            await asyncio.sleep(0.05)
        print("boots", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "boots\n"
    owner.kill()
    owner.wait()
    owner.stdout.close()
    async with isdk.InfrastructureSDK(pool_config) as sdk:
        begun = [event["subject"] for event in await sdk.events.list() if event["type"] == "pool.unit.booting"]
        assert len(begun) == 1
        pool = await sdk.pools.wait("desks")
        assert [unit["id"] for unit in pool.document["units"]] == begun
        assert [vm["id"] for vm in await sdk.vms.list()] == [pool.document["units"][0]["vm_id"]]
        await sdk.pools.drain("desks")
        assert await sdk.vms.list() == []


async def test_what_may_be_asked_of_a_pool(sdk: isdk.InfrastructureSDK) -> None:
    with pytest.raises(isdk.NotFoundError, match="desks"):
        await sdk.pools.get("chairs")
    with pytest.raises(isdk.ValidationError, match="at most 2"):
        await sdk.pools.refill("desks", 3)
    for wrong in (-1, True, "2"):
        with pytest.raises(isdk.ValidationError, match="units"):
            await sdk.pools.refill("desks", wrong)  # type: ignore[arg-type]
    drained = await sdk.pools.drain("desks")
    assert (drained.drained, drained.wanted, drained.ready) == (True, 0, 0)
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    assert session.launch_type == "cold"
    assert "<b>desks</b>" in drained._repr_html_()
    assert repr(drained) == "<WarmPool desks: 0 of 0 ready, 0 claimed>"


def test_a_pools_document_that_is_wrong_fails_the_start(config: isdk.InfraSDKConfig, state_dir: Path) -> None:
    document = state_dir / "pools.yaml"
    with_pools = config.overlaid_with(isdk.InfraSDKConfig.from_dict({"session": {"pools_file": str(document)}}))
    with pytest.raises(isdk.ConfigurationError, match="pools_file"):
        sync.InfrastructureSDK(with_pools).open()
    document.write_text("pools: [{name: a, template: linux-tiny, mn: 2}]")
    with pytest.raises(isdk.ValidationError, match="mn"):
        sync.InfrastructureSDK(with_pools).open()
    document.write_text("pools: [{name: a, template: linux-tinny}]")
    with pytest.raises(isdk.ValidationError, match="did you mean 'linux-tiny'"):
        sync.InfrastructureSDK(with_pools).open()


def infra(config: isdk.InfraSDKConfig, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "INFRA_SDK_STORE__STATE_DIRECTORY": config.store.state_directory,
        "INFRA_SDK_VM__IMAGE_DIRECTORY": config.vm.image_directory,
        "INFRA_SDK_SESSION__POOLS_FILE": config.session.pools_file,
    }
    command = [sys.executable, "-m", "infrastructure_sdk.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_command_line(pool_config: isdk.InfraSDKConfig) -> None:
    filled = infra(pool_config, "pool", "refill", "desks", "-o", "json")
    assert filled.returncode == 0, filled.stderr
    (pool,) = json.loads(filled.stdout)
    assert (pool["name"], pool["ready"], pool["wanted"]) == ("desks", 1, 1)
    assert infra(pool_config, "pool", "list", "-o", "name").stdout == "desks\n"
    table = infra(pool_config, "pool", "list").stdout.split("\n")
    assert table[0].split()[:4] == ["pool", "template", "wanted", "ready"]
    assert table[1].split()[:4] == ["desks", "linux-tiny", "1", "1"]
    shown = infra(pool_config, "pool", "show", "desks").stdout
    assert pool["units"][0]["id"] in shown
    assert json.loads(infra(pool_config, "pool", "show", "desks", "-o", "json").stdout)["max_age"] == "4h"
    said = infra(pool_config, "pool", "drain", "desks", "--dry-run")
    assert said.returncode == 0 and "1 units of pool desks would be removed" in said.stderr
    assert infra(pool_config, "pool", "show", "chairs").returncode == 3
    assert infra(pool_config, "pool", "refill", "desks", "--units", "7").returncode == 2
    drained = infra(pool_config, "pool", "drain", "desks", "-o", "json")
    assert drained.returncode == 0, drained.stderr
    assert json.loads(drained.stdout)[0]["units"] == []
