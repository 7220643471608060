"""A local port that leads to a port of a guest."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import TYPE_CHECKING

from infrastructure_sdk.exceptions import InfrastructureSDKError, ProviderError, ValidationError
from infrastructure_sdk.server.stream import GuestStream

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK

MOST_CONNECTIONS = 100


class PortForward:
    """A TCP port of the loopback that leads to a port of a session's guest, until it is closed.

    Each connection is a client of the session. One that the guest does not take, because nobody listens there or the
    session is not active, ends at once; `last_error` tells why.
    """

    def __init__(self, sdk: InfrastructureSDK, session_id: str, port: int) -> None:
        self._sdk = sdk
        self._session_id = session_id
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self.port = port
        """The guest's."""
        self.local_port = 0
        """Ours, on 127.0.0.1."""
        self.last_error: InfrastructureSDKError | None = None
        """Of the latest connection that could not be opened."""

    async def start(self, local_port: int) -> None:
        """Listen; 0 lets the kernel choose."""
        try:
            self._server = await asyncio.start_server(self._begin, "127.0.0.1", local_port)
        except OSError as error:
            raise ProviderError(
                f"port {local_port} of this machine cannot be listened on: {error.strerror}",
                context={"field": "local_port", "value": str(local_port)},
            ) from error
        self.local_port = int(self._server.sockets[0].getsockname()[1])
        self._sdk._forwards.add(self)

    @property
    def address(self) -> str:
        """Host and port for a client on this machine."""
        return f"127.0.0.1:{self.local_port}"

    async def close(self) -> None:
        """Stop to listen and end every connection. Again is fine."""
        server, self._server = self._server, None
        self._sdk._forwards.discard(self)
        if server is None:
            return
        server.close()
        for task in list(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        await server.wait_closed()

    async def __aenter__(self) -> PortForward:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<PortForward {self.address} to port {self.port} of {self._session_id}>"

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None or len(self._carrying) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            opened = GuestStream(
                *await self._sdk._call(lambda native: native.open_port, self._session_id, self.port, timeout="30s")
            )
        except InfrastructureSDKError as error:
            self.last_error = error
            writer.transport.abort()
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        try:
            inward_reader, inward_writer = await asyncio.open_connection(sock=opened.socket)
            try:
                await asyncio.gather(_copy(reader, inward_writer), _copy(inward_reader, writer))
            finally:
                inward_writer.transport.abort()
        except OSError:
            pass  # one side was reset: the other one is too
        finally:
            # What was written is still sent.
            writer.close()
            opened.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Until the end of the source, which is handed on: the other direction may still go on."""
    while data := await source.read(1 << 16):
        target.write(data)
        await target.drain()
    with contextlib.suppress(OSError):
        target.write_eof()


def check_port(name: str, value: object, lowest: int) -> int:
    """A port number."""
    if not isinstance(value, int) or not lowest <= value <= 65535:
        allowed = f"{lowest} to 65535"
        raise ValidationError(
            f"{name}: {value!r} is not allowed; {allowed}",
            context={"field": name, "value": repr(value), "allowed": allowed},
        )
    return value


__all__ = ["PortForward", "check_port"]
