"""A desktop: how soon it is on the screen of a copy of a template, a screenshot, and a key until its effect is seen.

Needs the image linux-desktop (`infra-sdk image build linux-desktop`). The first launch makes the template. "clone to
desktop" goes from the call of sessions.create() to a screenshot in which the desktop's colour fills more than half of
the screen. "key to changed pixel" presses a key in a terminal and takes screenshots until one differs above the panel,
whose clock changes by itself; it is as coarse as a screenshot takes.
"""

from __future__ import annotations

import io
import time
from statistics import median

from measure import Row, installation, run, scratch_directory
from PIL import Image

import infrastructure_sdk as isdk

CLONES = 5
ROUNDS = 21
DESKTOP = (0x24, 0x50, 0x6E)
PANEL_HEIGHT = 34


def picture(png: bytes) -> Image.Image:
    """Without the panel."""
    whole = Image.open(io.BytesIO(png)).convert("RGB")
    return whole.crop((0, 0, whole.width, whole.height - PANEL_HEIGHT))


def is_drawn(png: bytes) -> bool:
    """Whether the desktop's colour fills more than half of the screen."""
    seen = picture(png)
    counted = {colour: count for count, colour in seen.getcolors(seen.width * seen.height) or []}
    return counted.get(DESKTOP, 0) * 2 > seen.width * seen.height


async def drawn(session: isdk.Session) -> None:
    while not is_drawn((await session.desktop.screenshot()).png):
        pass


async def launch(sdk: isdk.InfrastructureSDK) -> tuple[float, isdk.Session]:
    """Seconds until the desktop of a new session is on its screen."""
    started = time.perf_counter()
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="bench", template="linux-desktop", ttl="1h"))
    await session.wait_until_active("1h")
    await drawn(session)
    elapsed = time.perf_counter() - started
    assert session.launched_from == "template", session.launch_reason
    return elapsed, session


async def screenshot(session: isdk.Session) -> float:
    """Seconds of one."""
    started = time.perf_counter()
    await session.desktop.screenshot()
    return time.perf_counter() - started


async def key(session: isdk.Session) -> float:
    """Seconds from a key to a screenshot that shows it."""
    before = picture((await session.desktop.screenshot()).png).tobytes()
    started = time.perf_counter()
    await session.desktop.keyboard("a")
    while picture((await session.desktop.screenshot()).png).tobytes() == before:
        pass
    return time.perf_counter() - started


async def open_terminal(session: isdk.Session) -> None:
    """In the middle of the screen, with the keys going to it."""
    command = "DISPLAY=:0 xdotool search --sync --onlyvisible --class xterm windowfocus --sync"
    await session.exec("DISPLAY=:0 setsid xterm >/dev/null 2>&1 &", user="user")
    await session.exec(command, user="user", timeout="2m")
    before = b""
    while before != (before := picture((await session.desktop.screenshot()).png).tobytes()):
        await session.exec(["sleep", "1"])


async def main() -> list[Row]:
    with scratch_directory() as place:
        async with installation(place, fast_launch="auto", boot_timeout="10m") as sdk:
            making, session = await launch(sdk)
            await session.terminate()
            clones: list[float] = []
            for _ in range(CLONES):
                elapsed, session = await launch(sdk)
                clones.append(elapsed)
                await session.terminate()
            _, session = await launch(sdk)
            shots = [await screenshot(session) for _ in range(ROUNDS)]
            await open_terminal(session)
            keys = [await key(session) for _ in range(ROUNDS)]
    return [
        Row("clone to desktop", median(clones), "s"),
        Row("clone to desktop, slowest", max(clones), "s"),
        Row("first launch, with the template", making, "s"),
        Row("screenshot", 1000 * median(shots), "ms"),
        Row("key to changed pixel", 1000 * median(keys), "ms"),
    ]


if __name__ == "__main__":
    run(main(), __doc__)
