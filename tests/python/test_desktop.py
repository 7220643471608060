"""Screen, keys, pointer, commands that are followed and files in parts, on real QEMU."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync

pytestmark = pytest.mark.integration


@pytest.fixture
async def session(sdk: isdk.InfrastructureSDK) -> AsyncIterator[isdk.Session]:
    async with sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice")) as active:
        yield active


async def content_of(session: isdk.Session, path: str) -> bytes:
    """What a file holds as soon as it is there."""
    async with asyncio.timeout(60):
        while True:
            try:
                if found := await session.files.get(path):
                    return found
            except isdk.NotFoundError:
                pass


async def test_a_text_typed_on_the_console_has_its_effect(session: isdk.Session) -> None:
    before = (await session.desktop.screenshot()).png
    text = 'echo "~!@#$%^&*()_+{}|:<>?\'-=[];,./ aZ09" >/tmp/typed; mv /tmp/typed /tmp/done\n'
    await session.desktop.keyboard(text)
    assert await content_of(session, "/tmp/done") == b"~!@#$%^&*()_+{}|:<>?'-=[];,./ aZ09\n"
    assert (await session.desktop.screenshot()).png != before
    # Keys by name: the line is wiped with ctrl+u before the enter key.
    await session.desktop.keyboard("touch /tmp/never", keys=["ctrl+u"])
    await session.desktop.keyboard("touch /tmp/ever; echo y >/tmp/last", keys="enter")
    assert await content_of(session, "/tmp/last") == b"y\n"
    assert (await session.exec("ls /tmp/never /tmp/ever")).stdout == "/tmp/ever\n"


async def test_two_texts_at_once_do_not_mix(session: isdk.Session) -> None:
    await asyncio.gather(
        session.desktop.keyboard("echo aaaaaaaaaaaaaaaaaaaa >>/tmp/lines\n"),
        session.desktop.keyboard("echo bbbbbbbbbbbbbbbbbbbb >>/tmp/lines\n"),
    )
    await session.desktop.keyboard("mv /tmp/lines /tmp/both\n")
    assert sorted((await content_of(session, "/tmp/both")).split()) == [b"a" * 20, b"b" * 20]


async def test_the_pointer_and_what_is_refused(session: isdk.Session) -> None:
    width, height = await session.desktop.size()
    assert (width, height) == (720, 400)
    await session.desktop.mouse(width - 1, height - 1, click="left", count=2)
    await session.desktop.mouse(0, 0, press="left")
    await session.desktop.mouse(10, 10, release="left", scroll=3)
    desktop = session.desktop
    for field, wrong in (
        ("position", lambda: desktop.mouse(width, 0)),
        ("button", lambda: desktop.mouse(click="thumb")),
        ("mouse", lambda: desktop.mouse(click="left", press="left")),
        ("mouse", lambda: desktop.mouse(5)),
        ("count", lambda: desktop.mouse(click="left", count=4)),
        ("scroll", lambda: desktop.mouse(scroll=101)),
        ("text", lambda: desktop.keyboard("\x07")),
        ("text", lambda: desktop.keyboard("é")),
        ("layout", lambda: desktop.keyboard("a", layout="dvorak")),
        ("keys", lambda: desktop.keyboard(keys="ctrl+nosuch")),
        ("text", lambda: desktop.set_clipboard("a\0b")),
        ("text", lambda: desktop.set_clipboard("\udc80")),
        ("text", lambda: desktop.set_clipboard("x" * (1 << 20) + "x")),
    ):
        with pytest.raises(isdk.ValidationError) as caught:
            await wrong()
        assert caught.value.context["field"] == field
    for refusal in (lambda: desktop.clipboard(), lambda: desktop.set_clipboard("text")):
        with pytest.raises(isdk.UnsupportedError) as refused:
            await refusal()
        assert refused.value.context["capability"] == "clipboard"


async def test_commands_run_in_a_folder_and_as_a_user(session: isdk.Session) -> None:
    await session.exec("echo 'carol:x:1234:1234::/home/carol:/bin/sh' >>/etc/passwd; mkdir -p '/srv/a b'; id")
    done = await session.exec(
        ["sh", "-c", "pwd; id -u; echo $HOME $GREETING"], cwd="/srv/a b", user="carol", env={"GREETING": "hello"}
    )
    assert done.stdout == "/srv/a b\n1234\n/home/carol hello\n", done
    assert (await session.exec("touch /root/x", user="carol")).exit_code != 0
    assert (await session.exec(["cat"], cwd="/", stdin=b"\0\xff")).stdout_bytes == b"\0\xff"
    for field, refused in (
        ("user", {"user": "nobody-here"}),
        ("cwd", {"cwd": "/no/such"}),
        ("arguments", {"cwd": "/", "command": ["no-such-command"]}),
    ):
        with pytest.raises(isdk.NotFoundError) as missing:
            await session.exec(**{"command": ["true"], **refused})
        assert missing.value.context["field"] == field
    for field, wrong in (("cwd", "tmp"), ("cwd", ""), ("user", "a b"), ("user", "-l"), ("user", "")):
        with pytest.raises(isdk.ValidationError) as caught:
            await session.exec(["true"], **{field: wrong})
        assert caught.value.context["field"] == field


async def test_a_command_is_followed_and_signalled(session: isdk.Session) -> None:
    script = "trap 'echo stopped; exit 7' TERM; echo ready; echo oops >&2; while :; do sleep 1 & wait; done"
    async with await session.spawn(script) as process:
        seen = {"stdout": b"", "stderr": b""}
        async with asyncio.timeout(60):
            async for chunk in process.output():
                seen[chunk.stream] += chunk.data
                if seen == {"stdout": b"ready\n", "stderr": b"oops\n"}:
                    with pytest.raises(isdk.OperationTimeoutError):
                        await process.wait(timeout="100ms")
                    with pytest.raises(isdk.ValidationError, match="signal"):
                        await process.kill("NOSUCH")
                    await process.kill("TERM")
        assert seen == {"stdout": b"ready\nstopped\n", "stderr": b"oops\n"}
        assert process.exit_code == 7
    with pytest.raises(isdk.NotFoundError):
        async for _ in isdk.GuestProcess(session, process._name).output():
            pass
    assert (await session.exec("ls -d /tmp/.isdk-*")).stdout == "", "no files are left"


async def test_what_is_let_go_of_is_killed_with_its_children(session: isdk.Session) -> None:
    async with await session.spawn("sleep 4242 & echo up; wait") as process:
        async for chunk in process.output():
            assert chunk.text == "up\n"
            break
    async with asyncio.timeout(30):
        while "4242" in (await session.exec("ps")).stdout.replace("ps", ""):
            pass
    with pytest.raises(isdk.NotFoundError, match="no user"):
        async with await session.spawn(["true"], user="nobody-here") as process:
            async for _ in process.output():
                pass


async def test_output_of_any_length_is_whole(session: isdk.Session) -> None:
    """Above what the agent could hold in the guest's memory at once."""
    async with await session.spawn("i=0; while [ $i -lt 300000 ]; do echo $i; i=$((i+1)); done") as process:
        got = b"".join([chunk.data async for chunk in process.output()])
    assert process.exit_code == 0
    assert got == b"".join(b"%d\n" % i for i in range(300_000))


async def test_files_in_parts_with_a_resume(session: isdk.Session, tmp_path: Path) -> None:
    content = os.urandom(2_500_000)
    local = tmp_path / "local"
    local.write_bytes(content)
    await session.files.put(local, "/tmp/whole")
    assert await session.files.get("/tmp/whole") == content
    # Broken off after the first part and gone on with.
    await session.files.put(content[: 1 << 20], "/tmp/parts")
    await session.files.put(local, "/tmp/parts", offset=1 << 20)
    assert b"".join([part async for part in session.files.stream("/tmp/parts")]) == content
    tail = b"".join([part async for part in session.files.stream("/tmp/parts", offset=2_499_990)])
    assert tail == content[-10:]
    target = tmp_path / "target"
    target.write_bytes(content[:1000])
    assert (await session.files.download("/tmp/parts", target, resume=True)).read_bytes() == content
    assert (await session.files.download("/tmp/parts", target)).read_bytes() == content
    await session.files.put(b"", "/tmp/empty")
    assert await session.files.get("/tmp/empty") == b""
    with pytest.raises(isdk.ConflictError, match="2500000 bytes"):
        await session.files.put(b"x" * 3_000_000, "/tmp/parts", offset=2_600_000)
    with pytest.raises(isdk.NotFoundError):
        await session.files.put(content, "/tmp/absent", offset=5)
    with pytest.raises(isdk.NotFoundError):
        await session.files.download("/tmp/absent", tmp_path / "never")
    assert not (tmp_path / "never").exists()
    for wrong in (-1, 1 << 63, "1"):
        with pytest.raises(isdk.ValidationError, match="offset"):
            await session.files.put(b"x", "/tmp/x", offset=wrong)  # type: ignore[arg-type]


async def test_folders_are_listed_whatever_the_names(session: isdk.Session) -> None:
    await session.exec(
        "mkdir -p /tmp/f/sub; cd /tmp/f; printf 12345 >plain; chmod 640 plain; ln -s plain link; touch .hidden "
        "'a b' ./-n '*'; touch \"$(printf 'two\\nlines')\" \"$(printf 'byte\\377')\""
    )
    found = {entry.name: entry for entry in await session.files.list("/tmp/f")}
    names = ["*", "-n", ".hidden", "a b", os.fsdecode(b"byte\xff"), "link", "plain", "sub", "two\nlines"]
    assert sorted(found) == sorted(names)
    assert (found["plain"].type, found["plain"].size, found["plain"].mode) == ("file", 5, 0o640)
    assert (found["link"].type, found["sub"].type) == ("link", "directory")
    assert await session.files.list("/tmp/f/sub") == []
    assert "etc" in {entry.name for entry in await session.files.list("/")}
    with pytest.raises(isdk.NotFoundError):
        await session.files.list("/tmp/none")
    with pytest.raises(isdk.ValidationError, match="folder"):
        await session.files.list("/tmp/f/plain")
    with pytest.raises(isdk.ValidationError):
        await session.files.list("tmp")


def test_the_same_without_await(config: isdk.InfraSDKConfig, tmp_path: Path) -> None:
    with (
        sync.InfrastructureSDK(config) as sdk,
        sdk.sessions.ephemeral(isdk.SessionRequest(user_id="alice")) as session,
    ):
        session.desktop.keyboard("echo hi >/tmp/h; mv /tmp/h /tmp/hi\n")
        with session.spawn("until [ -e /tmp/hi ]; do sleep 0.1; done; cat /tmp/hi") as process:
            assert [chunk.text for chunk in process.output()] == ["hi\n"]
            assert process.wait() == 0
        session.files.put(b"abc", "/tmp/abc")
        assert b"".join(session.files.stream("/tmp/abc")) == b"abc"
        assert session.files.download("/tmp/abc", tmp_path / "abc").read_bytes() == b"abc"
        assert "abc" in [entry.name for entry in session.files.list("/tmp")]
        assert session.desktop.size() == (720, 400)
