"""The browser console: a page with noVNC and a websocket that carries its bytes to the screen of one session.

It listens on the loopback only. What the native core promised for a token it opens once, for one session. Requests are
answered only under the bridge's own name (Host), a websocket only for the bridge's own page (Origin).
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import re
from typing import TYPE_CHECKING

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from infrastructure_sdk import _bridge
from infrastructure_sdk.exceptions import AuthenticationError, ConflictError, InfrastructureSDKError
from infrastructure_sdk.server.assets import assets
from infrastructure_sdk.server.stream import GuestStream

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK

PAGE = re.compile(r"/console/(s-[0-9a-f]{1,64})")
STREAM = re.compile(r"/console/(s-[0-9a-f]{1,64})/stream")
TOKEN = re.compile(r"isdk\.token\.([0-9a-f]{64})")
BINARY = Subprotocol("binary")
BUSY, GONE = 4409, 4410
"""Close codes: somebody is connected; the session's screen went away."""

# The library's own log has headers in it, and with them tokens.
_silent = logging.Logger("infrastructure_sdk.console", level=logging.CRITICAL + 1)
_silent.addHandler(logging.NullHandler())


class HandshakeFilter:
    """Watches the first 14 bytes that a viewer sends (RFC 6143, 7.1 and 7.3.1).

    A viewer may not demand the screen for itself, which would cut off the others: the bridge decides who may share.
    """

    def __init__(self) -> None:
        self._seen = b""

    def feed(self, data: bytes) -> bytes | None:
        """The bytes to pass on; None for a viewer that does not speak RFB 3.8 without a password.

        >>> filter = HandshakeFilter()
        >>> filter.feed(b"RFB 003.008\\n"), filter.feed(b"\\x01"), filter.feed(b"\\x00more"), filter.feed(b"\\x00")
        (b'RFB 003.008\\n', b'\\x01', b'\\x01more', b'\\x00')
        """
        at = len(self._seen)
        if at >= 14:
            return data
        self._seen += data[: 14 - at]
        if not b"RFB 003.008\n\x01".startswith(self._seen[:13]):
            return None
        last = 13 - at
        return data if len(data) <= last else data[:last] + b"\x01" + data[last + 1 :]


class ConsoleBridge:
    """Serves consoles of one SDK until it is closed."""

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk
        self._server: Server | None = None
        self._names: tuple[str, ...] = ()
        self._waiting: dict[ServerConnection, GuestStream | ConflictError] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self.viewers = 0
        self._left = asyncio.Event()

    async def start(self) -> None:
        """Listen on a port that the kernel chooses; again is fine."""
        if self._server is not None:
            return
        self._server = await serve(
            self._serve_viewer,
            "127.0.0.1",
            0,
            process_request=self._answer,
            select_subprotocol=lambda _connection, offered: BINARY if BINARY in offered else None,
            compression=None,
            max_size=1 << 20,
            server_header=None,
            logger=_silent,
        )
        port = self.port
        self._names = (f"127.0.0.1:{port}", f"localhost:{port}")

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(next(iter(self._server.sockets)).getsockname()[1])

    def address(self, session_id: str, token: str) -> str:
        """What a browser opens. The token is in the fragment, which is not sent to the server."""
        return f"http://127.0.0.1:{self.port}/console/{session_id}#{token}"

    async def close(self) -> None:
        """Cut off the viewers and stop to listen."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await server.wait_closed()
        await asyncio.gather(*self._endings)

    async def wait_until_free(self, valid_for: str) -> None:
        """Return when a viewer left, or nobody is there any more after `valid_for`."""
        self._left.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._left.wait(), _bridge.seconds(valid_for))
        if self.viewers and not self._left.is_set():
            await self._left.wait()

    # ---- requests --------------------------------------------------------------------------------------------------

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """A page, a refusal, or None for a websocket that may begin."""
        if request.headers.get_all("Host") not in [[name] for name in self._names]:
            return self._refusal(http.HTTPStatus.MISDIRECTED_REQUEST, "this address is not served under that name")
        if STREAM.fullmatch(request.path):
            return await self._admit(connection, request)
        if PAGE.fullmatch(request.path):
            return self._file("/static/index.html")
        if request.path in assets() and request.path != "/static/index.html":
            return self._file(request.path)
        return self._refusal(http.HTTPStatus.NOT_FOUND, "there is nothing here")

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        refusal = self._refusal(http.HTTPStatus.FORBIDDEN, "refused")
        headers = request.headers
        if headers.get_all("Origin") != [f"http://{headers['Host']}"]:
            return refusal
        # What the library would refuse later must not cost a token.
        if headers.get("Upgrade", "").lower() != "websocket" or "Sec-WebSocket-Key" not in headers:
            return refusal
        match = STREAM.fullmatch(request.path)
        offered = ",".join(headers.get_all("Sec-WebSocket-Protocol")).replace(" ", "").split(",")
        tokens = [found.group(1) for word in offered if (found := TOKEN.fullmatch(word))]
        if match is None or len(tokens) != 1 or BINARY not in offered:
            return refusal
        try:
            opened = await self._sdk._call(lambda native: native.open_console, match.group(1), tokens[0], timeout="15s")
        except ConflictError as error:
            self._waiting[connection] = error
            return None
        except AuthenticationError:
            return refusal
        except InfrastructureSDKError:
            return self._refusal(http.HTTPStatus.SERVICE_UNAVAILABLE, "the screen does not answer")
        self._waiting[connection] = GuestStream(*opened)
        ending = asyncio.ensure_future(self._forget(connection))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return None

    async def _forget(self, connection: ServerConnection) -> None:
        """A viewer may go before its handshake is over."""
        await connection.wait_closed()
        opened = self._waiting.pop(connection, None)
        if isinstance(opened, GuestStream):
            opened.close()

    def _file(self, path: str) -> Response:
        kind, body = assets()[path]
        return self._response(http.HTTPStatus.OK, kind, body)

    def _refusal(self, status: http.HTTPStatus, text: str) -> Response:
        return self._response(status, "text/plain; charset=utf-8", text.encode() + b"\n")

    def _response(self, status: http.HTTPStatus, kind: str, body: bytes) -> Response:
        streams = " ".join(f"ws://{name}" for name in self._names)
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            f"connect-src {streams}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = Headers(
            {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Content-Security-Policy": policy,
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Cache-Control": "no-store",
                "Connection": "close",
            }
        )
        return Response(status.value, status.phrase, headers, body)

    # ---- viewers ---------------------------------------------------------------------------------------------------

    async def _serve_viewer(self, connection: ServerConnection) -> None:
        opened = self._waiting.pop(connection)
        if isinstance(opened, ConflictError):
            await connection.close(BUSY, str(opened))
            return
        self.viewers += 1
        try:
            await self._carry(connection, opened)
        finally:
            opened.close()
            self.viewers -= 1
            self._left.set()

    async def _carry(self, connection: ServerConnection, opened: GuestStream) -> None:
        reader, writer = await asyncio.open_connection(sock=opened.socket)
        ways = {
            asyncio.ensure_future(self._to_guest(connection, writer)),
            asyncio.ensure_future(self._to_viewer(reader, connection)),
        }
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                with contextlib.suppress(ConnectionClosed, OSError):
                    way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
        await connection.close(GONE, "the session's screen went away")

    async def _to_guest(self, connection: ServerConnection, writer: asyncio.StreamWriter) -> None:
        handshake = HandshakeFilter()
        async for message in connection:
            data = handshake.feed(message) if isinstance(message, bytes) else None
            if data is None:
                await connection.close(1003, "only RFB 3.8 is spoken here")
                return
            writer.write(data)
            await writer.drain()

    async def _to_viewer(self, reader: asyncio.StreamReader, connection: ServerConnection) -> None:
        while data := await reader.read(1 << 16):
            await connection.send(data)


def console_of(sdk: InfrastructureSDK) -> ConsoleBridge:
    """The SDK's own bridge; made at the first call."""
    if sdk._console is None:
        sdk._console = ConsoleBridge(sdk)
    return sdk._console


async def console_url(sdk: InfrastructureSDK, session_id: str, valid_for: str, share: bool) -> str:
    """See `Session.console_url`."""
    bridge = console_of(sdk)
    token, _expires = await sdk._call(lambda native: native.console_ticket, session_id, valid_for, share)
    await bridge.start()
    return bridge.address(session_id, token)


__all__ = ["ConsoleBridge", "HandshakeFilter", "console_of", "console_url"]
