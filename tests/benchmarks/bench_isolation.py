"""A full isolation report of one real session, with and without probes, an audit, and what looking again costs.

The references are what may be taken: 150 ms for 95 of 100 reports, 5 s with probes, 2 s from a drift to its event (also
while other sessions are probed), and 1 % of a core for looking at 100 sessions again every 30 s. Reports are signed and
kept. The sessions are real virtual machines; each report reads everything anew, but digests of base images, which are
kept while the files do not change. The hundred are QEMU processes without a guest, judged against each other; each has
its monitor asked over a connection of its own, which sessions need not make anew. What they take of a core counts the
programs that are run for it. Not in it are Python's objects of the reports, which looks at running sessions do not
make, and what QEMU takes to answer, which is a row of its own.

Of the lab's faults, each of which must fail its check and no other but the declared companions, and of checks whose
evidence is spoiled, the tests are run, and what was judged wrongly is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from statistics import median, quantiles

from measure import Row, installation, run, scratch_directory

import infrastructure_sdk as isdk

REPORTS = 60
PROBED_REPORTS = 20
DRIFTS = 10
SESSIONS = 4
PROCESSES = 100
LOOKS = 5
PROGRAMS = Path(__file__).parents[2] / "build" / "release" / "tests" / "cpp"
INTERVAL = 30  # seconds between two looks, as isolation.recheck_interval has it


def rows_of(name: str, seconds: list[float], allowed: float | None) -> list[Row]:
    """Median and the slowest of 20, in milliseconds."""
    slowest = quantiles(seconds, n=20, method="inclusive")[-1]
    return [
        Row(f"{name}.median", median(seconds) * 1e3, "ms", allowed),
        Row(f"{name}.p95", slowest * 1e3, "ms", allowed),
    ]


async def timed_reports(sdk: isdk.InfrastructureSDK, session: isdk.Session) -> list[float]:
    """Seconds of each report; the first one, which reads the images, is not among them."""
    await sdk.isolation.validate(session)
    seconds = []
    for _ in range(REPORTS):
        start = time.perf_counter()
        report = await sdk.isolation.validate(session)
        seconds.append(time.perf_counter() - start)
        assert len(report.findings) == 50, len(report.findings)
    return seconds


async def started(sdk: isdk.InfrastructureSDK, number: int) -> isdk.Session:
    """A session that is active."""
    session = await sdk.sessions.create(isdk.SessionRequest(user_id=f"user-{number}"))
    await session.wait_until_active()
    return session


async def timed_probes(sdk: isdk.InfrastructureSDK, session: isdk.Session) -> list[float]:
    """Seconds of each report with all probes."""
    seconds = []
    for _ in range(PROBED_REPORTS):
        start = time.perf_counter()
        await sdk.isolation.validate(session, probes=True)
        seconds.append(time.perf_counter() - start)
    return seconds


async def timed_drifts(
    sdk: isdk.InfrastructureSDK, session: isdk.Session, disk: Path, after: int = 0
) -> tuple[list[float], int]:
    """Seconds from a disk's opening to others to the event, or from its closing to the next; and the last event."""
    seconds = []
    events = sdk.isolation.watch(session, after=after)
    if after == 0:
        after = (await anext(events))["sequence"]  # the first look
    for _ in range(DRIFTS):
        # Looks at what made news rest; what happens meanwhile is another figure.
        await asyncio.sleep(3)
        start = time.perf_counter()
        disk.chmod(0o600 if disk.stat().st_mode & 0o044 else 0o644)
        told = False
        while not told:
            event = await anext(events)
            told = any(change["check"] == "STO-05" for change in event["data"].get("changes", []))
        seconds.append(time.perf_counter() - start)
        after = event["sequence"]
    return seconds, after


async def probed_for_ever(sdk: isdk.InfrastructureSDK, sessions: list[isdk.Session]) -> None:
    """Probes one session after the other until cancelled."""
    while True:
        for session in sessions:
            await sdk.isolation.validate(session, probes=True)


@contextlib.asynccontextmanager
async def probes_of(sdk: isdk.InfrastructureSDK, sessions: list[isdk.Session]) -> AsyncIterator[None]:
    """Probes of these sessions without a pause."""
    probing = asyncio.create_task(probed_for_ever(sdk, sessions))
    try:
        yield
    finally:
        probing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await probing


def native_seconds() -> float:
    """Processor time of this process, but of its Python thread, and of the programs that it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used) - time.thread_time()


def seconds_of(pids: Iterable[int]) -> float:
    """Processor time of other processes."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


async def looked_at_again(sdk: isdk.InfrastructureSDK, sockets: dict[int, Path]) -> list[Row]:
    """The share of a core that looking at all of them every `INTERVAL` seconds takes."""
    await sdk.isolation.audit(sockets, qmp=sockets)
    start, start_of_qemu = native_seconds(), seconds_of(sockets)
    for _ in range(LOOKS):
        reports = await sdk.isolation.audit(sockets, qmp=sockets)
        assert len(reports) == PROCESSES, len(reports)
    used, of_qemu = native_seconds() - start, seconds_of(sockets) - start_of_qemu
    share = 100 / (LOOKS * INTERVAL)
    name = f"isolation.looking_again_at_{PROCESSES}"
    return [Row(name, used * share, "% of a core", 1), Row(f"{name}.by_qemu", of_qemu * share, "% of a core")]


@contextlib.contextmanager
def processes(place: Path) -> Iterator[dict[int, Path]]:
    """QEMU processes without a guest, with their monitors' sockets."""
    started = []
    try:
        for number in range(PROCESSES):
            socket = place / f"{number}.sock"
            command = ["qemu-system-x86_64", "-S", "-nodefaults", "-machine", "none", "-display", "none"]
            started.append(subprocess.Popen([*command, "-qmp", f"unix:{socket},server=on,wait=off"]))
        sockets = {process.pid: place / f"{number}.sock" for number, process in enumerate(started)}
        while not all(path.exists() for path in sockets.values()):
            time.sleep(0.1)
        yield sockets
    finally:
        for process in started:
            process.kill()
            process.wait()


def judged_wrongly(name: str, program: str, tests: str, counted: str) -> list[Row]:
    """What those tests found wrong, and among how many."""
    with tempfile.TemporaryDirectory() as place:
        result = Path(place) / "result.json"
        command = [
            str(PROGRAMS / program),
            f"--gtest_filter={tests}",
            f"--gtest_output=json:{result}",
            "--gtest_brief=1",
        ]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        cases = [case for suite in json.loads(result.read_text())["testsuites"] for case in suite["testsuite"]]
    looked_at = sum(int(case.get(counted, 0)) for case in cases)
    if looked_at == 0:
        raise SystemExit(f"{program} {tests}: nothing was judged; the lab needs root")
    wrong = sum(len(case.get("failures", [])) for case in cases)
    return [Row(f"{name}.{counted}", looked_at, ""), Row(f"{name}.wrong", wrong, "")]


async def benchmark() -> list[Row]:
    """Measure on one session, then beside others."""
    rows = []
    with scratch_directory() as place:
        async with installation(place) as sdk:
            first = await started(sdk, 0)
            rows += rows_of("isolation.report", await timed_reports(sdk, first), 150)
            others = [await started(sdk, number) for number in range(1, SESSIONS)]
            rows += rows_of(f"isolation.report_beside_{SESSIONS - 1}", await timed_reports(sdk, first), None)
            start = time.perf_counter()
            reports = await sdk.isolation.audit(all=True)
            per_process = (time.perf_counter() - start) / len(reports)
            rows.append(Row("isolation.audit_per_process", per_process * 1e3, "ms"))
            rows += rows_of(f"isolation.probed_beside_{SESSIONS - 1}", await timed_probes(sdk, first), 5000)
            disk = place / "state" / "vms" / first.vm_id / "guest" / "disk.qcow2"
            seconds, last = await timed_drifts(sdk, first, disk)
            rows += rows_of("isolation.drift_to_event", seconds, 2000)
            async with probes_of(sdk, others):
                seconds, _ = await timed_drifts(sdk, first, disk, last)
            rows += rows_of("isolation.drift_to_event_while_probing", seconds, 2000)
            with processes(place) as sockets:
                rows += await looked_at_again(sdk, sockets)
    rows += judged_wrongly("isolation.matrix", "integration_tests", "IsolationLab.EverySeededFault*", "faults")
    rows += judged_wrongly("isolation.blindness", "unit_tests", "IsolationBlindness.*", "facts_of_checks")
    return rows


if __name__ == "__main__":
    run(benchmark(), __doc__)
