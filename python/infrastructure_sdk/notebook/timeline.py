"""What happened to a session, as a picture: one band of states, marks for what happened in between."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from infrastructure_sdk.notebook.recording import time_of

__all__ = ["Timeline"]

COLOURS = {
    "pending": "#c9ced6",
    "provisioning": "#f0c24b",
    "active": "#3f9d5d",
    "suspending": "#9db7dd",
    "suspended": "#4a78b8",
    "resuming": "#f0c24b",
    "terminating": "#b0a7a0",
    "terminated": "#7a7a7a",
    "failed": "#c9463d",
}
MARKS = {
    "session.idle.armed": "idle: warned",
    "session.idle.disarmed": "in use again",
    "session.clock.warning": "warning",
    "session.hold.placed": "hold",
    "session.hold.released": "hold released",
    "session.isolation.drifted": "isolation drifted",
    "session.isolation.restored": "isolation restored",
    "session.clients.connected": "client came",
    "session.clients.left": "last client left",
    "session.clients.disconnected": "clients cut off",
    "session.lifecycle.updated": "extended",
}
WIDTH, MARGIN, BAND_TOP, BAND_HEIGHT, ROW = 900, 12, 34, 30, 17


@dataclass(frozen=True)
class _Band:
    state: str
    begin: datetime
    end: datetime
    why: str


def length_text(span: timedelta) -> str:
    """A span for people."""
    seconds = span.total_seconds()
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class Timeline:
    """A session's life from its events.

    Parameters
    ----------
    events
        As `Session.events` gives them, oldest first.
    now
        Where the picture ends while the session lives, as RFC 3339 text; the last event if None.

    Raises
    ------
    ValueError
        If there are no events.
    """

    def __init__(self, events: Sequence[Mapping[str, Any]], *, now: str | None = None) -> None:
        if not events:
            raise ValueError("events: there are none; a timeline needs at least one")
        self._events = list(events)
        self._end = max(time_of(self._events[-1]), time_of(now or self._events[-1]))

    def bands(self) -> list[tuple[str, str, str]]:
        """The states in order, each with when it began and why."""
        return [(band.state, band.begin.isoformat(), band.why) for band in self._bands()]

    def _bands(self) -> list[_Band]:
        begins: list[tuple[str, datetime, str]] = [("pending", time_of(self._events[0]), "created")]
        for event in self._events:
            data = event.get("data") or {}
            if "to" in data:
                begins.append((data["to"], time_of(event), str(data.get("reason") or data.get("cause") or "")))
        ends = [begin for _, begin, _ in begins[1:]] + [self._end]
        return [_Band(state, begin, end, why) for (state, begin, why), end in zip(begins, ends, strict=True)]

    def to_svg(self) -> str:
        """The picture as one SVG document."""
        bands = self._bands()
        start = bands[0].begin
        # Time at rest is long and what is interesting is short: no state is narrower than it can be seen.
        least = 14.0
        spans = [(band.end - band.begin).total_seconds() for band in bands]
        room = WIDTH - 2 * MARGIN - least * len(bands)
        total = sum(spans) or 1.0
        widths = [least + room * span / total for span in spans]
        lefts = [MARGIN + sum(widths[:i]) for i in range(len(bands))]

        def at(moment: datetime) -> float:
            for band, left, width, span in zip(bands, lefts, widths, spans, strict=True):
                if moment <= band.end:
                    inside = (moment - band.begin).total_seconds() / span if span else 0.0
                    return left + width * min(max(inside, 0.0), 1.0)
            return lefts[-1] + widths[-1]

        parts: list[str] = []
        legend: list[tuple[str, str]] = []
        for band, left, width in zip(bands, lefts, widths, strict=True):
            tip = f"{band.state} from {band.begin:%H:%M:%S} for {length_text(band.end - band.begin)}"
            tip += f" ({band.why})" if band.why else ""
            colour = COLOURS.get(band.state, "#999999")
            parts.append(
                f'<rect x="{left:.1f}" y="{BAND_TOP}" width="{width:.1f}" height="{BAND_HEIGHT}" fill="{colour}">'
                f"<title>{html.escape(tip)}</title></rect>"
            )
            if width > 8 * len(band.state):
                middle = left + width / 2
                parts.append(
                    f'<text x="{middle:.1f}" y="{BAND_TOP + 19}" fill="#ffffff" text-anchor="middle">'
                    f"{band.state}</text>"
                )
            legend.append((colour, tip))
        marks = [(event, MARKS[event["type"]]) for event in self._events if event["type"] in MARKS]
        for event, label in marks:
            x = at(time_of(event))
            parts.append(
                f'<path d="M {x:.1f} {BAND_TOP + BAND_HEIGHT + 2} l -4 8 l 8 0 z" fill="#333333">'
                f"<title>{html.escape(label)} at {time_of(event):%H:%M:%S}</title></path>"
            )
            detail = event.get("data") or {}
            more = detail.get("clock") or detail.get("name") or detail.get("action") or ""
            legend.append(("", f"▲ {label} at {time_of(event):%H:%M:%S}" + (f" ({more})" if more else "")))
        top = BAND_TOP + BAND_HEIGHT + 30
        for i, (colour, line) in enumerate(legend):
            y = top + i * ROW
            if colour:
                parts.append(f'<circle cx="{MARGIN + 5}" cy="{y - 4}" r="5" fill="{colour}"/>')
            parts.append(
                f'<text x="{MARGIN + (16 if colour else 0)}" y="{y}" fill="#333333">{html.escape(line)}</text>'
            )
        height = top + len(legend) * ROW
        subject = html.escape(str(self._events[0].get("subject", "")))
        title = f"{subject} · {start:%Y-%m-%d %H:%M:%S} to {self._end:%H:%M:%S} UTC"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="sans-serif" font-size="12"><rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
            f'<text x="{MARGIN}" y="20" font-weight="bold" fill="#111111">{title}</text>{"".join(parts)}</svg>'
        )

    def save(self, path: str | Path) -> Path:
        """Write the SVG and return its path."""
        target = Path(path)
        target.write_text(self.to_svg(), encoding="utf-8")
        return target

    def _repr_svg_(self) -> str:
        return self.to_svg()
