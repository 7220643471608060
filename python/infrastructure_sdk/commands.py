"""Commands in a session's guest: what they print and leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from infrastructure_sdk import _bridge
from infrastructure_sdk._bridge import Timeout
from infrastructure_sdk.exceptions import OperationTimeoutError, ValidationError

if TYPE_CHECKING:
    from infrastructure_sdk.session import Session

__all__ = ["ExecResult", "GuestProcess", "OutputChunk"]


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


def check_texts(field_name: str, values: Iterable[object], *, forbidden: str = "\0", secret: bool = False) -> None:
    for value in values:
        # The guest's agent would cut the text there.
        if not isinstance(value, str) or any(c in value for c in forbidden):
            shown = "***" if secret else f"{value!r:.200}"
            allowed = f"texts without {' '.join(map(repr, forbidden))}"
            raise ValidationError(
                f"{field_name}: {shown} is not allowed; {allowed}",
                context={"field": field_name, "value": shown, "allowed": allowed},
            )


def exec_arguments(
    command: str | Iterable[str],
    stdin: bytes | str,
    env: Mapping[str, str] | None,
    cwd: str | None,
    user: str | None,
) -> tuple[list[str], bytes, dict[str, str], str, str]:
    words = ["sh", "-c", command] if isinstance(command, str) else list(command)
    data = stdin.encode() if isinstance(stdin, str) else stdin
    variables = dict(env or {})
    check_texts("command", words)
    check_texts("env", variables, forbidden="\0=")
    check_texts("env", variables.values(), secret=True)
    for name, value in (("cwd", cwd), ("user", user)):
        if value == "":
            raise ValidationError(f"{name}: an empty text is not allowed", context={"field": name, "value": ""})
    return words, data, variables, cwd or "", user or ""
