"""Branch a session: keep a snapshot, try something in two forks at once, keep the one that went well.

Run it after `infra-sdk image build linux-tiny` with `python 02_branch_a_session.py`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import infrastructure_sdk as isdk


async def main(state_dir: Path) -> None:
    async with isdk.InfrastructureSDK(state_dir=state_dir) as sdk:
        request = isdk.SessionRequest(user_id="alice", ttl="1h")
        async with sdk.sessions.ephemeral(request, timeout="180s") as session:
            await session.exec("echo version 1 > /data/app")
            snapshot = await session.snapshot("before the update")
            print(f"{snapshot.name}: {snapshot.size_bytes} bytes, consistent: {snapshot.consistent}")

            # Each has its own machine; a limit that denies one leaves the other.
            results = await snapshot.fork(2, tags={"trial": "update"})
            forks = [result.session for result in results if result.session is not None]
            await asyncio.gather(*(fork.wait_until_active(timeout="180s") for fork in forks))
            for number, fork in enumerate(forks, start=2):
                await fork.exec(f"echo version {number} > /data/app; sync")
            for place in (session, *forks):
                print(f"{place.id}: {(await place.exec('cat /data/app')).stdout.strip()}")

            await forks[0].terminate()
            kept = forks[1]
        print(f"kept {kept.id}: {(await kept.exec('cat /data/app')).stdout.strip()}")
        await kept.terminate()
        # A snapshot outlives its session: how long it is kept is yours to say.
        print(f"snapshots: {[found.name for found in await sdk.snapshots.list()]}")
        await snapshot.delete()
        print(f"left: {len(await sdk.snapshots.list())} snapshots, {len(await sdk.vms.list())} virtual machines")


if __name__ == "__main__":
    if images := os.environ.get("INFRA_SDK_TEST_IMAGE_DIR"):
        os.environ.setdefault("INFRA_SDK_VM__IMAGE_DIRECTORY", images)
    directory = Path(tempfile.mkdtemp(prefix="branch-a-session-"))
    directory.chmod(0o711)
    try:
        asyncio.run(main(directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
