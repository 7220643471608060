"""The browser console on real QEMU: with a real Chromium, and everything that must be refused."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from playwright.async_api import Page, async_playwright
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import infrastructure_sdk as isdk
from infrastructure_sdk.server.assets import assets
from infrastructure_sdk.server.console import HandshakeFilter

integration = pytest.mark.integration


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "chromium is missing; ./dev installs it"
    return found


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), headless=True, args=["--no-sandbox", "--no-proxy-server"]
        )
        yield await browser.new_page(viewport={"width": 900, "height": 560})
        await browser.close()


@pytest.fixture
async def session(sdk: isdk.InfrastructureSDK) -> AsyncIterator[isdk.Session]:
    async with sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice")) as active:
        yield active


async def until(page: Page, state: str) -> None:
    await page.wait_for_selector(f"html[data-state={state}]", timeout=60_000)


async def shown(page: Page) -> Image.Image:
    """What the page's canvas holds, unscaled."""
    script = "new Promise(done => requestAnimationFrame(() => done(document.querySelector('canvas').toDataURL())))"
    data = str(await page.evaluate(script))
    return Image.open(io.BytesIO(base64.b64decode(data.split(",", 1)[1]))).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """The share of pixels that differ visibly."""
    assert one.size == other.size
    grey = ImageChops.difference(one, other).convert("L").point(lambda value: 255 if value > 40 else 0)
    return grey.histogram()[255] / (one.width * one.height)


@integration
async def test_a_browser_shows_the_screen_and_types_on_it(session: isdk.Session, page: Page) -> None:
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("response", lambda answer: troubles.append(answer.url) if answer.status >= 400 else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    await page.goto(await session.console_url())
    await until(page, "connected")
    assert "#" not in page.url, "the token does not stay in the address bar"

    async with asyncio.timeout(60):
        while True:
            screen = Image.open(io.BytesIO((await session.desktop.screenshot()).png)).convert("RGB")
            # The cursor blinks.
            if difference(await shown(page), screen) < 0.002:
                break
    assert len(screen.getcolors() or []) > 1, "the screen is not empty"

    await page.keyboard.type("mkdir /tmp/from-the-browser\n", delay=30)
    async with asyncio.timeout(60):
        while "from-the-browser" not in (await session.exec("ls /tmp")).stdout:
            pass
    explained = await session.explain()
    connection = next(signal for signal in explained.signals if signal["signal"] == "connection")
    assert (connection["state"], "1" in connection["detail"]) == ("active", True), connection
    if folder := os.environ.get("INFRA_SDK_TEST_PICTURES"):
        await page.screenshot(path=Path(folder) / "console.png")

    # Cut off from our side; the session goes on.
    await session.disconnect_clients()
    await until(page, "closed")
    assert (await session.exec(["true"])).exit_code == 0
    assert troubles == []


class Viewer:
    """A websocket client as far as the protocol's greeting."""

    def __init__(self, url: str) -> None:
        self.base, self.token = url.split("#")
        self.origin = re.match(r"http://[^/]+", self.base)[0]  # type: ignore[index]

    def connect(self, **changes: Any) -> connect:
        wanted: dict[str, Any] = {
            "origin": self.origin,
            "subprotocols": ["binary", f"isdk.token.{self.token}"],
            "proxy": None,
            "compression": None,
        }
        return connect(self.base.replace("http:", "ws:") + "/stream", **{**wanted, **changes})

    async def greeting(self, **changes: Any) -> bytes:
        async with self.connect(**changes) as stream:
            return bytes(await stream.recv())


async def refusal_of(viewer: Viewer, **changes: Any) -> int:
    with pytest.raises(InvalidStatus) as caught:
        await viewer.greeting(**changes)
    assert caught.value.response.body == b"refused\n"
    return caught.value.response.status_code


async def read_request(url: str, target: str, *headers: str) -> tuple[int, bytes]:
    """One request as it is written, without a client that tidies it up."""
    port = int(re.search(r":(\d+)/", url)[1])  # type: ignore[index]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {target} HTTP/1.1", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1]), answer


@integration
async def test_only_the_right_token_opens_once(sdk: isdk.InfrastructureSDK, session: isdk.Session) -> None:
    viewer = Viewer(await session.console_url())
    assert await refusal_of(viewer, subprotocols=["binary", "isdk.token." + "0" * 64]) == 403
    assert await refusal_of(viewer, subprotocols=["binary"]) == 403
    assert await refusal_of(viewer, subprotocols=["binary", f"isdk.token.{viewer.token}"] * 2) == 403
    for origin in ("http://evil.example", "null", None, viewer.origin.replace("127.0.0.1", "localhost")):
        assert await refusal_of(viewer, origin=origin) == 403, origin
    assert await viewer.greeting() == b"RFB 003.008\n"
    assert await refusal_of(viewer) == 403, "replayed"

    async with sdk.sessions.ephemeral(isdk.SessionRequest(user_id="bob")) as other:
        stranger = Viewer(await other.console_url())
        stranger.base = viewer.base
        assert await refusal_of(stranger) == 403, "another session's"

    late = Viewer(await session.console_url(valid_for="1ms"))
    assert await refusal_of(late) == 403, "expired"
    before, meanwhile = Viewer(await session.console_url(valid_for="1h")), Viewer(await session.console_url())
    await session.suspend()
    with pytest.raises(InvalidStatus, match="503"):
        await meanwhile.greeting()
    with pytest.raises(isdk.InvalidTransitionError):
        await session.console_url()
    await session.resume()
    assert await refusal_of(before) == 403, "of an earlier run"
    for wrong in ("0s", "2h", "soon"):
        with pytest.raises(isdk.ValidationError, match="valid_for"):
            await session.console_url(valid_for=wrong)


@integration
async def test_a_second_viewer_needs_leave(session: isdk.Session) -> None:
    first = Viewer(await session.console_url())
    second, third = Viewer(await session.console_url()), Viewer(await session.console_url(share=True))
    async with first.connect() as stream:
        assert await stream.recv() == b"RFB 003.008\n"
        with pytest.raises(ConnectionClosed) as busy:
            await second.greeting()
        assert busy.value.rcvd is not None and busy.value.rcvd.code == 4409
        # Shared, and what demands the screen for itself does not cut off the first.
        async with third.connect() as other:
            await enter(other, shared=0)
            await enter(stream, shared=0, greeted=True)
            await other.send(b"\x03\0\0\0\0\0\0\1\0\1")
            assert bytes(await other.recv())[:1] == b"\0", "a picture"
            await stream.send(b"\x03\0\0\0\0\0\0\1\0\1")
            assert bytes(await stream.recv())[:1] == b"\0", "of the first one too"
    # Nobody is connected any more: the next one may come without leave.
    async with asyncio.timeout(30):
        while True:
            try:
                assert await Viewer(await session.console_url()).greeting() == b"RFB 003.008\n"
                break
            except ConnectionClosed:
                pass


async def enter(stream: ClientConnection, shared: int, *, greeted: bool = False) -> None:
    """The protocol's handshake, RFC 6143 section 7."""
    got = b"RFB 003.008\n" if greeted else b""

    async def need(size: int) -> bytes:
        nonlocal got
        while len(got) < size:
            got += bytes(await stream.recv())
        taken, got = got[:size], got[size:]
        return taken

    assert await need(12) == b"RFB 003.008\n"
    await stream.send(b"RFB 003.008\n")
    await need((await need(1))[0])
    await stream.send(b"\x01")
    assert await need(4) == b"\0\0\0\0"
    await stream.send(bytes([shared]))
    head = await need(24)
    await need(int.from_bytes(head[20:24], "big"))


@integration
async def test_nothing_but_the_page_is_served(session: isdk.Session) -> None:
    url = await session.console_url()
    host = url.split("/")[2]
    status, answer = await read_request(url, "/console/" + session.id, f"Host: {host}")
    assert status == 200 and b"Content-Security-Policy: default-src 'none'; script-src 'self'" in answer
    assert b"unsafe" not in answer and b"Access-Control" not in answer and url.split("#")[1].encode() not in answer
    for target in (
        "/",
        "/console/",
        "/console/../etc/passwd",
        "/static/../console.py",
        "/static/%2e%2e/console.py",
        "/static/novnc/../../assets.py",
        "/static/novnc//core/rfb.js",
        "/static/console.js?x",
        "/static/index.html",
        "//etc/passwd",
        f"http://{host}/static/console.js",
    ):
        status, answer = await read_request(url, target, f"Host: {host}")
        assert status == 404 and b"import" not in answer, target
    for names in (["Host: evil.example"], [f"Host: evil.example:{host.split(':')[1]}"], [], [f"Host: {host}"] * 2):
        status, answer = await read_request(url, "/static/console.js", *names)
        assert status == 421, names
    status, _ = await read_request(url, "/static/console.js", f"Host: localhost:{host.split(':')[1]}")
    assert status == 200
    # A request that is no websocket costs no token.
    viewer = Viewer(url)
    token = f"Sec-WebSocket-Protocol: binary, isdk.token.{viewer.token}"
    path = f"/console/{session.id}/stream"
    assert (await read_request(url, path, f"Host: {host}", f"Origin: {viewer.origin}", token))[0] == 403
    assert await viewer.greeting() == b"RFB 003.008\n"


@integration
async def test_what_is_no_viewer_is_cut_off(session: isdk.Session) -> None:
    for wrong in (b"GET / HTTP/1.1\r\n", b"RFB 003.003\n", b"RFB 003.008\n\x02", "RFB 003.008\n"):
        async with Viewer(await session.console_url(share=True)).connect() as stream:
            await stream.recv()
            await stream.send(wrong)
            with pytest.raises(ConnectionClosed):
                while True:
                    await stream.recv()


@integration
async def test_a_closed_sdk_serves_nobody(config: isdk.InfraSDKConfig) -> None:
    async with isdk.InfrastructureSDK(config) as sdk:
        session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
        await session.wait_until_active()
        viewer = Viewer(await session.console_url())
        unused = Viewer(await session.console_url(share=True))
        stream = await viewer.connect()
        assert await stream.recv() == b"RFB 003.008\n"
    with pytest.raises(ConnectionClosed):
        await stream.recv()
    async with isdk.InfrastructureSDK(config) as sdk:
        session = await sdk.sessions.get(session.id)
        unused.base = (await session.console_url()).split("#")[0]
        unused.origin = unused.base.split("/console")[0]
        assert await refusal_of(unused) == 403, "tokens end with the process that gave them out"
        await session.terminate()


def test_the_handshake_is_watched_however_it_is_cut() -> None:
    stream = b"RFB 003.008\n\x01\x00later"
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            watch = HandshakeFilter()
            parts = (stream[:first], stream[first:second], stream[second:])
            assert b"".join(watch.feed(part) or b"" for part in parts) == b"RFB 003.008\n\x01\x01later"
    for wrong in (b"RFB 003.007\n", b"RFB 003.008\n\x02", b"\x00"):
        assert HandshakeFilter().feed(wrong) is None


def test_the_page_brings_the_licence_and_nothing_inline() -> None:
    found = assets()
    assert {"/static/console.js", "/static/index.html", "/static/novnc/core/rfb.js"} <= found.keys()
    page = found["/static/index.html"][1].decode()
    assert "<style" not in page and " style=" not in page and not re.search(r"<script(?![^>]* src=)", page)
    licences = Path(isdk.__file__).parent / "server" / "novnc"
    assert "MPL 2.0" in (licences / "LICENSE.txt").read_text() and (licences / "docs/LICENSE.MPL-2.0").exists()
