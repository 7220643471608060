"""cloud-init in a real image of a cloud. It takes minutes under emulation and is run when the image is named.

python tests/python/cloud_image.py build/debian-12-cloud.qcow2
INFRA_SDK_TEST_CLOUD_IMAGE=build/debian-12-cloud.qcow2 python -m pytest tests/python/test_cloud_image.py
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import infrastructure_sdk as isdk
from infrastructure_sdk import images

IMAGE = os.environ.get("INFRA_SDK_TEST_CLOUD_IMAGE", "")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not IMAGE, reason="no INFRA_SDK_TEST_CLOUD_IMAGE; tests/python/cloud_image.py makes one"),
]

TEMPLATE = """
extends: linux-server
name: cloud
image: cloud
memory: 768Mi
boot_timeout: 15m
"""

# Shell, YAML, Jinja and quotes; a key's comment is the one text of the user data that its writer chooses freely.
COMMENT = """x"; touch /evil #{{ 7*7 }} $(touch /evil) `touch /evil` ': [- &a *b ]{% |\\"""


async def answer(session: isdk.Session, command: str) -> str:
    return (await session.exec(["sh", "-c", command])).stdout.strip()


async def test_the_seed_is_what_the_guest_becomes(tmp_path: Path, state_dir: Path) -> None:
    key, image_dir = tmp_path / "key", state_dir / "images"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", COMMENT, "-f", str(key)], check=True)
    state_dir.chmod(0o711)
    words = ["image", "import", IMAGE, "--name", "cloud", "--user", "alice", "--ssh-key", f"{key}.pub"]
    words += ["--image-dir", str(image_dir)]
    subprocess.run([sys.executable, "-m", "infrastructure_sdk.cli", *words], check=True, capture_output=True)
    assert "disc" in images.show_image(image_dir, "cloud").to_dict()["files"]
    (tmp_path / "cloud.yaml").write_text(TEMPLATE)
    config = {
        "store": {"state_directory": str(state_dir)},
        "vm": {"image_directory": str(image_dir), "template_directory": str(tmp_path), "fast_launch": "auto"},
    }
    async with isdk.InfrastructureSDK(config) as sdk:
        session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice", template="cloud"))
        try:
            await session.wait_until_active("30m")
            assert session.launched_from == "template", session.launch_reason
            await look(session, key)
        finally:
            await session.terminate()


async def look(session: isdk.Session, key: Path) -> None:
    assert await answer(session, "cloud-init status --wait >/dev/null; cloud-init status") == "status: done"
    assert await answer(session, "cloud-init query ds.meta_data.local_hostname") == "guest"
    assert await answer(session, "hostname; cat /etc/hostname") == f"{session.id}\n{session.id}"
    assert await answer(session, "id -nG alice") == "alice sudo"
    public = Path(f"{key}.pub").read_text().strip()
    assert await answer(session, "cat /home/alice/.ssh/authorized_keys") == public
    assert await answer(session, "ls /evil /root/evil /home/alice/evil 2>/dev/null") == ""
    # The user comes in with the key, and past the guest's own SSH server.
    async with await session.forward(22) as forward:
        ssh = ["ssh", "-i", str(key), "-p", str(forward.local_port), "-o", "BatchMode=yes", "-o", "ConnectTimeout=60"]
        ssh += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={key}.hosts", "alice@127.0.0.1"]
        process = await asyncio.create_subprocess_exec(
            *ssh, "id -un; sudo -n id -un", stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), 180)
        assert out.decode() == "alice\nroot\n", err.decode()
    host = (await answer(session, "cat /etc/ssh/ssh_host_ed25519_key.pub")).split()[1]
    assert host in Path(f"{key}.hosts").read_text(), "the key that the host gave is the one that is served"
