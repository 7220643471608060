"""The audit trail: who ran what, when, with what, what it did and how it ended.

One JSON object a line, chained by hash.

A line says the SHA-256 of the line before it: one that was changed, taken out or put elsewhere shows. That the last
lines were cut off shows only against a copy of the last hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infrastructure_sdk.exceptions import StoreError

__all__ = ["AuditTrail"]

_FIRST = "0" * 64


class AuditTrail:
    """An append-only file. Each record is with the kernel before `append` returns: it outlives the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: str | None = None

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record.

        Raises
        ------
        StoreError
            If the file cannot be written.
        """
        try:
            if self._last is None:
                self._last = self._mend()
            body = {**record, "prev_hash": self._last}
            digest = _digest(body)
            line = json.dumps({**body, "hash": digest}, sort_keys=True) + "\n"
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
            self._last = digest
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
        for number, record in self._lines():
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

    def _mend(self) -> str:
        """The last hash. A line that a crash cut off is ended, so that the next one stands alone."""
        last = _FIRST
        for _, record in self._lines():
            if record is not None:
                last = str(record.get("hash"))
        if self._path.exists() and (content := self._path.read_bytes()) and not content.endswith(b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")
        return last

    def _lines(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                except ValueError:
                    record = None
                yield number, record if isinstance(record, dict) else None


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
