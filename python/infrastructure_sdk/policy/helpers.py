"""Short names for the decisions, and hours in a time zone of `request.now`. Durations are seconds."""

from __future__ import annotations

from datetime import datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from infrastructure_sdk._core import (
    AdmitDecision,
    PlaceDecision,
    SessionDecision,
    SizeDecision,
    standard_decision,
)
from infrastructure_sdk.exceptions import ValidationError

__all__ = [
    "admit",
    "deny",
    "disconnect",
    "is_between",
    "is_weekend",
    "keep",
    "local_time",
    "place",
    "resize",
    "seconds_until",
    "standard",
    "suspend",
    "terminate",
]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _seconds(given: float | timedelta | None) -> float | None:
    return given.total_seconds() if isinstance(given, timedelta) else given


def standard(request: Any, *, ask_again_after: float | timedelta | None = None) -> Any:
    """Leave it to the engine; works at every point.

    At the points `schedule` and `budget`, `ask_again_after` says for how many seconds (a day at most) the answer stays
    what it is whatever happens to the session: this one need not be asked again before. It means nothing elsewhere.
    """
    decision = standard_decision(request)
    if ask_again_after is None or not isinstance(decision, SessionDecision):
        return decision
    return SessionDecision(ask_again_after=_seconds(ask_again_after))


def admit(reason: str = "") -> AdmitDecision:
    """Nothing against it; the limits apply all the same."""
    return AdmitDecision(reason=reason)


def deny(reason: str) -> AdmitDecision:
    """Not to be created; the reason is what its user reads."""
    return AdmitDecision(action="deny", reason=reason)


def place(candidate: str, reason: str = "") -> PlaceDecision:
    """Put it there; `candidate` is the name of one of the candidates."""
    return PlaceDecision(candidate=candidate, reason=reason)


def resize(*, cpu_cores: float | None = None, memory_bytes: int | None = None, reason: str = "") -> SizeDecision:
    """Make it that large; None leaves that one as it would be."""
    return SizeDecision(cpu_cores=cpu_cores, memory_bytes=memory_bytes, reason=reason)


def keep(reason: str = "", *, ask_again_after: float | timedelta | None = None) -> SessionDecision:
    """Let it run, and do not ask again for so many seconds (a day at most)."""
    return SessionDecision(action="keep", reason=reason, ask_again_after=_seconds(ask_again_after))


def disconnect(reason: str = "") -> SessionDecision:
    """Cut off its viewers."""
    return SessionDecision(action="disconnect", reason=reason)


def suspend(reason: str = "") -> SessionDecision:
    """Suspend it: it can be resumed."""
    return SessionDecision(action="suspend", reason=reason)


def terminate(reason: str = "") -> SessionDecision:
    """End it for good."""
    return SessionDecision(action="terminate", reason=reason)


def _zone(zone: str | tzinfo) -> tzinfo:
    if not isinstance(zone, str):
        return zone
    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise ValidationError(
            f"there is no time zone {zone!r}, e.g. Europe/Berlin",
            context={"field": "zone", "value": zone, "allowed": "a name of the IANA database"},
        ) from None


def _clock(text: str | time) -> time:
    if isinstance(text, time):
        return text
    try:
        hour, _, minute = text.partition(":")
        return time(int(hour), int(minute or "0"))
    except ValueError:
        raise ValidationError(
            f"{text!r} is no time of day, e.g. 09:30",
            context={"field": "time", "value": text, "allowed": "00:00 to 23:59"},
        ) from None


def _days(text: str) -> frozenset[int]:
    chosen: set[int] = set()
    try:
        for part in text.lower().replace(" ", "").split(","):
            first, dash, last = part.partition("-")
            begin, end = DAYS.index(first), DAYS.index(last) if dash else DAYS.index(first)
            chosen.update((begin + i) % 7 for i in range((end - begin) % 7 + 1))
    except ValueError:
        raise ValidationError(
            f"{text!r} are no days, e.g. mon-fri or sat,sun",
            context={"field": "days", "value": text, "allowed": ", ".join(DAYS)},
        ) from None
    return frozenset(chosen)


def local_time(request: Any, zone: str | tzinfo) -> datetime:
    """`request.now` as a clock on the wall there shows it.

    Raises
    ------
    ValidationError
        For a zone that does not exist.
    """
    now: datetime = request.now
    return now.astimezone(_zone(zone))


def is_between(request: Any, start: str | time, end: str | time, *, zone: str | tzinfo, days: str = "mon-sun") -> bool:
    """Whether it is `start` or later and before `end`, on one of the days. A span over midnight belongs to the day on
    which it starts.

    Raises
    ------
    ValidationError
        For a zone, time or day that does not exist.

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> from infrastructure_sdk.policy import is_between
    >>> class Request: now = datetime(2026, 3, 2, 7, 30, tzinfo=timezone.utc)   # a Monday
    >>> is_between(Request, "08:00", "18:00", zone="Europe/Berlin", days="mon-fri")
    True
    """
    now = local_time(request, zone)
    first, last, chosen = _clock(start), _clock(end), _days(days)
    at = now.time()
    if first < last:
        return first <= at < last and now.weekday() in chosen
    if at >= first:
        return now.weekday() in chosen
    return at < last and (now.weekday() - 1) % 7 in chosen


def is_weekend(request: Any, zone: str | tzinfo) -> bool:
    """Saturday or Sunday there."""
    return local_time(request, zone).weekday() >= 5


def seconds_until(request: Any, at: str | time, *, zone: str | tzinfo, days: str = "mon-sun") -> float:
    """Until a clock there shows that time the next time on one of the days; above 0, a week at most. Also right when
    the clocks change between.

    Raises
    ------
    ValidationError
        For a zone, time or day that does not exist.
    """
    now, wanted, chosen = local_time(request, zone), _clock(at), _days(days)
    for ahead in range(9):
        day = (now + timedelta(days=ahead)).date()
        # Seconds are counted in UTC: two times of one zone would be subtracted as clocks on the wall.
        when = datetime.combine(day, wanted, now.tzinfo)
        left = when.timestamp() - now.timestamp()
        if left > 0 and day.weekday() in chosen:
            return left
    raise AssertionError("a week has every day")
