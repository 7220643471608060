"""Cron expressions in a time zone.

They are read by the package ``cronsim`` (extra ``automation``), which follows Debian's cron. Where clocks go forward, a
job at a fixed time that does not exist runs once, right after the gap; where they go back, a job at a time that comes
twice runs once, the first time. Jobs with ``*`` in the minute or hour run by real time, in both hours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from infrastructure_sdk.automation.refusal import refused
from infrastructure_sdk.exceptions import UnsupportedError

__all__ = ["MISSED", "Cron", "due_runs"]

MISSED = ("once", "skip", "all")
"""What may become of runs that were missed: the last of them, none, all of them."""


def _cronsim() -> Any:
    try:
        import cronsim
    except ImportError:
        raise UnsupportedError(
            "schedules need the package cronsim: pip install 'infrastructure-sdk[automation]'",
            context={"capability": "schedules"},
        ) from None
    return cronsim


class Cron:
    """A cron expression of five fields (minute, hour, day of month, month, day of week) in a time zone.

    Parameters
    ----------
    expression
        E.g. ``"0 8 * * mon-fri"``.
    timezone
        A name of the IANA data base.

    Raises
    ------
    ValidationError
        If one of them is none, or the expression never comes true.
    UnsupportedError
        Without the package ``cronsim``.
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self.expression = expression
        self.timezone = timezone
        try:
            self._zone = ZoneInfo(timezone)
        except (ValueError, OSError, LookupError):
            raise refused("timezone", timezone, "a name such as Europe/Berlin") from None
        if len(expression.split()) != 5:
            raise refused("expression", expression, "five fields: minute hour day-of-month month day-of-week")
        cronsim = _cronsim()
        try:
            next(cronsim.CronSim(expression, datetime(2000, 1, 1)))
        except (cronsim.CronSimError, StopIteration) as error:
            why = str(error) or "it never comes"
            raise refused("expression", expression, f"five fields of cron ({why})") from None

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times after `moment`, in UTC, ascending; ends when there is none within 50 years."""
        last = moment.astimezone(timezone.utc)
        for local in _cronsim().CronSim(self.expression, last.astimezone(self._zone)):
            due: datetime = local.astimezone(timezone.utc)
            # In the second of two equal hours the library begins with the first one: that is over.
            if due > last:
                yield due
                last = due

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time after `moment`, in UTC; None if there is none within 50 years."""
        return next(self.after(moment), None)

    def __repr__(self) -> str:
        return f"Cron({self.expression!r}, {self.timezone!r})"


def due_runs(
    cron: Cron, last: datetime, now: datetime, *, missed: str, grace: timedelta, most: int = 100
) -> list[datetime]:
    """Which runs are due at `now` when the last one settled was that of `last`, ascending, in UTC.

    A run is missed when it is more than `grace` late. ``"once"`` makes up for the last of those that were missed,
    ``"skip"`` for none, ``"all"`` for the last `most` of them. Runs in time are always due.
    """
    found: deque[datetime] = deque(maxlen=most)
    for due in cron.after(last):
        if due > now:
            break
        found.append(due)
    late = [due for due in found if now - due > grace]
    in_time = list(found)[len(late) :]
    if missed == "skip" or (missed == "once" and in_time):
        late = []
    elif missed == "once":
        late = late[-1:]
    return late + in_time
