"""Session.suspend() and Session.resume() against migration to a file descriptor by hand, over QMP.

By hand: migrate-set-parameters (no rate limit), stop, getfd, migrate, query-migrate until it is completed, quit, the
end of the process; then the same command line with `-incoming defer`, migrate-incoming, query-status until it is
loaded, cont, guest-sync, guest-set-time. That leaves the file in the page cache, and nobody would see that it was
damaged; the SDK brings it to disk, hashes it, checks the hash, records each step and waits for every channel. The row
"to disk" adds an fdatasync by hand. The rows "encrypted" are of a second session, whose memory file is encrypted,
compared with the SDK's own plain suspend. All three virtual machines run all the time, one goes through its cycle
while the others idle; medians.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench_boot import boot_session
from by_hand import HandVm
from measure import Row, installation, run, scratch_directory

import infrastructure_sdk as isdk

ROUNDS = 21


def seconds_of(verb: Callable[[], None]) -> float:
    """How long a blocking call takes."""
    started = time.perf_counter()
    verb()
    return time.perf_counter() - started


async def session_cycle(session: isdk.Session) -> tuple[float, float]:
    """Seconds of a suspend and of a resume."""
    started = time.perf_counter()
    await session.suspend()
    suspended = time.perf_counter()
    await session.resume()
    return suspended - started, time.perf_counter() - suspended


def hand_cycle(vm: HandVm) -> tuple[float, float, float]:
    """Seconds of a suspend, of bringing its file to disk and of a resume."""
    suspend = seconds_of(vm.suspend)
    file = os.open(vm.memory, os.O_RDWR)
    sync = seconds_of(lambda: os.fdatasync(file))
    os.close(file)
    return suspend, sync, seconds_of(vm.resume)


async def measure(session: isdk.Session, sealed: isdk.Session, record: Path, directory: Path) -> list[Row]:
    sessions: list[tuple[float, float]] = []
    encrypted: list[tuple[float, float]] = []
    by_hand: list[tuple[float, float, float]] = []
    vm = HandVm(record, directory)
    try:
        vm.make_disk()
        vm.boot()
        vm.connect()
        for _ in range(1 + ROUNDS):
            sessions.append(await session_cycle(session))
            encrypted.append(await session_cycle(sealed))
            by_hand.append(hand_cycle(vm))
    finally:
        vm.end()
    # The first round warms up.
    suspend, resume = (1000 * median(column) for column in zip(*sessions[1:], strict=True))
    sealed_suspend, sealed_resume = (1000 * median(column) for column in zip(*encrypted[1:], strict=True))
    by_hand_suspend, by_hand_sync, by_hand_resume = (1000 * median(column) for column in zip(*by_hand[1:], strict=True))
    return [
        Row("suspend", suspend, "ms", by_hand_suspend),
        Row("suspend to disk", suspend, "ms", by_hand_suspend + by_hand_sync),
        Row("resume", resume, "ms", by_hand_resume),
        Row("encrypted suspend", sealed_suspend, "ms", suspend),
        Row("encrypted resume", sealed_resume, "ms", resume),
    ]


async def main() -> list[Row]:
    with scratch_directory() as place:
        async with installation(place, encryption="off") as sdk:
            session, _ = await boot_session(sdk)
            sealed, _ = await boot_session(sdk, encryption="memory")
            record = place / "state" / "vms" / session.vm_id / "vm.json"
            return await measure(session, sealed, record, place / "by-hand")


if __name__ == "__main__":
    run(main(), __doc__)
