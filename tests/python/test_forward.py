"""Ports of a guest on the host's loopback, on real QEMU: whole bytes both ways, ends, refusals, clients that count."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import pytest

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync

pytestmark = pytest.mark.integration

# Answers each line with its own words before it, and goes on; one connection after the other.
ECHO = "while true; do nc -l -p 7000 -e sh -c 'while read -r line; do echo got \"$line\"; done'; done >/dev/null 2>&1 &"


@pytest.fixture
async def session(sdk: isdk.InfrastructureSDK) -> AsyncIterator[isdk.Session]:
    async with sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice")) as active:
        yield active


async def listening(session: isdk.Session, port: int) -> None:
    async with asyncio.timeout(60):
        while f":{port} " not in (await session.exec("netstat -ltn")).stdout:
            pass


async def until_connection_is(session: isdk.Session, state: str) -> None:
    async with asyncio.timeout(60):
        while True:
            signals = (await session.explain()).signals
            if next(s for s in signals if s["signal"] == "connection")["state"] == state:
                return


async def test_a_port_carries_both_ways_and_counts_as_a_client(session: isdk.Session) -> None:
    await session.exec(ECHO)
    await listening(session, 7000)
    async with await session.forward(7000) as forward:
        assert forward.address == f"127.0.0.1:{forward.local_port}" and forward.local_port > 0
        reader, writer = await asyncio.open_connection("127.0.0.1", forward.local_port)
        for word in (b"one\n", b"two\n"):
            writer.write(word)
            assert await reader.readline() == b"got " + word
        await until_connection_is(session, "active")
        await session.disconnect_clients()
        assert await reader.read() == b"", "cut off"
        writer.close()
        # New ones may come, and what the forward holds ends with it.
        await listening(session, 7000)
        reader, writer = await asyncio.open_connection("127.0.0.1", forward.local_port)
        writer.write(b"again\n")
        assert await reader.readline() == b"got again\n"
    with pytest.raises(OSError):
        while await reader.read(1):
            pass
        raise ConnectionResetError("its end is an end too")
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", forward.local_port)
    await until_connection_is(session, "quiet")


async def test_every_byte_arrives_and_an_end_is_handed_on(session: isdk.Session) -> None:
    content = os.urandom(1_000_000)
    await session.exec("(nc -l -p 7001 | sha256sum >/tmp/sum; mv /tmp/sum /tmp/done) >/dev/null 2>&1 &")
    await session.files.put(content, "/tmp/content")
    await session.exec("(nc -l -p 7002 </tmp/content) >/dev/null 2>&1 &")
    for port in (7001, 7002):
        await listening(session, port)
    async with await session.forward(7001) as inward, await session.forward(7002) as outward:
        reader, writer = await asyncio.open_connection("127.0.0.1", inward.local_port)
        writer.write(content)
        await writer.drain()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", outward.local_port)
        assert hashlib.sha256(await reader.read()).digest() == hashlib.sha256(content).digest()
        writer.close()
    async with asyncio.timeout(60):
        while (found := (await session.exec("cat /tmp/done")).stdout) == "":
            pass
    assert found.split()[0] == hashlib.sha256(content).hexdigest()


async def test_the_guest_still_reaches_nothing_of_the_host(session: isdk.Session) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await session.exec(ECHO)
    await listening(session, 7000)
    async with await session.forward(7000) as forward:
        # The control: this way it does connect.
        reader, writer = await asyncio.open_connection("127.0.0.1", forward.local_port)
        writer.write(b"hi\n")
        assert await reader.readline() == b"got hi\n"
        for target in (port, forward.local_port):
            tried = await session.exec(f"nc -w 3 10.0.2.2 {target} </dev/null", timeout="30s")
            assert tried.exit_code != 0, f"the guest reached the host's port {target}"
        writer.close()
    server.close()
    await server.wait_closed()


async def test_what_is_refused(session: isdk.Session) -> None:
    for wrong in (0, -1, 65536, "22"):
        with pytest.raises(isdk.ValidationError, match="port"):
            await session.forward(wrong)  # type: ignore[arg-type]
    async with await session.forward(9) as forward:
        reader, writer = await asyncio.open_connection("127.0.0.1", forward.local_port)
        with pytest.raises(OSError):
            assert await reader.read() == b"", "nobody listens on port 9"
            raise ConnectionResetError("its end is an end too")
        writer.close()
        with pytest.raises(isdk.ProviderError, match="cannot be listened on"):
            await session.forward(9, local_port=forward.local_port)
        await session.suspend()
        reader, writer = await asyncio.open_connection("127.0.0.1", forward.local_port)
        with pytest.raises(OSError):
            assert await reader.read() == b""
            raise ConnectionResetError("its end is an end too")
        writer.close()
        assert isinstance(forward.last_error, isdk.InvalidTransitionError)


def test_the_same_without_await(config: isdk.InfraSDKConfig) -> None:
    import socket

    with (
        sync.InfrastructureSDK(config) as sdk,
        sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice")) as session,
    ):
        session.exec(ECHO)
        while ":7000 " not in session.exec("netstat -ltn").stdout:
            pass
        with (
            session.forward(7000) as forward,
            socket.create_connection(("127.0.0.1", forward.local_port), timeout=30) as connection,
        ):
            connection.sendall(b"hi\n")
            assert connection.recv(100) == b"got hi\n"
        assert session.console_url().startswith(f"http://127.0.0.1:{sdk._twin._console.port}/console/{session.id}#")
