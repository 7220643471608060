"""What happened to all sessions, as one picture: a line for each, on one axis of time."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from infrastructure_sdk.notebook.recording import Event, by_session, time_of
from infrastructure_sdk.notebook.timeline import COLOURS, MARKS, Timeline, length_text

__all__ = ["FleetTimeline"]

WIDTH, LABEL, MARGIN, TOP, ROW, BAND = 900, 190, 12, 52, 22, 14
RUNNING = ("provisioning", "active", "suspending", "resuming")
_STEPS = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 12 * 3600, 86400, 7 * 86400, 30 * 86400)


@dataclass(frozen=True)
class SessionRow:
    """One session of the picture.

    Attributes
    ----------
    running, suspended
        Seconds with and without a machine.
    unused
        Seconds of `running` in which it was known to be quiet before it was suspended.
    """

    session: str
    user: str
    state: str
    running: float
    suspended: float
    unused: float
    suspensions: int
    failures: int


class FleetTimeline:
    """Sessions' lives from an event log.

    Parameters
    ----------
    events
        Of any subjects, in order; those of sessions count.
    now
        Where the picture ends, as RFC 3339 text; the last event if None.
    rows
        How many sessions are drawn at most, the first ones.

    Raises
    ------
    ValueError
        If no event is of a session.
    """

    def __init__(self, events: Sequence[Event], *, now: str | None = None, rows: int = 40) -> None:
        self._lives = by_session(events)
        if not self._lives:
            raise ValueError("events: none is of a session; a picture needs at least one")
        self._rows = rows
        last = max(time_of(event) for life in self._lives.values() for event in life)
        self._end = max(last, time_of(now)) if now else last
        self._begin = min(time_of(life[0]) for life in self._lives.values())

    def sessions(self) -> list[SessionRow]:
        """One row each, in the order of their beginning."""
        return [self._row(session, life) for session, life in self._lives.items()]

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as documents, e.g. for a data frame."""
        return [dict(vars(row)) for row in self.sessions()]

    def _bands(self, life: Sequence[Event]) -> list[tuple[str, datetime, datetime]]:
        over = {"terminated"}
        bands = Timeline(life, now=self._end.isoformat())._bands()
        return [(band.state, band.begin, band.end) for band in bands if band.state not in over]

    def _quiet(self, life: Sequence[Event]) -> list[tuple[datetime, datetime]]:
        """From when it was seen to be quiet until it was suspended for that."""
        since: datetime | None = None
        found = []
        for event in life:
            data = event.get("data") or {}
            if event["type"] == "session.idle.armed":
                since = time_of(str(data["quiet_since"])) if "quiet_since" in data else None
            elif event["type"] == "session.idle.disarmed":
                since = None
            elif data.get("to") == "suspending" and since is not None:
                found.append((since, time_of(event)))
                since = None
        return found

    def _row(self, session: str, life: Sequence[Event]) -> SessionRow:
        bands = self._bands(life)

        def lasted(states: Sequence[str]) -> float:
            return sum((end - begin).total_seconds() for state, begin, end in bands if state in states)

        created: Mapping[str, Any] = life[0].get("data") or {}
        changes = [str((event.get("data") or {}).get("to", "")) for event in life]
        return SessionRow(
            session=session,
            user=str(created.get("user_id", "")),
            state=next((change for change in reversed(changes) if change), "pending"),
            running=lasted(RUNNING),
            suspended=lasted(("suspended",)),
            unused=sum((end - begin).total_seconds() for begin, end in self._quiet(life)),
            suspensions=changes.count("suspended"),
            failures=changes.count("failed"),
        )

    def to_svg(self) -> str:
        """The picture as one SVG document."""
        span = max((self._end - self._begin).total_seconds(), 1e-6)
        room = WIDTH - LABEL - 2 * MARGIN

        def at(moment: datetime) -> float:
            share = (moment - self._begin).total_seconds() / span
            return LABEL + MARGIN + room * min(max(share, 0.0), 1.0)

        shown = list(self._lives.items())[: self._rows]
        bottom = TOP + ROW * len(shown)
        parts = [self._axis(at, span, bottom)]
        for number, (session, life) in enumerate(shown):
            parts.append(self._line(session, life, TOP + ROW * number, at))
        left = len(self._lives) - len(shown)
        if left:
            parts.append(f'<text x="{MARGIN}" y="{bottom + 12}" fill="#555555">and {left} more</text>')
            bottom += 18
        parts.append(self._legend(bottom + 22))
        height = bottom + 44
        title = f"{len(self._lives)} sessions · {self._begin:%Y-%m-%d %H:%M:%S} to {self._end:%Y-%m-%d %H:%M:%S} UTC"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="sans-serif" font-size="12"><rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
            f'<text x="{MARGIN}" y="20" font-weight="bold" fill="#111111">{title}</text>{"".join(parts)}</svg>'
        )

    def _axis(self, at: Any, span: float, bottom: int) -> str:
        step = next((step for step in _STEPS if span / step <= 8), _STEPS[-1])
        form = "%m-%d" if step >= 86400 else "%H:%M" if step >= 60 else "%H:%M:%S"
        first = -(-self._begin.timestamp() // step) * step
        parts = []
        for number in range(int((self._end.timestamp() - first) // step) + 1):
            moment = datetime.fromtimestamp(first + number * step, self._begin.tzinfo)
            x = at(moment)
            parts.append(f'<path d="M {x:.1f} {TOP - 8} V {bottom}" stroke="#e3e6ea"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{TOP - 13}" fill="#555555" font-size="11" text-anchor="middle">'
                f"{moment:{form}}</text>"
            )
        return "".join(parts)

    def _line(self, session: str, life: Sequence[Event], top: int, at: Any) -> str:
        row = self._row(session, life)
        label = html.escape(f"{row.user} · {session[:10]}")
        tip = f"{session}: ran {length_text(timedelta(seconds=row.running))}, {row.suspensions} suspensions"
        parts = [f'<text x="{MARGIN}" y="{top + 11}" fill="#333333">{label}<title>{html.escape(tip)}</title></text>']
        for state, begin, end in self._bands(life):
            x, width = at(begin), max(at(end) - at(begin), 0.8)
            why = html.escape(f"{state} from {begin:%H:%M:%S} for {length_text(end - begin)}")
            parts.append(
                f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{BAND}" '
                f'fill="{COLOURS.get(state, "#999999")}"><title>{why}</title></rect>'
            )
        for begin, end in self._quiet(life):
            width = max(at(end) - at(begin), 0.8)
            parts.append(
                f'<rect x="{at(begin):.1f}" y="{top + BAND - 4}" width="{width:.1f}" height="4" fill="#f28c28">'
                f"<title>not in use for {length_text(end - begin)}</title></rect>"
            )
        for event in life:
            if event["type"] in MARKS and not str(event["type"]).startswith("session.idle."):
                tip = html.escape(f"{MARKS[event['type']]} at {time_of(event):%H:%M:%S}")
                x = at(time_of(event))
                parts.append(
                    f'<path d="M {x:.1f} {top + BAND - 1} l -3 6 l 6 0 z" fill="#333333"><title>{tip}</title></path>'
                )
        return "".join(parts)

    def _legend(self, y: int) -> str:
        states = {state for life in self._lives.values() for state, _, _ in self._bands(life)}
        entries = [(COLOURS[state], state) for state in COLOURS if state in states]
        if any(self._quiet(life) for life in self._lives.values()):
            entries.append(("#f28c28", "not in use"))
        parts, x = [], float(MARGIN)
        for colour, name in entries:
            parts.append(f'<rect x="{x:.0f}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
            parts.append(f'<text x="{x + 14:.0f}" y="{y}" fill="#333333">{name}</text>')
            x += 30 + 7 * len(name)
        return "".join(parts)

    def save(self, path: str | Path) -> Path:
        """Write the SVG and return its path."""
        target = Path(path)
        target.write_text(self.to_svg(), encoding="utf-8")
        return target

    def __repr__(self) -> str:
        return f"<FleetTimeline of {len(self._lives)} sessions>"

    def _repr_svg_(self) -> str:
        return self.to_svg()
