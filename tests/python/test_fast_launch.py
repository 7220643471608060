"""Sessions that begin as copies of a guest that has booted, on real QEMU."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import infrastructure_sdk as isdk

LOOK = """
cat /proc/sys/kernel/hostname /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub /sys/class/net/eth0/address
head -c 16 /dev/urandom | hexdump -ve '1/1 "%02x"'; echo
date +%s
"""
FIELDS = ("hostname", "machine_id", "ssh_host_key", "mac", "random", "time")


@pytest.fixture
def fast(state_dir: Path, image_dir: Path) -> isdk.InfraSDKConfig:
    return isdk.InfraSDKConfig.from_dict(
        {"store": {"state_directory": str(state_dir)}, "vm": {"image_directory": str(image_dir), "fast_launch": "auto"}}
    )


@pytest.fixture
async def sdk(fast: isdk.InfraSDKConfig) -> AsyncIterator[isdk.InfrastructureSDK]:
    async with isdk.InfrastructureSDK(fast) as opened:
        yield opened
        for session in await opened.sessions.list():
            await session.terminate()


async def launch(sdk: isdk.InfrastructureSDK, **more: object) -> isdk.Session:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice", **more))  # type: ignore[arg-type]
    await session.wait_until_active("5m")
    return session


async def look(session: isdk.Session) -> dict[str, str]:
    text = (await session.exec(["sh", "-c", LOOK])).stdout
    return dict(zip(FIELDS, text.split("\n"), strict=False))


async def process_of(sdk: isdk.InfrastructureSDK, session: isdk.Session) -> int:
    return int((await sdk.vms.inspect(session.id))["process"]["pid"])


def template_files(state_dir: Path) -> list[str]:
    return sorted(str(path.relative_to(state_dir / "templates")) for path in (state_dir / "templates").rglob("*"))


async def test_copies_share_memory_and_nothing_else(sdk: isdk.InfrastructureSDK, state_dir: Path) -> None:
    first, second = await launch(sdk), await launch(sdk)
    for session in (first, second):
        assert (session.launched_from, session.launch_reason) == ("template", "")
        status = await sdk.vms.inspect(session.id)
        assert status["launched_from"] == "template"
    # Each is somebody.
    guests = {session.id: await look(session) for session in (first, second)}
    for session in (first, second):
        guest = guests[session.id]
        assert guest["hostname"] == session.id
        assert guest["mac"] == session.to_dict()["mac_address"]
        assert abs(int(guest["time"]) - time.time()) < 60
    for field in ("hostname", "machine_id", "ssh_host_key", "mac", "random"):
        assert len({guest[field] for guest in guests.values()}) == 2, field
    # What one writes the other does not see, in memory or on its disk; nor does a third one that comes later.
    await first.exec(["sh", "-c", "echo secret >/tmp/mark; echo secret >/data/mark; sync"])
    third = await launch(sdk)
    for session in (second, third):
        assert (await session.exec(["sh", "-c", "cat /tmp/mark /data/mark"])).stdout == ""
    # The RAM of all is the one sealed file, which they may not write.
    for session in (first, second):
        pid = await process_of(sdk, session)
        mappings = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "memfd:guest-ram" in line]
        assert mappings and all(line.split()[1] == "rw-p" for line in mappings)
        words = Path(f"/proc/{pid}/status").read_text().splitlines()
        told = dict(line.split(":\t", 1) for line in words if ":\t" in line)
        assert told["Seccomp"].strip() == "2" and told["CapEff"].strip() == "0" * 16
        if os.geteuid() == 0:
            assert int(told["Uid"].split()[0]) >= 610000
    assert not [name for name in template_files(state_dir) if name.startswith(".new-")]
    # A copy is a VM as any other: it is suspended, and goes on.
    await first.suspend()
    await first.resume()
    assert (await first.exec(["cat", "/tmp/mark"])).stdout == "secret\n"
    assert (await look(first))["mac"] == first.to_dict()["mac_address"]


async def test_a_new_owner_finds_the_template_and_a_damaged_one_is_made_again(
    fast: isdk.InfraSDKConfig, state_dir: Path
) -> None:
    async with isdk.InfrastructureSDK(fast) as sdk:
        await (await launch(sdk)).terminate()
    made = template_files(state_dir)
    record = next((state_dir / "templates").glob("*/template.json"))
    devices = record.parent / "devices.state"
    before = devices.stat().st_ino
    async with isdk.InfrastructureSDK(fast) as sdk:
        session = await launch(sdk)
        assert session.launched_from == "template"
        await session.terminate()
        assert template_files(state_dir) == made and devices.stat().st_ino == before
    # Whoever damaged it: the session starts, and says how.
    devices.write_bytes(b"nonsense")
    async with isdk.InfrastructureSDK(fast) as sdk:
        session = await launch(sdk)
        assert session.launched_from == "cold boot"
        assert session.launch_reason
        assert (await look(session))["hostname"] == session.id
        await session.terminate()
        session = await launch(sdk)
        assert session.launched_from == "template", session.launch_reason
        await session.terminate()


async def test_what_cannot_be_a_copy_is_booted_and_says_why(state_dir: Path, image_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mute.yaml").write_text("name: mute\nextends: linux-tiny\nchannels: [display]\n")
    base = {"store": {"state_directory": str(state_dir)}}
    vm = {"image_directory": str(image_dir), "template_directory": str(tmp_path)}
    async with isdk.InfrastructureSDK({**base, "vm": {**vm, "fast_launch": "auto"}}) as sdk:
        session = await launch(sdk, template="mute")
        assert session.launched_from == "cold boot" and "agent" in session.launch_reason
        await session.terminate()
    async with isdk.InfrastructureSDK({**base, "vm": {**vm, "fast_launch": "off"}}) as sdk:
        session = await launch(sdk)
        assert (session.launched_from, session.launch_reason) == ("cold boot", "vm.fast_launch is off")
        await session.terminate()
    assert not (state_dir / "templates").exists()


OWNER = """
import asyncio, sys
import infrastructure_sdk as isdk

async def main() -> None:
    config = {"store": {"state_directory": sys.argv[1]}, "vm": {"image_directory": sys.argv[2], "fast_launch": "auto"}}
    async with isdk.InfrastructureSDK(config) as sdk:
        await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
        print("created", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_an_owner_that_is_killed_while_it_makes_one_leaves_nothing(
    fast: isdk.InfraSDKConfig, state_dir: Path, image_dir: Path
) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(state_dir), str(image_dir)], stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None and owner.stdout.readline() == b"created\n"
        donor = await asyncio.wait_for(donor_in(state_dir), 60)
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert running(donor) == 1, "the donor outlives its owner"
    async with isdk.InfrastructureSDK(fast) as sdk:
        assert running(donor) == 0 and not (state_dir / "vms" / donor).exists()
        assert [vm for vm in await sdk.vms.list() if vm["id"] == donor] == []
        (session,) = await sdk.sessions.list()
        await session.wait_until_active("5m")
        assert session.launched_from == "template", session.launch_reason
        assert (await look(session))["hostname"] == session.id
        await session.terminate()


async def donor_in(state_dir: Path) -> str:
    """The id of the VM that becomes a template, as soon as its process runs."""
    while True:
        for record in (state_dir / "vms").glob("*/vm.json"):
            try:
                document = json.loads(record.read_text())
            except FileNotFoundError:
                continue  # its folder was renamed: it is there under its own name now
            if document["donor"] and document["phase"] == "running":
                return str(document["spec"]["id"])
        await asyncio.sleep(0.02)


def running(uuid: str) -> int:
    """How many processes call themselves by it."""
    count = 0
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += f"\0{uuid}\0".encode() in place.read_bytes()
        except OSError:
            continue
    return count
