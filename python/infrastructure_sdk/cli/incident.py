"""`infra-sdk session replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, harmless, show_one

EPILOG = "Example:  infra-sdk session replay s-0123456789abcdef --pytest test_incident.py"


def replay(
    session: Annotated[str, typer.Argument(help="The session's id.", metavar="SESSION")],
    pytest: Annotated[Path | None, typer.Option(help="Write a test that fails like that.", metavar="FILE.py")] = None,
    events: Annotated[Path | None, typer.Option(help="A recorded log (JSONL) instead of ours.", metavar="FILE")] = None,
    policy: Annotated[Path | None, typer.Option(help="Rules to try instead of those of then.", metavar="FILE")] = None,
    soon: Annotated[
        str,
        typer.Option(
            help="Back within this time = wrongly suspended.", callback=context.checked_duration, metavar="DURATION"
        ),
    ] = "15m",
    output: Output = Format.table,
) -> None:
    """What went wrong with a session: the engine goes through its events again on a virtual clock.

    Finds a suspension after which its user was back soon, or an end by a clock or policy. Exit code 1 when the replay
    does not do the same.
    """
    from infrastructure_sdk import exceptions
    from infrastructure_sdk.notebook import incident, record

    async def recorded(sdk: Any) -> Any:
        return await record(sdk, session_id=session)

    log = events if events is not None else context.run(recorded)
    try:
        found = incident.replay(session, log, policy=policy, soon=soon, pytest=pytest)
    except (exceptions.InfrastructureSDKError, OSError) as error:
        context.fail(error)
    if output is Format.table:
        print(harmless(str(found)))
        if pytest is not None:
            print(f"written: {pytest}", file=sys.stderr)
    else:
        fields = {name: value for name, value in vars(found).items() if name != "source"}
        show_one({**fields, "at": found.at.isoformat(), "policy": found.policy}, output, key="session_id")
    if not found.reproduced:
        raise typer.Exit(1)
