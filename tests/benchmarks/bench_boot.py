"""A cold session, create to active, against the same QEMU started by hand.

The reference takes the argument list of the SDK's own VM (same kernel, initrd, devices and sandbox), starts it with
`subprocess` and waits for the answer to one guest-ping. Its disk exists before the clock starts, it runs as the caller,
keeps no record, takes no screenshot. The SDK's time has all of that in it: the disk, the VM's uid and namespaces, the
journal, and every channel of the template. Times of both in turn, medians.
"""

from __future__ import annotations

import time
from statistics import median

from by_hand import HandVm
from measure import Row, installation, run, scratch_directory

import infrastructure_sdk as isdk

ROUNDS = 7


async def boot_session(sdk: isdk.InfrastructureSDK, encryption: str | None = None) -> tuple[isdk.Session, float]:
    """An active session and the seconds that it took."""
    request = isdk.SessionRequest(user_id="bench", template="linux-tiny", ttl="1h", encryption=encryption)
    started = time.perf_counter()
    session = await sdk.sessions.create(request)
    await session.wait_until_active("3m")
    return session, time.perf_counter() - started


def boot_by_hand(vm: HandVm) -> float:
    """Seconds of one boot."""
    vm.make_disk()
    try:
        started = time.perf_counter()
        vm.boot()
        return time.perf_counter() - started
    finally:
        vm.end()


async def main() -> list[Row]:
    sessions: list[float] = []
    by_hand: list[float] = []
    with scratch_directory() as place:
        async with installation(place) as sdk:
            # Not counted: files come into the page cache, and the command line becomes known.
            session, _ = await boot_session(sdk)
            vm = HandVm(place / "state" / "vms" / session.vm_id / "vm.json", place / "by-hand")
            await session.terminate()
            boot_by_hand(vm)
            for _ in range(ROUNDS):
                session, seconds = await boot_session(sdk)
                sessions.append(seconds)
                await session.terminate()
                by_hand.append(boot_by_hand(vm))
    return [Row("create to active", median(sessions), "s", median(by_hand))]


if __name__ == "__main__":
    run(main(), __doc__)
