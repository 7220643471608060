"""Claims of warm units in a row: the claim of one until its first command is answered, and what the guests were.

By hand: a VM with the same command line, booted and stopped over QMP; then `cont`, and the same command through its
agent, asked for its end as the SDK asks. Claim: sessions.create(), wait_until_active() and exec(); in that time the SDK
records the claim, gives the guest its hostname, machine-id, SSH host key and random seed, sets its clock and records

Every session then writes a file of its user and ends. What must be different in every guest is compared: hostname,
machine-id, SSH host key, MAC, bytes of /dev/urandom. What must not be there is looked for: the file of anybody before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

from by_hand import HandVm
from measure import Row, scratch_directory, show

import infrastructure_sdk as isdk

LOOK = """
hostname; cat /etc/hostname /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub /sys/class/net/eth0/address
head -c 32 /dev/urandom | hexdump -ve '1/1 "%02x"'; echo
ls /tmp/mark-* /data/mark-* /root/mark-* 2>/dev/null | wc -l
date +%s
"""
FIELDS = ("hostname", "etc_hostname", "machine_id", "ssh_host_key", "mac", "random", "marks", "time")
UNIQUE = ("hostname", "machine_id", "ssh_host_key", "mac", "random")


@asynccontextmanager
async def installation(place: Path, units: int) -> AsyncIterator[isdk.InfrastructureSDK]:
    """An opened SDK with a pool."""
    images = os.environ.get("INFRA_SDK_TEST_IMAGE_DIR") or isdk.config.default_image_directory()
    pools = place / "pools.yaml"
    pools.write_text(json.dumps({"pools": [{"name": "desks", "template": "linux-tiny", "min": units}]}))
    config = {
        "store": {"state_directory": str(place / "state")},
        "vm": {"image_directory": str(images), "fast_launch": "off"},
        "session": {"pools_file": str(pools)},
    }
    async with isdk.InfrastructureSDK(config) as sdk:
        try:
            yield sdk
        finally:
            for session in await sdk.sessions.list():
                await session.terminate()
            await sdk.pools.drain("desks")


def look_at(session: isdk.Session, text: str) -> dict[str, str]:
    """What a guest said of itself; what is wrong with it alone ends the benchmark."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    guest = dict(zip(FIELDS, lines, strict=True))
    assert guest["hostname"] == guest["etc_hostname"] == session.id, guest
    assert guest["mac"] == session.to_dict()["mac_address"], guest
    assert guest["marks"] == "0", f"session {session.id} found a file of somebody else"
    assert abs(int(guest["time"]) - time.time()) < 60, f"the clock of {session.id} is wrong: {guest['time']}"
    return guest


async def claim(sdk: isdk.InfrastructureSDK, user: str) -> tuple[float, isdk.Session]:
    """Seconds until the first command of a new session is answered."""
    started = time.perf_counter()
    session = await sdk.sessions.create(isdk.SessionRequest(user_id=user))
    await session.wait_until_active()
    assert (await session.exec(["true"])).exit_code == 0
    return time.perf_counter() - started, session


def by_hand(vm: HandVm) -> float:
    """Seconds from `cont` until a command is answered, of a VM that was stopped."""
    vm.monitor_command("stop")
    started = time.perf_counter()
    vm.monitor_command("cont")
    vm.run_command(["true"])
    return time.perf_counter() - started


async def measure(sdk: isdk.InfrastructureSDK, place: Path, claims: int) -> list[Row]:
    await sdk.pools.wait("desks")
    claimed: list[float] = []
    reference: list[float] = []
    guests: list[dict[str, str]] = []
    cold = 0
    hand: HandVm | None = None
    try:
        for number in range(claims):
            await sdk.pools.wait("desks")
            elapsed, session = await claim(sdk, f"user-{number}")
            cold += session.launch_type == "cold"
            guests.append(look_at(session, (await session.exec(LOOK)).stdout))
            mark = f"of user-{number}".encode()
            for folder in ("/tmp", "/data", "/root"):
                await session.files.put(mark, f"{folder}/mark-{number}")
            if hand is None:
                hand = HandVm(place / "state" / "vms" / session.vm_id / "vm.json", place / "by-hand")
                hand.make_disk()
                hand.boot()
            await session.terminate()
            await sdk.pools.wait("desks")
            claimed.append(elapsed)
            reference.append(by_hand(hand))
            if sys.stderr.isatty():
                print(f"\r{number + 1} of {claims}", end="", file=sys.stderr)
    finally:
        if hand is not None:
            hand.end()
    same = {name: len(guests) - len({guest[name] for guest in guests}) for name in UNIQUE}
    slow, slow_by_hand = (1000 * quantiles(values, n=100)[-1] for values in (claimed, reference))
    rows = [
        Row("claim", 1000 * median(claimed), "ms", 1000 * median(reference)),
        Row("claim, 99th percentile", slow, "ms", slow_by_hand),
        Row("claims", len(guests), "count"),
        Row("cold starts", cold, "count"),
        *(Row(f"guests with another's {name}", count, "count") for name, count in same.items()),
    ]
    assert not any(same.values()), same
    return rows


async def main(claims: int, units: int) -> list[Row]:
    with scratch_directory() as place:
        async with installation(place, units) as sdk:
            return await measure(sdk, place, claims)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=int, default=20, help="how many, one after the other (default 20)")
    parser.add_argument("--units", type=int, default=2, help="of the pool (default 2)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    show(asyncio.run(main(options.claims, options.units)), options.json)
