"""A session that begins as a copy of a template, create to its first command answered, against the recipe by hand.

By hand: a guest that was booted with its RAM in a file is stopped and its devices are saved; a clone copies the disk,
starts the same command line with that file mapped privately, loads the devices, continues, synchronises with the agent,
sets the clock, gives the guest a hostname, a machine-id, an SSH host key, a random seed and the address of its network
card through one shell, and runs `true`. The row "without an identity" leaves out what the shell does: the clones are
then all the same guest. The SDK's time has the journal, the records, its VM's uid and namespaces and the screenshot of
the display channel in it. The template is there before the clock starts; what making it costs is a row of its own.

Memory is the sum of the proportional set sizes of the VM processes: a page that n of them map counts for each as 1/n.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from by_hand import HandVm
from measure import Row, installation, run, scratch_directory

import infrastructure_sdk as isdk

ROUNDS = 7
VMS = 4

IDENTITY = """set -e
echo 0123456789abcdef0123456789abcdef >/dev/urandom
echo by-hand >/proc/sys/kernel/hostname
echo by-hand >/etc/hostname
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
mkdir -p /etc/ssh
echo key >/etc/ssh/ssh_host_ed25519_key
ip link set dev eth0 address 02:00:00:00:00:77
"""


async def launch(sdk: isdk.InfrastructureSDK, expected: str) -> tuple[float, isdk.Session]:
    """Seconds until the first command of a new session is answered."""
    started = time.perf_counter()
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="bench", template="linux-tiny", ttl="1h"))
    await session.wait_until_active("3m")
    assert (await session.exec(["true"])).exit_code == 0
    elapsed = time.perf_counter() - started
    assert session.launched_from == expected, session.launch_reason
    return elapsed, session


class HandTemplate:
    """The recipe: files of a guest that has booted, and clones of it."""

    def __init__(self, record: Path, place: Path) -> None:
        place.mkdir()
        self._vm = HandVm(record, place / "vm")
        self._ram, self._state, self._disk = place / "ram.img", place / "devices.state", place / "disk.qcow2"
        self._vm.make_disk()
        self._vm.boot_in(self._ram)
        self._vm.run_command(["sh", "-s"], IDENTITY)
        time.sleep(1)  # it settles
        self._vm.save_template(self._state)
        self._disk.write_bytes((self._vm.directory / "disk.qcow2").read_bytes())

    def clone(self, identity: bool) -> float:
        """Seconds until a command of a clone is answered."""
        try:
            started = time.perf_counter()
            self._vm.clone(self._ram, self._state, self._disk)
            if identity:
                self._vm.run_command(["sh", "-s"], IDENTITY)
            self._vm.run_command(["true"])
            return time.perf_counter() - started
        finally:
            self._vm.end()


def proportional_mib(pid: int) -> float:
    """Of a process, its share of shared pages."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no Pss")


async def memory_of(sdk: isdk.InfrastructureSDK, expected: str) -> float:
    """MiB of so many sessions that run at once."""
    sessions = [(await launch(sdk, expected))[1] for _ in range(VMS)]
    statuses = [await sdk.vms.inspect(session.id) for session in sessions]
    total = sum(proportional_mib(status["process"]["pid"]) for status in statuses)
    for session in sessions:
        await session.terminate()
    return total


async def main() -> list[Row]:
    sessions: list[float] = []
    by_hand: list[float] = []
    bare: list[float] = []
    with scratch_directory() as place:
        async with installation(place / "cold") as sdk:
            cold, session = await launch(sdk, "cold boot")
            await session.terminate()
            cold_memory = await memory_of(sdk, "cold boot")
        async with installation(place / "fast", fast_launch="auto") as sdk:
            making, session = await launch(sdk, "template")
            hand = HandTemplate(place / "fast" / "state" / "vms" / session.vm_id / "vm.json", place / "by-hand")
            await session.terminate()
            for _ in range(1 + ROUNDS):
                elapsed, session = await launch(sdk, "template")
                await session.terminate()
                sessions.append(elapsed)
                by_hand.append(hand.clone(identity=True))
                bare.append(hand.clone(identity=False))
            # The first round warms up.
            fast_memory = await memory_of(sdk, "template")
    clone, full, without = (1000 * median(times[1:]) for times in (sessions, by_hand, bare))
    return [
        Row("clone to exec", clone, "ms", full),
        Row("the same, without an identity", clone, "ms", without),
        Row("cold boot to exec", 1000 * cold, "ms"),
        Row("first launch, with the template", 1000 * making, "ms"),
        Row(f"memory of {VMS} clones", fast_memory, "MiB", cold_memory),
    ]


if __name__ == "__main__":
    run(main(), __doc__)
