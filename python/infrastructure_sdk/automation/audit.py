"""The audit trail: who ran what, when, with what, what it did and how it ended.

One JSON object a line, chained by hash.

A line says the SHA-256 of the line before it: one that was changed, taken out or put elsewhere shows. That the last
lines were cut off shows only against a copy of the last hash.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infrastructure_sdk.exceptions import StoreError

__all__ = ["AuditTrail"]

_FIRST = "0" * 64
_BLOCK = 65536  # bytes of the end that are looked at first


class AuditTrail:
    """An append-only file. Each record is with the kernel before `append` returns: it outlives the process.

    Several trails, threads and processes may write one file: a lock on it makes them take turns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = _FIRST
        self._seen: tuple[int, int] | None = None  # the file and its length when `_last` was its last hash

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record.

        Raises
        ------
        StoreError
            If the file cannot be written. Nothing of the record is left in it.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # ends with the descriptor
                self._append(descriptor, record)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(f"{self._path}: {error}", context={"path": str(self._path)}) from error

    def records(self) -> Iterator[dict[str, Any]]:
        """All records, the oldest first; lines that are none are left out."""
        for _, record in self._lines():
            if record is not None:
                yield record

    def problems(self) -> list[str]:
        """What is wrong with the chain, by line; empty if nothing is."""
        found = []
        before = _FIRST
        with self._undisturbed():
            lines = list(self._lines())
        for number, record in lines:
            if record is None:
                found.append(f"line {number}: it is not a record")
                continue
            body = {key: value for key, value in record.items() if key != "hash"}
            if record.get("prev_hash") != before:
                found.append(f"line {number}: it does not follow the line before it")
            if record.get("hash") != _digest(body):
                found.append(f"line {number}: it was changed")
            before = str(record.get("hash"))
        return found

    def _append(self, descriptor: int, record: Mapping[str, Any]) -> None:
        status = os.fstat(descriptor)
        if self._seen != (status.st_ino, status.st_size):
            self._seen = None
            self._last = _last_hash(descriptor, status.st_size)
            if status.st_size and os.pread(descriptor, 1, status.st_size - 1) != b"\n":
                # A crash cut the last line off: it is ended, so that the next one stands alone.
                _write(descriptor, b"\n")
        body = {**record, "prev_hash": self._last}
        digest = _digest(body)
        _write(descriptor, (json.dumps({**body, "hash": digest}, sort_keys=True) + "\n").encode())
        self._last, self._seen = digest, (status.st_ino, os.fstat(descriptor).st_size)

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """No record is half written meanwhile."""
        if not self._path.exists():
            yield
            return
        with self._path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def _lines(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, _read(line)


def _write(descriptor: int, content: bytes) -> None:
    """All of it or nothing: a full disk takes a part of a line."""
    before = os.fstat(descriptor).st_size
    left = content
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        with contextlib.suppress(OSError):  # what stays is a cut-off line, which the next record ends
            os.ftruncate(descriptor, before)
        raise


def _last_hash(descriptor: int, size: int) -> str:
    """Of the last line that is a record."""
    block = _BLOCK
    while True:
        begin = max(size - block, 0)
        lines = os.pread(descriptor, size - begin, begin).split(b"\n")
        for line in reversed(lines[1:] if begin else lines):
            if (record := _read(line)) is not None:
                return str(record.get("hash"))
        if not begin:
            return _FIRST
        block *= 4


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
