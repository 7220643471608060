"""One real session, step by step: create, use, check isolation, suspend, resume, end, and see that nothing is left.

Run it with `./dev demo`, or after `infra-sdk image build linux-tiny` with `python 01_first_session.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import infrastructure_sdk as isdk


@contextmanager
def step(title: str) -> Iterator[list[str]]:
    """Print a title, how long the block took, and the lines that it left."""
    lines: list[str] = []
    started = time.perf_counter()
    yield lines
    print(f"  {title:<34}{time.perf_counter() - started:7.2f} s   {lines[0] if lines else ''}")
    for line in lines[1:]:
        print(f"{'':49}{line}")


def left_behind(state_dir: Path, vm_id: str) -> list[str]:
    """Processes, sockets and files of a virtual machine that are still there."""
    found = [str(path) for path in (state_dir / "vms").rglob("*")] if (state_dir / "vms").exists() else []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if vm_id.encode() in command:
                found.append(f"process {entry.name}")
    return found


async def main(state_dir: Path, picture: Path, quiet: bool) -> None:
    with step("open the SDK") as lines:
        sdk = isdk.InfrastructureSDK(state_dir=state_dir)
        await sdk.open()
        capabilities = sdk.vms.capabilities()
        lines.append(f"{capabilities['provider']}, {capabilities['accelerator']}: {capabilities['accelerator_reason']}")
    try:
        with step("create -> active") as lines:
            session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice", template="linux-tiny", ttl="2h"))
            await session.wait_until_active(timeout="180s")
            lines.append(f"{session.id} (vm {session.vm_id})")
        with step("run a command") as lines:
            lines.append((await session.exec(["uname", "-srm"])).stdout.strip())
        with step("take a screenshot") as lines:
            (await session.desktop.screenshot()).save(picture)
            lines.append(f"{picture} ({picture.stat().st_size} bytes)")
        with step("write a file in the guest") as lines:
            await session.files.put(b"written before the suspend\n", "/tmp/note.txt")
            lines.append("/tmp/note.txt, in the guest's memory")
        with step("check isolation") as lines:
            report = await sdk.isolation.validate(session)
            lines.append(f"{report.verdict}, {report.lower:.0f} to {report.upper:.0f} of 100")
            if not quiet:
                for finding in report.findings:
                    lines.append(f"{finding.check_id}  {finding.status:<8} {finding.reason}")
                    for evidence in finding.evidence[:1]:
                        lines.append(f"          seen in {evidence.locator}: {evidence.excerpt[:70]}")
        with step("suspend to a memory file") as lines:
            await session.suspend()
            lines.append(session.state)
        with step("resume") as lines:
            await session.resume()
            lines.append(session.state)
        with step("read the file back") as lines:
            note = await session.files.get("/tmp/note.txt")
            lines.append(repr(note.decode()))
            assert note == b"written before the suspend\n", note
        with step("terminate") as lines:
            await session.terminate()
            lines.append(f"{session.state} ({session.termination_reason})")
        with step("look for leftovers") as lines:
            found = left_behind(state_dir, session.vm_id)
            lines.append("no process, socket or file is left" if not found else f"LEFT: {found}")
            assert not found, found
    finally:
        await sdk.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, default=Path("first-session.png"), help="where the screenshot goes")
    parser.add_argument("--quiet", action="store_true", help="do not list the findings")
    arguments = parser.parse_args()
    if images := os.environ.get("INFRA_SDK_TEST_IMAGE_DIR"):
        os.environ.setdefault("INFRA_SDK_VM__IMAGE_DIRECTORY", images)
    place = Path(tempfile.mkdtemp(prefix="first-session-"))
    try:
        asyncio.run(main(place, arguments.picture, arguments.quiet))
    finally:
        shutil.rmtree(place, ignore_errors=True)
