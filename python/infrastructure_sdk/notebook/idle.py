"""What another idle timeout would have done to what is in an event log."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infrastructure_sdk import _bridge
from infrastructure_sdk.exceptions import ValidationError
from infrastructure_sdk.notebook.recording import Event, by_session, time_of

__all__ = ["IdleExplorer", "IdleWhatIf", "QuietSpell"]

# States that end a quiet spell when they come. An idle suspension has come by then: this one has another reason.
_ENDS = frozenset("suspending terminating terminated failed".split())


@dataclass(frozen=True)
class QuietSpell:
    """A time in which a session was not in use.

    Attributes
    ----------
    begin
        When it was used last.
    suspended
        When it was suspended for that; None if it came into use before, or ended or was suspended for another reason.
    end
        When it was wanted again; None if nobody came back.
    over
        When the quiet ended: at `end`, with the session, with its suspension for another reason, or with the log.
    """

    session: str
    begin: datetime
    suspended: datetime | None
    end: datetime | None
    over: datetime


@dataclass(frozen=True)
class IdleWhatIf:
    """What one timeout would have done.

    Attributes
    ----------
    timeout
        Seconds.
    suspensions
        How many there would have been.
    came_back_soon
        Of them: the user was back within `soon` after it.
    unused
        Seconds for which machines would have run without use.
    complete
        False when the timeout is shorter than what the log was recorded with: shorter pauses are not in it, and the
        numbers are the least that there would have been.
    """

    timeout: float
    suspensions: int
    came_back_soon: int
    unused: float
    complete: bool


class IdleExplorer:
    """Quiet spells of an event log, and what other timeouts would have made of them.

    A log tells of quiet when it was as long as the timeout of then. So longer timeouts are answered exactly, as far as
    people would have come back at the same time; for shorter ones the answer is a lower bound.

    Parameters
    ----------
    events
        Of any subjects, in order.
    soon
        Who comes back within this time after a suspension was wrongly suspended; seconds or a duration.
    now
        Where the log ends, as RFC 3339 text; the last event if None.

    Raises
    ------
    ValidationError
        If there is no event, or `soon` is no duration.
    """

    def __init__(self, events: Sequence[Event], *, soon: str | float = "15m", now: str | None = None) -> None:
        if not events:
            raise ValidationError("events: there are none", context={"field": "events"})
        self._soon = _bridge.seconds(soon)
        self._end = time_of(now) if now else max(time_of(event) for event in events)
        self.spells = [
            spell for session, life in by_session(events).items() for spell in _spells(session, life, self._end)
        ]
        waits = [(spell.suspended - spell.begin).total_seconds() for spell in self.spells if spell.suspended]
        self.recorded_timeout = min(waits, default=0.0)
        """The shortest quiet that ended in a suspension, in seconds; 0 if there was none."""

    def what_if(self, *timeouts: str | float) -> list[IdleWhatIf]:
        """What each timeout would have done.

        Raises
        ------
        ValidationError
            If one is no duration above zero.
        """
        return [self._one(_above_zero(timeout)) for timeout in timeouts]

    def _one(self, timeout: float) -> IdleWhatIf:
        suspensions = soon = 0
        unused = 0.0
        for spell in self.spells:
            length = (spell.over - spell.begin).total_seconds()
            unused += min(length, timeout)
            if length > timeout:
                suspensions += 1
                soon += spell.end is not None and length - timeout <= self._soon
        return IdleWhatIf(timeout, suspensions, soon, unused, timeout >= self.recorded_timeout)

    def table(self, *timeouts: str | float) -> WhatIfTable:
        """The same, as a table with bars for a notebook."""
        return WhatIfTable(self.what_if(*timeouts))

    def __repr__(self) -> str:
        return f"<IdleExplorer: {len(self.spells)} quiet spells>"


class WhatIfTable:
    """Answers of an `IdleExplorer`, side by side."""

    def __init__(self, answers: Sequence[IdleWhatIf]) -> None:
        self.answers = list(answers)

    def to_dicts(self) -> list[dict[str, Any]]:
        """As documents, e.g. for a data frame."""
        return [dict(vars(answer)) for answer in self.answers]

    def __repr__(self) -> str:
        return "\n".join(
            f"{_text(answer.timeout):>8}: {answer.suspensions} suspensions, {answer.came_back_soon} of them back soon, "
            f"{_text(answer.unused)} unused{'' if answer.complete else ' at least'}"
            for answer in self.answers
        )

    def _repr_html_(self) -> str:
        most = max((answer.unused for answer in self.answers), default=0.0) or 1.0
        rows = "".join(
            "<tr>"
            f"<td>{_text(answer.timeout)}</td><td>{answer.suspensions}</td><td>{answer.came_back_soon}</td>"
            f'<td style="text-align:left"><span style="display:inline-block;height:0.7em;background:#f28c28;'
            f'width:{160 * answer.unused / most:.0f}px"></span> '
            f"{html.escape(_text(answer.unused))}{'' if answer.complete else ' at least'}</td></tr>"
            for answer in self.answers
        )
        head = "<tr><th>idle timeout</th><th>suspensions</th><th>back soon</th><th>ran without use</th></tr>"
        return f"<table>{head}{rows}</table>"


def _spells(session: str, life: Iterable[Event], log_end: datetime) -> list[QuietSpell]:
    found: list[QuietSpell] = []
    since: datetime | None = None
    asleep: tuple[datetime, datetime] | None = None
    for event in life:
        data = event.get("data") or {}
        if event["type"] == "session.idle.armed" and "quiet_since" in data:
            since = time_of(str(data["quiet_since"]))
        elif event["type"] == "session.idle.disarmed" and since is not None:
            found.append(QuietSpell(session, since, None, time_of(event), time_of(event)))
            since = None
        elif data.get("to") == "suspending" and data.get("cause", "idle") == "idle" and since is not None:
            asleep, since = (since, time_of(event)), None
        elif data.get("to") == "resuming" and asleep is not None:
            found.append(QuietSpell(session, *asleep, time_of(event), time_of(event)))
            asleep = None
        elif data.get("to") in _ENDS:
            found += _closed(session, since, asleep, time_of(event))
            since = asleep = None
    return found + _closed(session, since, asleep, log_end)


def _closed(
    session: str, since: datetime | None, asleep: tuple[datetime, datetime] | None, over: datetime
) -> list[QuietSpell]:
    """What was quiet until `over`, when nobody had come back."""
    if asleep is not None:
        return [QuietSpell(session, *asleep, None, over)]
    return [] if since is None else [QuietSpell(session, since, None, None, over)]


def _above_zero(value: str | float) -> float:
    found = _bridge.seconds(value)
    if not found > 0:
        raise ValidationError(
            f"timeout: {value!r} is not allowed; above zero", context={"field": "timeout", "value": repr(value)}
        )
    return found


def _text(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
