"""Shared fixtures: a state directory that is empty again at the end, and an opened SDK."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import infrastructure_sdk as isdk


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
    shutil.rmtree(place)
    assert not left, f"virtual machines were left behind: {left}"


@pytest.fixture
def config(state_dir: Path, image_dir: Path) -> isdk.InfraSDKConfig:
    return isdk.InfraSDKConfig.from_dict(
        {"store": {"state_directory": str(state_dir)}, "vm": {"image_directory": str(image_dir)}}
    )


@pytest.fixture
async def sdk(config: isdk.InfraSDKConfig) -> AsyncIterator[isdk.InfrastructureSDK]:
    async with isdk.InfrastructureSDK(config) as opened:
        yield opened
        for session in await opened.sessions.list():
            await session.terminate()
