"""What people want of their sessions: a made-up fleet, a trace, or a recorded event log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from infrastructure_sdk import _core
from infrastructure_sdk.exceptions import NotFoundError, ValidationError

__all__ = ["Fleet", "Workload", "WorkloadInput", "as_workload"]

StrPath = str | os.PathLike[str]


class Fleet:
    """A model of people and how they use their sessions. Immutable.

    Parameters
    ----------
    users
        How many, 1 to 1,000,000.
    days
        How long, in days.
    parameters
        What is not as usual, by name. Times of day are since local midnight, durations texts such as "8h30m", shares
        numbers of 0 to 1, and every length that is drawn is exponential around its mean: ``start`` (RFC 3339),
        ``utc_offset``, ``tenants``, ``working_days`` (1 = Monday), ``attendance``, ``weekend_attendance``,
        ``day_start``, ``day_start_spread``, ``day_length``, ``day_length_spread``, ``lunch_at``, ``lunch_length``,
        ``work_stretch``, ``break_length``, ``meeting_share``, ``meeting_length``, ``background_share``,
        ``background_length``, ``forgotten_tab_share``, ``forgotten_tab_length``, ``session_days``,
        ``forgotten_session_share``.

    Raises
    ------
    ValidationError
        Naming the parameter, its value and what is allowed.

    Examples
    --------
    >>> Fleet(users=20, days=7, day_start="10h").parameters["day_start"]
    '10h'
    """

    def __init__(self, users: int = 100, days: float = 30, **parameters: Any) -> None:
        if not isinstance(days, int | float) or isinstance(days, bool) or not 0 < days <= 3650:
            raise ValidationError(
                f"fleet.days: '{days}' is not allowed; above 0, at most 3650",
                context={"field": "fleet.days", "value": str(days), "allowed": "above 0, at most 3650"},
            )
        document = {"users": users, "length": f"{round(days * 86400)}s"} | parameters
        self._document: dict[str, Any] = json.loads(_core.fleet_document(json.dumps(document, default=str)))

    @property
    def parameters(self) -> Mapping[str, Any]:
        """All of them, with the defaults."""
        return dict(self._document)

    def __repr__(self) -> str:
        return f"<Fleet {self._document['users']} users, {self._document['length']}>"


class Workload:
    """Planned sessions, each with who wants it, when, and how it is used. Immutable."""

    def __init__(self, native: _core.Workload) -> None:
        self._native = native

    @classmethod
    def from_fleet(cls, fleet: Fleet, seed: int = 1) -> Workload:
        """Made up by a model; the same seed makes the same."""
        return cls._make({"fleet": dict(fleet.parameters)}, seed)

    @classmethod
    def from_trace(cls, path: StrPath) -> Workload:
        """A file of one session a line: CSV with a header, or JSONL when its name ends with .jsonl.

        Columns are ``user``, ``start`` (RFC 3339), ``length`` ("8h"), and if wanted ``activity``
        ("work@0s+50m background@8h+2h"; kinds are work, background and open), ``tenant``, ``template``, ``ended``
        (false = nobody ends it).

        Raises
        ------
        ValidationError
            Naming the line, the column, the value and what is allowed.
        """
        form = "jsonl" if os.fspath(path).endswith((".jsonl", ".ndjson")) else "csv"
        return cls._make({"trace": _read(path), "format": form, "source": Path(path).name}, 0)

    @classmethod
    def from_events(cls, events: StrPath | Iterable[Mapping[str, Any]]) -> Workload:
        """A recorded log: a file of one event a line, or events as `sdk.events` gives them.

        Sessions, verbs and use are reconstructed. What a log cannot tell is said in `notes`.
        """
        if isinstance(events, str | os.PathLike):
            return cls._make({"events": _read(events), "source": Path(events).name}, 0)
        lines = "".join(json.dumps(dict(event)) + "\n" for event in events)
        return cls._make({"events": lines}, 0)

    @classmethod
    def _make(cls, document: Mapping[str, Any], seed: int) -> Workload:
        return cls(_core.make_workload(json.dumps(document), checked_seed(seed)))

    @property
    def sessions(self) -> int:
        """How many are planned."""
        return self._native.sessions

    @property
    def start(self) -> str:
        """RFC 3339."""
        return self._native.start

    @property
    def length_s(self) -> float:
        """Seconds, to the horizon."""
        return self._native.length_s

    @property
    def notes(self) -> Sequence[str]:
        """What its source could not tell."""
        return tuple(self._native.notes)

    def __repr__(self) -> str:
        return f"<Workload {self.sessions} sessions from {self.start[:10]}, {self.length_s / 86400:.1f} days>"


WorkloadInput: TypeAlias = Workload | Fleet | StrPath | Iterable[Mapping[str, Any]]
"""A workload, a fleet, a file of a trace (.csv, .jsonl) or of events (.jsonl), or events."""


def as_workload(source: WorkloadInput, seed: int) -> Workload:
    """What `source` says. A JSONL file whose first line has a ``subject`` is an event log."""
    if isinstance(source, Workload):
        return source
    if isinstance(source, Fleet):
        return Workload.from_fleet(source, seed)
    if isinstance(source, str | os.PathLike):
        return Workload.from_events(source) if _is_event_log(source) else Workload.from_trace(source)
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise ValidationError(
            f"workload: {type(source).__name__} is not allowed; a Fleet, a Workload, a file or a list of events",
            context={"field": "workload", "value": type(source).__name__},
        )
    return Workload.from_events(source)


def checked_seed(seed: int) -> int:
    """A seed is a whole number of 64 bits."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ValidationError(
            f"seed: '{seed}' is not allowed; a whole number of 0 to 2^64 - 1",
            context={"field": "seed", "value": str(seed), "allowed": "0 to 2^64 - 1"},
        )
    return seed


def _is_event_log(path: StrPath) -> bool:
    if not os.fspath(path).endswith((".jsonl", ".ndjson")):
        return False
    first = next((line for line in _read(path).splitlines() if line.strip()), "")
    try:
        document = json.loads(first)
    except ValueError:
        return False
    return isinstance(document, dict) and "subject" in document


def _read(path: StrPath) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {os.fspath(path)}", context={"field": "path"}) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValidationError(f"{os.fspath(path)} cannot be read: {error}", context={"field": "path"}) from None
