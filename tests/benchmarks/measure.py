"""What every benchmark prints: rows of a value, the reference's value and their ratio."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import infrastructure_sdk as isdk


@dataclass(frozen=True)
class Row:
    """One figure; `reference` is in the same unit, None where there is nothing to compare with."""

    name: str
    value: float
    unit: str
    reference: float | None = None

    @property
    def ratio(self) -> float | None:
        """value / reference: below 1 is better for times, above 1 for rates."""
        return None if self.reference is None else self.value / self.reference


def run(benchmark: Coroutine[None, None, list[Row]], description: str | None) -> None:
    """The command: run a benchmark to its end, or let it clean up when it is told to stop, and show its rows."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    as_json = parser.parse_args().json

    async def stoppable() -> list[Row]:
        task = asyncio.ensure_future(benchmark)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task

    show(asyncio.run(stoppable()), as_json)


def show(rows: list[Row], as_json: bool) -> None:
    """Print the rows: JSON lines, or a table."""
    if as_json:
        for row in rows:
            print(json.dumps({**asdict(row), "ratio": row.ratio}))
        return
    print(f"{'':<32}{'value':>12}{'reference':>12} {'unit':<6}{'ratio':>7}")
    for row in rows:
        reference = "-" if row.reference is None else f"{row.reference:,.2f}"
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        print(f"{row.name:<32}{row.value:>12,.2f}{reference:>12} {row.unit:<6}{ratio:>7}")


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory that is removed at the end, in TMPDIR: that has to be a real disk, not a tmpfs."""
    place = Path(tempfile.mkdtemp(prefix="isdk-bench-"))
    try:
        yield place
    finally:
        shutil.rmtree(place)


@asynccontextmanager
async def installation(place: Path, **vm: str) -> AsyncIterator[isdk.InfrastructureSDK]:
    """An opened SDK, state in `place`/state, images from INFRA_SDK_TEST_IMAGE_DIR; at the end no session is left.

    `vm` are options of that section; without them every VM is booted.
    """
    images = os.environ.get("INFRA_SDK_TEST_IMAGE_DIR") or isdk.config.default_image_directory()
    config = {
        "store": {"state_directory": str(place / "state")},
        "vm": {"image_directory": str(images), "fast_launch": "off", **vm},
    }
    async with isdk.InfrastructureSDK(config) as sdk:
        try:
            yield sdk
        finally:
            for session in await sdk.sessions.list():
                await session.terminate()
