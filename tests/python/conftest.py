"""Shared fixtures: a state directory that is empty again at the end, and an opened SDK."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

import infrastructure_sdk as isdk
from processes import end_processes_in


@pytest.fixture(scope="session")
def image_dir() -> Path:
    return Path(os.environ.get("INFRA_SDK_TEST_IMAGE_DIR") or isdk.config.default_image_directory())


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """Not pytest's own temporary path: a VM's uid must be able to pass through it."""
    place = Path(tempfile.mkdtemp(prefix="isdk-test-"))
    yield place
    vms = place / "vms"
    left = list(vms.iterdir()) if vms.exists() else []
    running = end_processes_in(place)
    shutil.rmtree(place)
    assert not left and not running, f"virtual machines were left behind: {left} {running}"


@pytest.fixture
def tiny_disk() -> Iterator[Callable[[str], Path]]:
    """Makes file systems of a given size, e.g. "2m"; skips where nothing may be mounted."""
    made: list[Path] = []

    def make(size: str) -> Path:
        place = Path(tempfile.mkdtemp(prefix="isdk-disk-"))
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0711", "isdk-test", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            place.rmdir()
            pytest.skip(f"no file system of a given size can be mounted here: {done.stderr.strip()}")
        made.append(place)
        return place

    yield make
    for place in made:
        end_processes_in(place)
        subprocess.run(["umount", "-l", str(place)], check=True)
        place.rmdir()


@pytest.fixture
def config(state_dir: Path, image_dir: Path) -> isdk.InfraSDKConfig:
    return isdk.InfraSDKConfig.from_dict(
        {
            "store": {"state_directory": str(state_dir)},
            "vm": {"image_directory": str(image_dir), "fast_launch": "off"},
        }
    )


@pytest.fixture
async def sdk(config: isdk.InfraSDKConfig) -> AsyncIterator[isdk.InfrastructureSDK]:
    async with isdk.InfrastructureSDK(config) as opened:
        yield opened
        for session in await opened.sessions.list():
            await session.terminate()
