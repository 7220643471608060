"""Automation: functions that are called on events, at times, or by people.

Examples
--------
::

    from infrastructure_sdk.automation import on, runbook, schedule

    @on("session.lifecycle.failed", where={"data.reason": "GuestPanicked"})
    async def bring_back(sdk, event):
        await sdk.sessions.recover(event["subject"])

    @schedule("0 20 * * mon-fri", timezone="Europe/Berlin")
    async def good_night(sdk, due):
        for session in await sdk.sessions.list(states=["active"]):
            await session.suspend()

    @runbook()
    async def clear_user(sdk, user_id: str):
        '''End all sessions of a user.'''
        for session in await sdk.sessions.list(user_id=user_id):
            await session.terminate()

``await sdk.automation.run("ops.py")`` or ``infra-sdk automation run ops.py`` runs the first two;
``sdk.automation.run_runbook("ops.py", {"user_id": "alice"}, name="clear_user", dry_run=True)`` or
``infra-sdk runbook run ops.py clear_user -p user_id=alice --dry-run`` tells what the third would do.
"""

from infrastructure_sdk.automation.clock import Clock, ManualClock, SystemClock
from infrastructure_sdk.automation.cron import Cron
from infrastructure_sdk.automation.declare import Handler, Runbook, Schedule, on, runbook, schedule
from infrastructure_sdk.automation.loading import Declarations, load
from infrastructure_sdk.automation.manager import Automation, RunbookReport
from infrastructure_sdk.automation.recorder import NotForetoldError, Step
from infrastructure_sdk.automation.store import Parked

__all__ = [
    "Automation",
    "Clock",
    "Cron",
    "Declarations",
    "Handler",
    "ManualClock",
    "NotForetoldError",
    "Parked",
    "Runbook",
    "RunbookReport",
    "Schedule",
    "Step",
    "SystemClock",
    "load",
    "on",
    "runbook",
    "schedule",
]
