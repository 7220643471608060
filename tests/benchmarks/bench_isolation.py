"""A full isolation report of one real session, without probes, and an audit of several.

The reference of the report is the time that it may take: 150 ms for 95 of 100. The sessions are real virtual machines;
each report reads everything anew, but digests of base images, which are kept while the files do not change.
"""

from __future__ import annotations

import time
from statistics import median, quantiles

from measure import Row, installation, run, scratch_directory

import infrastructure_sdk as isdk

REPORTS = 60
SESSIONS = 4


def rows_of(name: str, seconds: list[float], allowed: float | None) -> list[Row]:
    """Median and the slowest of 20, in milliseconds."""
    slowest = quantiles(seconds, n=20)[-1]
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


async def benchmark() -> list[Row]:
    """Measure on one session, then beside others."""
    rows = []
    with scratch_directory() as place:
        async with installation(place) as sdk:
            first = await started(sdk, 0)
            rows += rows_of("isolation.report", await timed_reports(sdk, first), 150)
            for number in range(1, SESSIONS):
                await started(sdk, number)
            rows += rows_of(f"isolation.report_beside_{SESSIONS - 1}", await timed_reports(sdk, first), None)
            start = time.perf_counter()
            reports = await sdk.isolation.audit(all=True)
            per_process = (time.perf_counter() - start) / len(reports)
            rows.append(Row("isolation.audit_per_process", per_process * 1e3, "ms"))
    return rows


if __name__ == "__main__":
    run(benchmark(), __doc__)
