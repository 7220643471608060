"""The machine type of the Windows templates on real QEMU: firmware with secure boot, and a TPM. There is no Windows."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import infrastructure_sdk as isdk
from infrastructure_sdk import images

pytestmark = pytest.mark.integration

TEMPLATE = """\
extends: windows-11
name: blank
image: blank
cpu: "1"
memory: 512Mi
disk_size: null
network: none
channels: [display]
"""


@pytest.fixture
def machine(tmp_path: Path, state_dir: Path) -> isdk.InfraSDKConfig:
    """A configuration with the machine of windows-11 over an empty disk."""
    if not Path("/usr/share/OVMF").is_dir() or shutil.which("swtpm") is None:
        pytest.skip("needs the packages ovmf and swtpm")
    disk = tmp_path / "blank.raw"
    disk.touch()
    os.truncate(disk, 1 << 20)
    (tmp_path / "images").mkdir()
    images.import_image(tmp_path / "images", disk, "blank")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/blank.yaml").write_text(TEMPLATE)
    return isdk.InfraSDKConfig.from_dict(
        {
            "store": {"state_directory": str(state_dir)},
            "vm": {
                "image_directory": str(tmp_path / "images"),
                "template_directory": str(tmp_path / "templates"),
                "accelerator": "tcg",
            },
        }
    )


class Monitor:
    """A QMP connection."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> Any:
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise AssertionError(answer["error"])
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


def processes_in(folder: Path) -> Iterator[str]:
    """The programs that run in a folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink() == folder:
                    yield Path((entry / "cmdline").read_bytes().split(b"\0")[0].decode()).name
            except OSError:
                continue


async def test_the_windows_machine_starts_to_its_firmware_and_keeps_its_tpm(
    machine: isdk.InfraSDKConfig, state_dir: Path
) -> None:
    async with isdk.InfrastructureSDK(machine) as sdk:
        assert "secure_boot" in sdk.vms.capabilities()["firmware"]
        session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice", template="blank"))
        await session.wait_until_active(timeout="10m")
        guest = next((state_dir / "vms").iterdir()) / "guest"
        both = ["qemu-system-x86_64", "swtpm"]
        assert sorted(processes_in(guest)) == both
    monitor = Monitor(guest / "qmp.sock")
    assert [tpm["model"] for tpm in monitor("query-tpm")] == ["tpm-crb"]
    assert monitor("qom-get", path="/machine", property="smm") == "on"
    flash = {disk["inserted"]["node-name"]: disk["inserted"]["ro"] for disk in monitor("query-block")}
    assert flash["firmware-code"] is True
    assert flash["firmware-variables"] is False
    # The firmware's own shell is not signed: that it is refused is secure boot at work.
    while b"Security Violation" not in (guest / "serial.log").read_bytes():
        monitor("screendump", filename="screen.png", format="png")
    monitor("screendump", filename="screen.png", format="png")
    if picture := os.environ.get("INFRA_SDK_TEST_PICTURE"):
        shutil.copyfile(guest / "screen.png", picture)
    monitor.close()
    assert (guest / "tpm/tpm2-00.permall").stat().st_size > 0, "the firmware has spoken to the TPM"

    async with isdk.InfrastructureSDK(machine) as sdk:
        session = await sdk.sessions.get(session.id)
        assert session.state == "active"
        await session.suspend()
        assert list(processes_in(guest)) == []
        await session.resume()
        assert sorted(processes_in(guest)) == both
        await session.terminate()
        assert list(processes_in(guest)) == []
        assert list((state_dir / "vms").iterdir()) == []


async def test_a_machine_that_the_host_cannot_hold_is_refused_before_anything_is_made(
    machine: isdk.InfraSDKConfig, state_dir: Path, tmp_path: Path
) -> None:
    too_much = TEMPLATE.replace("512Mi", "4Ti").replace("blank", "vast", 1)
    (tmp_path / "templates/vast.yaml").write_text(too_much)
    async with isdk.InfrastructureSDK(machine) as sdk:
        with pytest.raises(isdk.CapacityError, match="more than this host has"):
            await sdk.sessions.create(isdk.SessionRequest(user_id="alice", template="vast"))
        assert await sdk.sessions.list() == []
    assert list((state_dir / "vms").iterdir()) == []
