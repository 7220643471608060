"""What every benchmark prints: rows of a value, the reference's value and their ratio."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


def parse_arguments(description: str | None) -> bool:
    """Whether --json was given."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return bool(parser.parse_args().json)


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


def installation(place: Path) -> isdk.InfrastructureSDK:
    """An SDK, not opened, whose state is below `place`; images from INFRA_SDK_TEST_IMAGE_DIR."""
    images = os.environ.get("INFRA_SDK_TEST_IMAGE_DIR") or isdk.config.default_image_directory()
    state = place / "state"
    return isdk.InfrastructureSDK({"store": {"state_directory": str(state)}, "vm": {"image_directory": str(images)}})
