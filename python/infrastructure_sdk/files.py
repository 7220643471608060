"""The files of a session's guest."""

from __future__ import annotations

import asyncio
import builtins
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure_sdk._bridge import Timeout
from infrastructure_sdk.exceptions import ValidationError

if TYPE_CHECKING:
    from infrastructure_sdk.session import Session

__all__ = ["FileClient", "FileEntry"]

_PART = 1 << 20


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
