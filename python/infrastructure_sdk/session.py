"""Sessions: create, use, suspend, resume, end."""

from __future__ import annotations

import asyncio
import builtins
import html
import json
import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from infrastructure_sdk import _bridge
from infrastructure_sdk import snapshot as _snapshot
from infrastructure_sdk.exceptions import (
    InfrastructureSDKError,
    NotFoundError,
    OperationTimeoutError,
    ProviderError,
    UnsupportedError,
    ValidationError,
)
from infrastructure_sdk.explanation import Explanation
from infrastructure_sdk.notebook.timeline import Timeline
from infrastructure_sdk.snapshot import ForkResult, Snapshot

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK
    from infrastructure_sdk.server.forward import PortForward

__all__ = [
    "SESSION_STATES",
    "DesktopClient",
    "ExecResult",
    "FileClient",
    "FileEntry",
    "GuestProcess",
    "OutputChunk",
    "ResourceSpec",
    "Screenshot",
    "Session",
    "SessionRequest",
    "UserSessionManager",
]

SESSION_STATES = (
    "pending",
    "provisioning",
    "active",
    "suspending",
    "suspended",
    "resuming",
    "terminating",
    "terminated",
    "failed",
)
"""Every state, in the order of a session's life."""

Timeout = str | float | None
"""Seconds, a duration such as "90s", or None for no limit."""


@dataclass(frozen=True)
class ResourceSpec:
    """What a session's VM gets; what is None comes from the template. Kubernetes quantities: "2", "4Gi", "50Gi".

    Parameters
    ----------
    cpu, memory, disk_size
        Quantities.
    disk_iops
        Reads and writes of the disk a second, 1 to 10M.
    disk_bandwidth, network_bandwidth
        Bytes a second, 64Ki (network: 1Ki) to 1Ti. A request may ask for less than its template allows, not for more.
        What holds a limit on this host is in ``limits`` of the session's VM and of the capabilities.
    gpu_count
        0 to 64; None = none, or one when a type is named.
    gpu_type
        One of the ``gpus`` of the provider's capabilities; may be None when the host has one type only.
    network
        "none", "isolated", "internet" or "bridge:NAME", or a mapping of "mode" and "bridge"; None = the template's.
        What this host can give, and why not, is in ``networks`` of the provider's capabilities.
    """

    cpu: str | None = None
    memory: str | None = None
    disk_size: str | None = None
    disk_iops: str | None = None
    disk_bandwidth: str | None = None
    network_bandwidth: str | None = None
    gpu_count: int | None = None
    gpu_type: str | None = None
    network: str | Mapping[str, str] | None = None

    def to_document(self) -> dict[str, Any]:
        """What the core reads."""
        document = dict(vars(self))
        if isinstance(self.network, str):
            mode, _, bridge = self.network.partition(":")
            document["network"] = {"mode": mode, "bridge": bridge}
        return document


@dataclass(frozen=True)
class SessionRequest:
    """What to make.

    Parameters
    ----------
    user_id
        Who owns it, 1 to 128 printable characters.
    template
        What VM.
    session_type
        "desktop" or "shell".
    resources
        Above the template's.
    ttl
        Lifetime from creation, e.g. "2h"; None = ``session.default_ttl``.
    idle_timeout
        How long it may go without activity, e.g. "30m"; None = ``session.idle_timeout``, "0s" = for ever.
    disconnect_timeout
        How long it may go on after its last client left; None = ``session.disconnect_timeout``, "0s" = for ever.
    retention
        How long it is kept while suspended; None = ``session.retention``, "0s" = until its ttl.
    on_expiry
        What a clock does when it runs out, by its name: "disconnect", "suspend" or "terminate", e.g.
        ``{"ttl": "suspend"}``. What is absent comes from the configuration.
    tags
        Texts to find it by.
    snapshot
        Begin as this snapshot, with its template and resources: from its disk or, if it has memory, from the instant
        at which it was taken; None = from the template's image.
    tenant
        The group whose limits it counts for, 1 to 128 printable characters; "" = none.
    encryption
        What the user's key encrypts at rest: "memory" (its memory while it is suspended), "all" (its disk and snapshots
        too) or "off"; None = the template's. Less than the template's is refused.
    """

    user_id: str
    template: str = "linux-tiny"
    session_type: str = "desktop"
    resources: ResourceSpec = field(default_factory=ResourceSpec)
    ttl: str | None = None
    idle_timeout: str | None = None
    disconnect_timeout: str | None = None
    retention: str | None = None
    on_expiry: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    snapshot: str | None = None
    tenant: str = ""
    encryption: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The document that the native core takes."""
        return {
            "user_id": self.user_id,
            "tenant": self.tenant,
            "template": self.template,
            "session_type": self.session_type,
            "resources": self.resources.to_document(),
            "ttl": self.ttl,
            "idle_timeout": self.idle_timeout,
            "disconnect_timeout": self.disconnect_timeout,
            "retention": self.retention,
            "on_expiry": dict(self.on_expiry),
            "tags": dict(self.tags),
            "snapshot": self.snapshot,
            "encryption": self.encryption,
        }


@dataclass(frozen=True)
class ExecResult:
    """What a command left.

    Attributes
    ----------
    exit_code
        128 + signal when a signal ended it.
    stdout_bytes, stderr_bytes
        As printed; cut at 16 MiB, then the `_truncated` flag is set. The guest's agent holds all of it in the guest's
        memory several times over: a guest of 128 MiB can give about 8 MiB.
    elapsed
        Seconds.
    """

    exit_code: int
    stdout_bytes: bytes
    stderr_bytes: bytes
    stdout_truncated: bool
    stderr_truncated: bool
    elapsed: float

    def __repr__(self) -> str:
        texts = (f"{name}={getattr(self, name)!r:.200}" for name in ("stdout", "stderr"))
        return f"ExecResult(exit_code={self.exit_code}, {', '.join(texts)})"

    @property
    def stdout(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are replaced."""
        return self.stdout_bytes.decode(errors="replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; bytes that are not UTF-8 are replaced."""
        return self.stderr_bytes.decode(errors="replace")


@dataclass(frozen=True)
class Screenshot:
    """What a screen showed, as PNG bytes."""

    png: bytes = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the PNG and return its path."""
        target = Path(path)
        target.write_bytes(self.png)
        return target

    def _repr_png_(self) -> bytes:
        return self.png


def _check_texts(field_name: str, values: Iterable[object], *, forbidden: str = "\0", secret: bool = False) -> None:
    for value in values:
        # The guest's agent would cut the text there.
        if not isinstance(value, str) or any(c in value for c in forbidden):
            shown = "***" if secret else f"{value!r:.200}"
            allowed = f"texts without {' '.join(map(repr, forbidden))}"
            raise ValidationError(
                f"{field_name}: {shown} is not allowed; {allowed}",
                context={"field": field_name, "value": shown, "allowed": allowed},
            )


def _exec_arguments(
    command: str | Iterable[str],
    stdin: bytes | str,
    env: Mapping[str, str] | None,
    cwd: str | None,
    user: str | None,
) -> tuple[builtins.list[str], bytes, dict[str, str], str, str]:
    words = ["sh", "-c", command] if isinstance(command, str) else list(command)
    data = stdin.encode() if isinstance(stdin, str) else stdin
    variables = dict(env or {})
    _check_texts("command", words)
    _check_texts("env", variables, forbidden="\0=")
    _check_texts("env", variables.values(), secret=True)
    for name, value in (("cwd", cwd), ("user", user)):
        if value == "":
            raise ValidationError(f"{name}: an empty text is not allowed", context={"field": name, "value": ""})
    return words, data, variables, cwd or "", user or ""


_MOST_CLIPBOARD = 1 << 20
_NO_CLIPBOARD = 99
_DISPLAY = ":0"
# What xclip says when nobody holds the selection, or not as text.
_NO_TEXT = re.compile(r"target \S+ not available")
# With -i xclip stays, in the background, for as long as it holds the selection: nothing may wait for its output.
_CLIPBOARD_SCRIPT = f"""
[ -S /tmp/.X11-unix/X0 ] && command -v xclip >/dev/null || exit {_NO_CLIPBOARD}
if [ "$1" = -i ]; then exec xclip -i -selection clipboard >/dev/null 2>&1; fi
exec xclip -o -selection clipboard -target UTF8_STRING
"""


class DesktopClient:
    """The screen of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def screenshot(self, *, timeout: Timeout = "30s") -> Screenshot:
        """What the screen shows now."""
        return Screenshot(await self._session._call("screenshot", timeout=timeout))

    async def size(self, *, timeout: Timeout = "30s") -> tuple[int, int]:
        """Width and height of the screen in pixels, as it is now; guests change it."""
        width, height = await self._session._call("display_size", timeout=timeout)
        return width, height

    async def keyboard(
        self, text: str = "", *, keys: str | Iterable[str] = (), layout: str = "us", timeout: Timeout = "60s"
    ) -> None:
        """Type a text, then press keys; returns when the guest's keyboard took them all.

        Parameters
        ----------
        text
            At most 4096 characters; a line feed is the enter key.
        keys
            Keys to hold together, e.g. "ctrl+alt+delete", or several such in a row.
        layout
            The layout that the guest is set to: "us" or "de".

        Raises
        ------
        ValidationError
            If the layout has no key for a character, or there is no such key. Nothing was typed.
        NotReadyError
            If the guest does not take keys.
        """
        chords = [keys] if isinstance(keys, str) else list(keys)
        _check_texts("keys", chords)
        if text:
            await self._session._call("type_text", text, layout, timeout=timeout)
        if chords:
            await self._session._call("press_keys", chords, timeout=timeout)

    async def mouse(
        self,
        x: int | None = None,
        y: int | None = None,
        *,
        click: str | None = None,
        press: str | None = None,
        release: str | None = None,
        count: int = 1,
        scroll: int = 0,
        timeout: Timeout = "30s",
    ) -> None:
        """Move the pointer, then use one button, then turn the wheel.

        Parameters
        ----------
        x, y
            Where to, in pixels from the upper left; None = it stays where it is.
        click, press, release
            "left", "middle" or "right"; at most one of the three. Press here and release there to drag.
        count
            How many clicks, 1 to 3.
        scroll
            Steps of the wheel, down above zero; at most 100.

        Raises
        ------
        ValidationError
            If the place is outside the screen or a button has another name.

        Notes
        -----
        The pointer is a virtio tablet. A guest without a driver for it, such as ``linux-tiny``, does not notice.
        """
        actions = {"click": click, "press": press, "release": release}
        chosen = [(name, button) for name, button in actions.items() if button is not None]
        if len(chosen) > 1 or (x is None) != (y is None):
            raise ValidationError(
                "mouse: at most one of click, press and release is allowed, and x only with y",
                context={"field": "mouse", "value": ", ".join(name for name, _ in chosen) or f"{x},{y}"},
            )
        name, button = chosen[0] if chosen else ("", "left")
        at = None if x is None or y is None else (x, y)
        await self._session._call("point", at, button, name, count, scroll, timeout=timeout)

    async def clipboard(self, *, timeout: Timeout = "30s") -> str:
        """The text in the clipboard of the guest's desktop; "" when there is none.

        Raises
        ------
        UnsupportedError
            If the guest has no X display or no ``xclip``, with the capability ``clipboard``. ``linux-desktop`` has
            both.
        ProviderError
            If the clipboard could not be read.
        """
        result = await self._clip("-o", b"", timeout)
        # Of a clipboard without an owner, or with a picture, xclip has no text to give.
        if result.exit_code == 1 and _NO_TEXT.search(result.stderr):
            return ""
        if result.exit_code != 0:
            raise ProviderError(
                "the guest's clipboard could not be read",
                context={"exit_code": str(result.exit_code), "detail": result.stderr[:500]},
            )
        return result.stdout

    async def set_clipboard(self, text: str, *, timeout: Timeout = "30s") -> None:
        """Put a text into the clipboard of the guest's desktop: what is pasted there next.

        Parameters
        ----------
        text
            At most 1 MiB as UTF-8.

        Raises
        ------
        ValidationError
            If it is not such a text.
        UnsupportedError
            As `clipboard`.
        """
        _check_texts("text", [text])
        data = text.encode(errors="surrogateescape")
        if len(data) > _MOST_CLIPBOARD or data.decode(errors="replace") != text:
            raise ValidationError(
                f"text: {text!r:.200} is not allowed; Unicode of at most {_MOST_CLIPBOARD} bytes is needed",
                context={"field": "text", "value": f"{text!r:.200}"},
            )
        result = await self._clip("-i", data, timeout)
        if result.exit_code != 0:
            raise ProviderError(
                "the guest's clipboard did not take the text", context={"exit_code": str(result.exit_code)}
            )

    async def _clip(self, direction: str, data: bytes, timeout: Timeout) -> ExecResult:
        words = ["sh", "-c", _CLIPBOARD_SCRIPT, "clipboard", direction]
        try:
            result = await self._session.exec(words, stdin=data, env={"DISPLAY": _DISPLAY}, timeout=timeout)
        except NotFoundError:
            result = ExecResult(_NO_CLIPBOARD, b"", b"", False, False, 0.0)
        if result.exit_code == _NO_CLIPBOARD:
            raise UnsupportedError(
                "the guest has no clipboard that can be reached: it takes an X display and xclip in the guest; type "
                "with desktop.keyboard, or copy files",
                context={"capability": "clipboard"},
            )
        return result


@dataclass(frozen=True)
class FileEntry:
    """One entry of a folder in a guest.

    Attributes
    ----------
    name
        Without the folder; bytes that are not UTF-8 are surrogate escapes, as in `os.listdir`.
    type
        "file", "directory", "link" or "other".
    size
        Bytes.
    mode
        Permission bits, 0 to 0o7777.
    modified_at
        Seconds since 1970, by the guest's clock.
    """

    name: str
    type: str
    size: int
    mode: int
    modified_at: int


_PART = 1 << 20


class FileClient:
    """The files of a session's guest."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def put(self, source: bytes | Path, path: str, *, offset: int = 0, timeout: Timeout = "5m") -> None:
        """Write bytes or a local file to an absolute path in the guest, in parts of 1 MiB.

        Parameters
        ----------
        offset
            Go on from here: the bytes before are skipped in the source and must be in the guest already. After a
            transfer that broke off, that is the size of the guest's file.
        timeout
            Of each part.

        Raises
        ------
        NotFoundError
            If there is no such folder, or with `offset` no such file.
        ConflictError
            If the guest's file ends before `offset`.
        """
        if not isinstance(source, bytes | Path):
            raise ValidationError("put: bytes or a Path are needed", context={"field": "source"})
        _check_offset(offset)
        if isinstance(source, bytes):
            for at in range(offset, len(source), _PART) or [offset]:
                await self._write(path, at, source[at : at + _PART], timeout)
            return
        with await asyncio.to_thread(source.open, "rb") as file:
            await asyncio.to_thread(file.seek, offset)
            at = offset
            while (data := await asyncio.to_thread(file.read, _PART)) or at == 0:
                await self._write(path, at, data, timeout)
                at += len(data)
                if not data:
                    return

    async def get(self, path: str, *, limit: int = 64 << 20, timeout: Timeout = "5m") -> bytes:
        """Read an absolute path in the guest, at most `limit` bytes.

        Raises
        ------
        NotFoundError
            If there is no such file.
        ValidationError
            If it is larger than `limit`.
        """
        content: bytes = await self._session._call("read_file", path, limit, timeout=timeout)
        return content

    async def stream(self, path: str, *, offset: int = 0, timeout: Timeout = "5m") -> AsyncIterator[bytes]:
        """The bytes of a file in the guest from `offset` on, in parts of 1 MiB at most; `timeout` is of each part.

        Raises
        ------
        NotFoundError
            If there is no such file.
        """
        _check_offset(offset)
        while True:
            data: bytes = await self._session._call("read_file_part", path, offset, _PART, timeout=timeout)
            if data:
                yield data
            if len(data) < _PART:
                return
            offset += len(data)

    async def download(self, path: str, target: str | Path, *, resume: bool = False, timeout: Timeout = "5m") -> Path:
        """Copy a file of the guest to a local one, in parts; `timeout` is of each part.

        Parameters
        ----------
        resume
            Go on at the end of the local file, if there is one.
        """
        place = Path(target)
        offset = place.stat().st_size if resume and place.exists() else 0
        parts = self.stream(path, offset=offset, timeout=timeout)
        first = await anext(parts, b"")  # before the local file is touched
        with place.open("ab" if offset else "wb") as file:
            await asyncio.to_thread(file.write, first)
            async for data in parts:
                await asyncio.to_thread(file.write, data)
        return place

    async def list(self, path: str, *, timeout: Timeout = "60s") -> builtins.list[FileEntry]:
        """What is in a folder of a Linux guest, by name, without "." and "..".

        Raises
        ------
        NotFoundError
            If there is no such folder.
        ValidationError
            If it is not a folder.
        """
        found = await self._session._call("list_files", path, timeout=timeout)
        return [FileEntry(os.fsdecode(name), *rest) for name, *rest in found]

    async def _write(self, path: str, offset: int, data: bytes, timeout: Timeout) -> None:
        await self._session._call("write_file_part", path, offset, data, timeout=timeout)


def _check_offset(offset: int) -> None:
    if not isinstance(offset, int) or not 0 <= offset < 1 << 63:
        raise ValidationError(
            f"offset: {offset!r} is not allowed; bytes, 0 or more", context={"field": "offset", "value": repr(offset)}
        )


@dataclass(frozen=True)
class OutputChunk:
    """What a command printed: `stream` is "stdout" or "stderr"."""

    stream: str
    data: bytes

    @property
    def text(self) -> str:
        """The bytes as text; what is not UTF-8 is replaced."""
        return self.data.decode(errors="replace")


class GuestProcess:
    """A command that was started in a guest and is followed while it runs.

    As a context manager it is killed at the end if it still runs; without one `close` must be awaited.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._closed = False
        self.exit_code: int | None = None
        """None while it runs, as far as is known; 128 + signal when a signal ended it."""

    async def output(self, *, timeout: Timeout = None) -> AsyncIterator[OutputChunk]:
        """What it prints, as it comes, until it ends; `timeout` is for each chunk.

        Raises
        ------
        OperationTimeoutError
            If it printed nothing for so long; it goes on.
        NotFoundError
            If the guest has no such command, user or folder.
        """
        while self.exit_code is None:
            out, err, code = await self._session._call("exec_follow", self._name, timeout=timeout)
            self.exit_code = code
            for stream, data in (("stdout", out), ("stderr", err)):
                if data:
                    yield OutputChunk(stream, data)

    async def wait(self, *, timeout: Timeout = None) -> int:
        """Let it end and return its exit code; what it still prints is dropped."""

        async def drain() -> None:
            async for _ in self.output():
                pass

        limit = _bridge.seconds(timeout)
        try:
            await asyncio.wait_for(drain(), None if limit < 0 else limit)
        except (TimeoutError, asyncio.TimeoutError):
            raise OperationTimeoutError(
                "the command did not end in time; it goes on", context={"field": "timeout", "value": str(timeout)}
            ) from None
        assert self.exit_code is not None
        return self.exit_code

    async def kill(self, signal: str = "KILL", *, timeout: Timeout = "10s") -> None:
        """Send a signal to it and to what it started in its process group. One that ended is fine.

        Parameters
        ----------
        signal
            "TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "STOP" or "CONT".
        """
        await self._session._call("exec_signal", self._name, signal, timeout=timeout)

    async def close(self) -> None:
        """Kill what still runs and forget it. Again is fine."""
        if not self._closed:
            self._closed = True
            await self._session._call("exec_close", self._name, timeout="30s")

    async def __aenter__(self) -> GuestProcess:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<GuestProcess in {self._session.id} {'runs' if self.exit_code is None else self.exit_code}>"


class Session:
    """A handle on one session. Its fields are as of `observed_at`; `refresh` looks again."""

    def __init__(self, sdk: InfrastructureSDK, document: Mapping[str, Any]) -> None:
        self._sdk = sdk
        self._document: Mapping[str, Any] = document
        self.desktop = DesktopClient(self)
        self.files = FileClient(self)

    @property
    def id(self) -> str:
        """The session's id."""
        return str(self._document["id"])

    @property
    def user_id(self) -> str:
        """Who owns it."""
        return str(self._document["user_id"])

    @property
    def tenant(self) -> str:
        """The group whose limits it counts for; empty = none."""
        return str(self._document["tenant"])

    @property
    def gpu_count(self) -> int:
        """How many GPUs it has while it is not suspended."""
        return int(self._document["resources"]["gpu_count"])

    @property
    def gpu_type(self) -> str:
        """Of which type they are; empty without GPUs."""
        return str(self._document["resources"]["gpu_type"])

    @property
    def price_per_hour(self) -> Decimal:
        """What it costs an hour while it is not suspended, in ``cost_optimization.currency``; fixed at creation."""
        return Decimal(self._document["cost"]["price_per_hour"])

    @property
    def cost_this_month(self) -> Decimal:
        """What it has cost in the calendar month (UTC) of `observed_at`, up to then."""
        return Decimal(self._document["cost"]["this_month"])

    @property
    def template(self) -> str:
        """What it was made of."""
        return str(self._document["template"])

    @property
    def state(self) -> str:
        """One of `SESSION_STATES`, as last seen."""
        return str(self._document["state"])

    @property
    def vm_id(self) -> str:
        """The VM's id."""
        return str(self._document["vm_id"])

    @property
    def execution_id(self) -> str:
        """Changes at every start and resume."""
        return str(self._document["execution_id"])

    @property
    def launch_type(self) -> str:
        """``warm`` when it took a unit of a warm pool, ``cold`` when its VM was started for it."""
        return str(self._document["launch_type"])

    @property
    def launched_from(self) -> str:
        """``template`` when its guest began as a copy of one that had booted, ``snapshot`` when it went on from a
        snapshot's memory, ``cold boot``, or empty before that."""
        return str(self._document["launched_from"])

    @property
    def launch_reason(self) -> str:
        """Why its guest was booted; empty when it came from a template."""
        return str(self._document["launch_reason"])

    @property
    def pool(self) -> str:
        """The warm pool whose unit it took; empty for a cold start."""
        return str(self._document["pool"])

    @property
    def termination_reason(self) -> str | None:
        """Why it was ended; None while it was not."""
        reason: str | None = self._document["termination_reason"]
        return reason

    @property
    def failure(self) -> Mapping[str, str]:
        """reason, message and channel of a failed session."""
        found: Mapping[str, str] = self._document["failure"]
        return found

    @property
    def observed_at(self) -> str:
        """When these fields were seen, RFC 3339."""
        return str(self._document["observed_at"])

    def to_dict(self) -> dict[str, Any]:
        """Every field."""
        return dict(self._document)

    async def refresh(self) -> Session:
        """Look again; returns itself."""
        self._document = await self._call("get")
        return self

    async def wait_until(self, state: str, *, timeout: Timeout = None) -> Session:
        """Wait for a state; a state that will not lead there ends the wait at once.

        Raises
        ------
        OperationTimeoutError
            If the time is up; the session goes on.
        NotReadyError
            If the session failed because a channel did not answer; `channel` names it.
        SessionCreationError, ProviderError, InvalidTransitionError
            If it cannot get there any more.
        """
        self._document = await self._call("wait", state, timeout=timeout)
        return self

    async def wait_until_active(self, timeout: Timeout = "5m") -> Session:
        """Wait until every channel of the template answers."""
        return await self.wait_until("active", timeout=timeout)

    async def exec(
        self,
        command: str | Iterable[str],
        *,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        timeout: Timeout = "60s",
    ) -> ExecResult:
        """Run a command in the guest.

        Parameters
        ----------
        command
            Words, or a text for the guest's shell.
        stdin
            Its standard input.
        env
            Its environment; the agent's own if None.
        cwd
            An absolute path, where it runs; the agent's own if None.
        user
            The name of the guest's user that it runs as; the agent's own (root) if None. Both need a Linux guest.
        timeout
            When it is over the command is killed.

        Raises
        ------
        OperationTimeoutError
            If it took too long; it was killed.
        NotFoundError
            If the guest has no such command, user or folder.
        ValidationError
            If a word is not a text, or has a character that it may not have.
        """
        arguments = _exec_arguments(command, stdin, env, cwd, user)
        found = await self._call("exec", *arguments, timeout=timeout)
        return ExecResult(
            found["exit_code"],
            found["stdout"],
            found["stderr"],
            found["stdout_truncated"],
            found["stderr_truncated"],
            found["elapsed"],
        )

    async def spawn(
        self,
        command: str | Iterable[str],
        *,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        timeout: Timeout = "60s",
    ) -> GuestProcess:
        """Start a command in a Linux guest and follow it while it runs; parameters as for `exec`.

        Its output may be of any length; the guest keeps it in a file without a name until the command is closed.
        `timeout` is for the start.

        Examples
        --------
        ::

            async with await session.spawn("for i in 1 2 3; do date; sleep 1; done") as process:
                async for chunk in process.output():
                    print(chunk.text, end="")
            print(process.exit_code)
        """
        arguments = _exec_arguments(command, stdin, env, cwd, user)
        return GuestProcess(self, await self._call("exec_start", *arguments, timeout=timeout))

    async def console_url(self, *, valid_for: str = "60s", share: bool = False) -> str:
        """An address that shows the session's screen in a browser of this machine.

        It opens once, for this session, as long as `valid_for` says and the session is not resumed anew; who has it
        has the session's keyboard. It is served on the loopback by this process until the SDK is closed.

        Parameters
        ----------
        valid_for
            Until when it must be opened, at most "1h". An open console stays open.
        share
            Whether it opens beside other viewers. Without it, it is refused while somebody is connected.

        Raises
        ------
        InvalidTransitionError
            If the session is not active.
        UnsupportedError
            If the provider has no console.
        """
        from infrastructure_sdk.server.console import console_url

        return await console_url(self._sdk, self.id, valid_for, share)

    async def forward(self, port: int, *, local_port: int = 0) -> PortForward:
        """A TCP port on this machine's loopback that leads to a port of the guest, e.g. 22 or 3389.

        It needs no network between host and guest: the guest stays cut off from the host. Whoever may connect to this
        machine's loopback may use it.

        Parameters
        ----------
        port
            The guest's.
        local_port
            0 = one that the kernel chooses; `PortForward.local_port` tells which.

        Raises
        ------
        UnsupportedError
            If the session's VM has no such way in; said at once.
        ProviderError
            If `local_port` is taken.

        Examples
        --------
        ::

            async with await session.forward(22) as ssh:
                print("ssh -p", ssh.local_port, "root@127.0.0.1")
        """
        from infrastructure_sdk.server.forward import PortForward, check_port

        check_port("port", port, 1)
        check_port("local_port", local_port, 0)
        if not self._sdk.vms.capabilities()["forward"]:
            raise UnsupportedError("the provider cannot forward ports", context={"capability": "forward"})
        forward = PortForward(self._sdk, self.id, port)
        await forward.start(local_port)
        return forward

    async def disconnect_clients(self, *, timeout: Timeout = "30s") -> None:
        """Cut off every viewer of the screen and every forwarded connection; the session goes on, new ones may come."""
        await self._call("disconnect_clients", timeout=timeout)

    async def suspend(self, *, wait: bool = True, timeout: Timeout = "5m") -> Session:
        """Save the VM's memory to a file and end its process."""
        _bridge.seconds(timeout)  # a wrong one is refused before anything is begun
        self._document = await self._call("suspend")
        return await self.wait_until("suspended", timeout=timeout) if wait else self

    async def resume(self, *, wait: bool = True, timeout: Timeout = "5m") -> Session:
        """Bring a suspended session back as it was, with the right time."""
        _bridge.seconds(timeout)
        self._document = await self._call("resume")
        return await self.wait_until("active", timeout=timeout) if wait else self

    async def terminate(self, *, reason: str = "request", wait: bool = True, timeout: Timeout = "5m") -> Session:
        """End the session and remove everything of its VM; with `wait` it returns when death was observed."""
        _bridge.seconds(timeout)
        self._document = await self._call("terminate", reason)
        return await self.wait_until("terminated", timeout=timeout) if wait else self

    async def recover(self, *, wait: bool = True, timeout: Timeout = "5m") -> Session:
        """Start a failed session's VM again from its disk; what was in memory only is gone.

        Recovering twice, or what is active already, is fine. The cause of the failure stays in the events.

        Raises
        ------
        InvalidTransitionError
            If it is neither failed nor on its way back.
        AdmissionDeniedError
            If what it held is not free any more; it stays failed.
        """
        _bridge.seconds(timeout)
        self._document = await self._call("recover")
        return await self.wait_until("active", timeout=timeout) if wait else self

    async def snapshot(self, name: str, *, memory: bool = False, timeout: Timeout = "10m") -> Snapshot:
        """Copy the disk of an active, suspended or failed session; an active one goes on.

        The copy outlives the session and counts for its user's disk until it is deleted.

        Parameters
        ----------
        name
            For people, 1 to 128 printable characters.
        memory
            Copy the memory too. The session must be active; it stands still while its memory is written, and disk and
            memory are of one instant. Sessions from it go on from there, as other guests (hostname, machine-id, SSH
            host key, network address, random seed, clock); they are the same user's, with the same resources. The
            memory file is encrypted as that of a suspended session.

        Raises
        ------
        InvalidTransitionError
            If the session is in another state.
        OperationTimeoutError
            If it took too long; no snapshot is left.
        UnsupportedError
            If the provider cannot, or if the guest's memory cannot become another guest's (Windows, a TPM, UEFI, a GPU,
            a bridge); said at once.
        """
        return await _snapshot.take(self._sdk, self.id, name, memory, timeout)

    async def fork(
        self,
        count: int = 1,
        *,
        memory: bool = False,
        user_id: str | None = None,
        ttl: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: Timeout = "10m",
    ) -> builtins.list[ForkResult]:
        """New sessions that begin from this one as it is now; see `UserSessionManager.fork`."""
        return await _snapshot.fork(
            self._sdk, self.id, count, memory=memory, user_id=user_id, ttl=ttl, tags=tags, timeout=timeout
        )

    async def touch(self) -> Session:
        """Say that the session is in use: its idle clock starts anew. A `ping` does not do that."""
        self._document = await self._call("touch")
        return self

    async def extend(self, by: str) -> Session:
        """Let it live longer, e.g. by "2h"; at most ``session.maximum_ttl`` from creation.

        Raises
        ------
        BudgetExceededError
            If a limit on the month's money does not allow it; nothing is moved.
        """
        self._document = await self._call("extend", by)
        return self

    async def hold(self, name: str, length: str, *, note: str = "") -> Session:
        """Keep the session from being idle for so long, e.g. "2h"; its ttl goes on.

        Parameters
        ----------
        name
            One hold per name, 1 to 64 characters; asked again it is replaced.
        length
            At most a week.
        note
            Why, for those who ask what keeps it alive.
        """
        self._document = await self._call("hold", name, length, note)
        return self

    async def release(self, name: str) -> Session:
        """Let go of a hold. One that is not there is fine."""
        self._document = await self._call("release", name)
        return self

    async def ping(self, *, timeout: Timeout = "10s") -> None:
        """Return when the guest's agent answered. No clock is moved.

        Raises
        ------
        NotReadyError
            If it did not answer in time.
        InvalidTransitionError
            If the session is not active.
        """
        await self._call("ping", timeout=timeout)

    async def explain(self, *, what_if: Sequence[str] = ()) -> Explanation:
        """Why it is alive or not, what would end it and when.

        Parameters
        ----------
        what_if
            Other idle timeouts, e.g. ``["10m", "1h"]``: what they would have done to what was seen.
        """
        return Explanation(await self._call("explain", list(what_if)))

    async def timeline(self) -> Timeline:
        """What happened to it, as a picture (SVG) that a notebook shows."""
        found: builtins.list[Mapping[str, Any]] = []
        while page := await self.events(after=found[-1]["sequence"] if found else 0):
            found += page
        await self.refresh()
        return Timeline(found, now=self._document["observed_at"])

    async def events(self, *, after: int = 0, limit: int = 1000) -> builtins.list[Mapping[str, Any]]:
        """What happened to it, in order, with sequence numbers above `after`."""
        found: builtins.list[Mapping[str, Any]] = await self._sdk._call(
            lambda native: native.events, self.id, after, limit
        )
        return found

    async def watch(self, *, after: int = 0) -> AsyncIterator[Mapping[str, Any]]:
        """Every event of the session with a sequence number above `after`, as it happens, until it is terminated.

        Nothing is missed and nothing comes twice: to go on later, pass the last ``sequence`` that was seen.
        """
        async for event in self._sdk.events.watch(after=after, session_id=self.id):
            yield event
            if event["type"] == "session.lifecycle.terminated":
                return

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.state} of {self.user_id}>"

    def _repr_html_(self) -> str:
        shown = {
            "session": self.id,
            "user": self.user_id,
            "template": self.template,
            "state": self.state,
            "accelerator": self._document["accelerator"],
            "created": self._document["created_at"],
            "expires": self._document["expires_at"],
        }
        rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in shown.items())
        return f"<table>{rows}</table>"

    async def _call(self, verb: str, *arguments: Any, timeout: Timeout = None) -> Any:
        return await self._sdk._call(lambda native: getattr(native, verb), self.id, *arguments, timeout=timeout)


def _as_text(request: SessionRequest) -> str:
    if not isinstance(request, SessionRequest):
        raise ValidationError("create: a SessionRequest is needed", context={"field": "request"})
    if not isinstance(request.resources, ResourceSpec):
        why = f"resources: {request.resources!r} is not allowed; a ResourceSpec"
        raise ValidationError(
            why, context={"field": "resources", "value": repr(request.resources), "allowed": "a ResourceSpec"}
        )
    try:
        return json.dumps(request.to_dict())
    except (TypeError, ValueError) as error:
        why = f"create: the request cannot be written as JSON: {error}"
        raise ValidationError(why, context={"field": "request", "value": repr(request)}) from error


class UserSessionManager:
    """Creates and finds sessions."""

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    async def create(self, request: SessionRequest) -> Session:
        """Record a session and start to boot it; `Session.wait_until_active` tells when it is there.

        Raises
        ------
        ValidationError
            If a field is wrong; the message names it, its value and what is allowed.
        NotFoundError
            If there is no such template or its image was not built.
        AdmissionDeniedError
            If a limit does not let it in; the message names the limit, what is in use and by whom.
        """
        text = _as_text(request)
        return Session(self._sdk, await self._sdk._call(lambda native: native.create, text))

    async def plan(self, request: SessionRequest) -> Mapping[str, Any]:
        """The document of the session that `create` would record, after the same checks; nothing is recorded.

        Its ids, addresses and times are examples: `create` chooses its own.

        Raises
        ------
        ValidationError, NotFoundError
            As `create` does.
        """
        text = _as_text(request)
        found: Mapping[str, Any] = await self._sdk._call(lambda native: native.plan, text)
        return found

    async def can_create(self, request: SessionRequest) -> Mapping[str, Any] | None:
        """Whether admission would let the request in now; nothing is taken.

        Returns
        -------
        Mapping or None
            None if it would. Else why not: ``limit`` (scope, subject, resource, value), ``subject``, ``in_use``,
            ``requested``, ``holders`` (session ids, at most 10), ``holder_count``, ``help`` (what would make room) and
            a ``message`` for people; of money also ``currency``, ``spent`` (by sessions that have ended) and
            ``renews_at``. If a policy denies it, ``policy``, ``reason``, ``help`` and ``message`` alone.

        Raises
        ------
        ValidationError, NotFoundError
            As `create` does, for what is not a limit.
        """
        text = _as_text(request)
        found: Mapping[str, Any] | None = await self._sdk._call(lambda native: native.can_create, text)
        return found

    async def recover(self, session_id: str) -> Session:
        """Begin to start a failed session again; see `Session.recover`. `Session.wait_until_active` tells when."""
        return Session(self._sdk, await self._sdk._call(lambda native: native.recover, session_id))

    async def snapshot(self, session_id: str, name: str, *, memory: bool = False, timeout: Timeout = "10m") -> Snapshot:
        """Copy a session's disk, or disk and memory; see `Session.snapshot`."""
        return await _snapshot.take(self._sdk, session_id, name, memory, timeout)

    async def fork(
        self,
        source: str,
        count: int = 1,
        *,
        memory: bool = False,
        user_id: str | None = None,
        ttl: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: Timeout = "10m",
    ) -> builtins.list[ForkResult]:
        """Make new sessions from a snapshot, or from a session as it is now.

        Each has ids, addresses and a reservation of its own and boots from a disk of its own. What the disk holds
        (accounts, host keys, a machine-id) is the source's. Those of a snapshot with memory do not boot: they go on
        from its instant, as other guests.

        Parameters
        ----------
        source
            The id of a snapshot or of a session.
        count
            How many, 1 to 100.
        memory
            Of a session: copy its memory too, see `Session.snapshot`. A snapshot has its own.
        user_id
            Who owns them; None = who owns the source. With memory it can be nobody else.
        ttl, tags
            As in a `SessionRequest`.

        Returns
        -------
        list of ForkResult
            One each. What a limit denies has its error there; the others go on.

        Raises
        ------
        NotFoundError, ValidationError, UnsupportedError, InvalidTransitionError
            If nothing can be forked at all.
        """
        return await _snapshot.fork(
            self._sdk, source, count, memory=memory, user_id=user_id, ttl=ttl, tags=tags, timeout=timeout
        )

    async def get(self, session_id: str) -> Session:
        """One session.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        return Session(self._sdk, await self._sdk._call(lambda native: native.get, session_id))

    async def list(
        self,
        *,
        user_id: str | None = None,
        tenant: str | None = None,
        states: Iterable[str] = (),
        tags: Mapping[str, str] | None = None,
        limit: int = 100,
        after: str = "",
    ) -> builtins.list[Session]:
        """Sessions by id, `limit` (1 to 1000) at most, ids above `after`; terminated ones only if asked for."""
        query = {
            "user_id": user_id,
            "tenant": tenant,
            "states": list(states),
            "tags": dict(tags or {}),
            "limit": limit,
            "after": after,
        }
        page = await self._sdk._call(lambda native: native.list, json.dumps(query))
        return [Session(self._sdk, document) for document in page["sessions"]]

    @asynccontextmanager
    async def ephemeral(self, request: SessionRequest, *, timeout: Timeout = "5m") -> AsyncIterator[Session]:
        """A session that is active inside the block and terminated at its end, however that comes."""
        _bridge.seconds(timeout)
        creating = asyncio.ensure_future(self.create(request))
        try:
            session = await asyncio.shield(creating)
        except asyncio.CancelledError:
            # It may be on record already, and nobody else knows of it.
            with suppress(InfrastructureSDKError):
                await (await creating).terminate()
            raise
        try:
            await session.wait_until_active(timeout=timeout)
            yield session
        finally:
            await session.terminate()

    @asynccontextmanager
    async def connect(self, session_id: str) -> AsyncIterator[Session]:
        """An existing session; the end of the block only lets go of it."""
        yield await self.get(session_id)
