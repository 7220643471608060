"""Where automation keeps how far it came: one SQLite file in the state directory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from infrastructure_sdk.exceptions import NotFoundError, StoreError

__all__ = ["Parked", "Progress", "Store"]

_VERSION = 1
_SCHEMA = """
create table cursors (name text primary key, sequence integer not null);
create table settled (name text, sequence integer, primary key (name, sequence));
create table runs (name text primary key, due text not null);
create table attempts (name text, key text, count integer not null, primary key (name, key));
create table parked (name text, key text, payload text not null, error text not null, attempts integer not null,
                     parked_at text not null, again integer not null default 0, primary key (name, key));
"""


@dataclass(frozen=True)
class Parked:
    """What was given up after its last try.

    Attributes
    ----------
    name
        Of the handler or schedule.
    key
        The event's sequence number or the run's time.
    payload
        The event, or ``{"due": ...}``.
    """

    name: str
    key: str
    payload: Mapping[str, Any]
    error: str
    attempts: int
    parked_at: str

    def to_dict(self) -> dict[str, Any]:
        """As a document."""
        return dict(vars(self))


class Progress:
    """Which events of the log a handler is done with. Pure.

    The cursor is the last event up to which all are done; wanted ones above it that are done already are kept one by
    one, so that a restart repeats only what was not finished. Events that are not wanted are only passed over: after a
    restart they are looked at again.
    """

    def __init__(self, cursor: int, settled: set[int]) -> None:
        self.cursor = cursor
        self.settled = settled
        self._last_seen = cursor
        self._open: dict[int, None] = {}  # ascending

    def pass_over(self, sequence: int) -> None:
        """The next event of the log is not wanted."""
        self._last_seen = sequence
        self._move()

    def see(self, sequence: int) -> bool:
        """Take note of the next event of the log, which is wanted; False when it was done before."""
        self._last_seen = sequence
        if sequence in self.settled:
            self._move()
            return False
        self._open[sequence] = None
        return True

    def settle(self, sequence: int) -> None:
        """It is done."""
        self._open.pop(sequence, None)
        self.settled.add(sequence)
        self._move()

    def _move(self) -> None:
        cursor = next(iter(self._open)) - 1 if self._open else self._last_seen
        if cursor > self.cursor:
            self.cursor = cursor
            self.settled = {sequence for sequence in self.settled if sequence > cursor}


class Store:
    """Cursors, counted tries and what is parked. Every method is one durable transaction. For one thread."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            (version,) = self._db.execute("pragma user_version").fetchone()
            if version == 0:
                self._db.executescript(f"begin; {_SCHEMA} pragma user_version = {_VERSION}; commit;")
            elif version != _VERSION:
                raise StoreError(f"{path}: its format {version} is not known; known is {_VERSION}")
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}", context={"path": str(path)}) from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # ---- events -----------------------------------------------------------------------------------------------------

    def progress(self, name: str) -> Progress | None:
        """How far a handler came; None if it never began."""
        row = self._db.execute("select sequence from cursors where name = ?", (name,)).fetchone()
        if row is None:
            return None
        rows = self._db.execute("select sequence from settled where name = ?", (name,))
        return Progress(row[0], {sequence for (sequence,) in rows})

    def keep(self, name: str, progress: Progress) -> None:
        """Write how far a handler came; what is done beyond that was written by `settle`."""
        with self._transaction():
            self._keep(name, progress)

    def settle(self, name: str, sequence: int, progress: Progress) -> None:
        """An event is done: its tries are forgotten."""
        with self._transaction():
            self._forget(name, str(sequence))
            if sequence in progress.settled:
                self._db.execute("insert or ignore into settled values (?, ?)", (name, sequence))
            self._keep(name, progress)

    # ---- schedules --------------------------------------------------------------------------------------------------

    def last_due(self, name: str) -> datetime | None:
        """The time of the last run that is settled; None if the schedule is new."""
        row = self._db.execute("select due from runs where name = ?", (name,)).fetchone()
        return None if row is None else datetime.fromisoformat(row[0])

    def settle_run(self, name: str, due: datetime) -> None:
        """A run is done, and all before it."""
        with self._transaction():
            self._forget(name, due.isoformat())
            self._db.execute("insert or replace into runs values (?, ?)", (name, due.isoformat()))

    # ---- tries and what is parked -----------------------------------------------------------------------------------

    def begin(self, name: str, key: str) -> int:
        """Count a try before it is made, so that one which ends this process counts too; its number from 1."""
        with self._transaction():
            self._db.execute(
                "insert into attempts values (?, ?, 1) on conflict do update set count = count + 1", (name, key)
            )
            row = self._db.execute("select count from attempts where name = ? and key = ?", (name, key)).fetchone()
            return int(row[0])

    def take_back(self, name: str, key: str) -> None:
        """A try was stopped from outside: it does not count."""
        with self._transaction():
            self._db.execute("update attempts set count = count - 1 where name = ? and key = ?", (name, key))

    def park(self, item: Parked) -> None:
        """Give it up until `again`."""
        with self._transaction():
            self._forget(item.name, item.key)
            self._db.execute(
                "insert or replace into parked values (?, ?, ?, ?, ?, ?, 0)",
                (item.name, item.key, json.dumps(item.payload), item.error, item.attempts, item.parked_at),
            )

    def parked(self, *, again: bool = False) -> list[Parked]:
        """What was given up; with `again` what somebody asked for anew."""
        rows = self._db.execute(
            "select name, key, payload, error, attempts, parked_at from parked where again = ? order by parked_at, key",
            (int(again),),
        )
        return [Parked(name, key, json.loads(payload), *rest) for name, key, payload, *rest in rows]

    def again(self, name: str, key: str) -> None:
        """Ask for a parked one anew.

        Raises
        ------
        NotFoundError
            If it is not parked.
        """
        with self._transaction():
            changed = self._db.execute("update parked set again = 1 where name = ? and key = ?", (name, key)).rowcount
        if not changed:
            raise NotFoundError(f"{name}/{key}: nothing of that name is parked", context={"name": name, "key": key})

    def unpark(self, name: str, key: str) -> None:
        """It went well this time."""
        with self._transaction():
            self._forget(name, key)
            self._db.execute("delete from parked where name = ? and key = ?", (name, key))

    def _forget(self, name: str, key: str) -> None:
        self._db.execute("delete from attempts where name = ? and key = ?", (name, key))

    def _keep(self, name: str, progress: Progress) -> None:
        self._db.execute("insert or replace into cursors values (?, ?)", (name, progress.cursor))
        self._db.execute("delete from settled where name = ? and sequence <= ?", (name, progress.cursor))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")
        except sqlite3.Error as error:
            raise StoreError(f"the state of automation cannot be written: {error}") from error
