"""Business hours: generous while people work, thrifty at night and on weekends.

In the hours below an idle session may stay for two hours; outside of them whatever was quiet for a quarter of an hour
is suspended. The tag ``hours=always`` exempts.
"""

from __future__ import annotations

from infrastructure_sdk.policy import (
    IdleRequest,
    ScheduleRequest,
    SessionDecision,
    is_between,
    keep,
    policy,
    seconds_until,
    standard,
    suspend,
)

ZONE = "Europe/Berlin"
OPENS, CLOSES, DAYS = "07:00", "19:00", "mon-fri"
PATIENCE_AT_WORK = 2 * 3600  # seconds of quiet
PATIENCE_AT_NIGHT = 15 * 60


def is_open(request: IdleRequest | ScheduleRequest) -> bool:
    return is_between(request, OPENS, CLOSES, zone=ZONE, days=DAYS)


@policy("idle", name="business-hours", version="1", author="examples")
def at_idle(request: IdleRequest) -> SessionDecision:
    if request.session.tags.get("hours") == "always":
        return keep("tagged hours=always", ask_again_after=3600)
    left = PATIENCE_AT_WORK - request.quiet_for
    if is_open(request) and left > 0:
        return keep(f"office hours: quiet for {request.quiet_for / 60:.0f} min of 120", ask_again_after=min(left, 900))
    return suspend("idle")


@policy("schedule")
def at_night(request: ScheduleRequest) -> SessionDecision:
    if request.session.tags.get("hours") == "always":
        return standard(request, ask_again_after=24 * 3600)
    if is_open(request):
        return standard(request, ask_again_after=seconds_until(request, CLOSES, zone=ZONE))
    if request.quiet_for is None:
        return standard(request)
    if request.quiet_for < PATIENCE_AT_NIGHT:
        return standard(request, ask_again_after=PATIENCE_AT_NIGHT - request.quiet_for)
    return suspend("outside of office hours and not in use")
