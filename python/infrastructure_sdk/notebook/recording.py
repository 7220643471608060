"""Recorded events: a file with one JSON object a line, each an event as `EventLog` gives it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infrastructure_sdk.exceptions import NotFoundError, ValidationError

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK

__all__ = ["by_session", "read_events", "record", "time_of", "write_events"]

Event = Mapping[str, Any]


def time_of(value: Event | str) -> datetime:
    """The time of an event, or of RFC 3339 text, in UTC. Nanoseconds are cut to microseconds.

    >>> time_of("2026-03-02T07:30:00.123456789Z").isoformat()
    '2026-03-02T07:30:00.123456+00:00'
    """
    text = str(value["time"] if isinstance(value, Mapping) else value)
    main, dot, rest = text.partition(".")
    if dot:
        digits = rest.rstrip("Z").split("+")[0].split("-")[0]
        text = main + "." + (digits + "000000")[:6] + rest[len(digits) :]
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found.astimezone(timezone.utc)


def read_events(path: str | Path) -> list[dict[str, Any]]:
    """The events of a file, in the order of their sequence numbers. Empty lines are skipped.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ValidationError
        If a line is no event; the message names it.
    """
    source = Path(path)
    if not source.is_file():
        raise NotFoundError(f"{source}: there is no such file", context={"path": str(source)})
    found = []
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if not (isinstance(event["sequence"], int) and isinstance(event["type"], str) and "subject" in event):
                raise ValueError
            time_of(event)
        except (ValueError, KeyError, TypeError):
            raise ValidationError(
                f"{source}:{number}: it is no event; an object with sequence, time, type and subject",
                context={"field": f"{source}:{number}"},
            ) from None
        found.append(event)
    return sorted(found, key=lambda event: int(event["sequence"]))


def write_events(path: str | Path, events: Iterable[Event]) -> Path:
    """Write events to a file, one a line, and return its path."""
    target = Path(path)
    target.write_text("".join(json.dumps(dict(event), sort_keys=True) + "\n" for event in events), encoding="utf-8")
    return target


async def record(sdk: InfrastructureSDK, *, after: int = 0, session_id: str | None = None) -> list[Event]:
    """All events of an installation, or of one session, above a sequence number."""
    found: list[Event] = []
    while page := await sdk.events.list(after=found[-1]["sequence"] if found else after, session_id=session_id):
        found += page
    return found


def by_session(events: Sequence[Event]) -> dict[str, list[Event]]:
    """The events of each session, sessions in the order of their first event."""
    found: dict[str, list[Event]] = {}
    for event in events:
        if str(event["type"]).startswith("session."):
            found.setdefault(str(event["subject"]), []).append(event)
    return found
