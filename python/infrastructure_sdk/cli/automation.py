"""`infra-sdk automation` and `infra-sdk runbook`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, harmless, show, show_one

app = typer.Typer(
    help="Automation: functions that are called on events and at times.",
    no_args_is_help=True,
    epilog="Example:  infra-sdk automation run ops.py",
)
runbook_app = typer.Typer(
    help="Runbooks: functions that people call, with a dry run.",
    no_args_is_help=True,
    epilog="Example:  infra-sdk runbook run ops.py clear_user -p user_id=alice --dry-run",
)

File = Annotated[Path, typer.Argument(help="A Python file with runbooks. It is run.", metavar="FILE")]
Files = Annotated[list[Path], typer.Argument(help="Python files. They are run.", metavar="FILE")]
Actor = Annotated[
    str | None, typer.Option(help="Who it is for, in the audit trail; this process's user if absent.", metavar="NAME")
]


@app.command(epilog="Example:  infra-sdk automation run ops.py")
def run(
    files: Files,
    once: Annotated[bool, typer.Option("--once", help="Handle what is there and due now, then end.")] = False,
    concurrency: Annotated[
        int, typer.Option(help="How many functions may run at a time.", metavar="N", min=1, max=1000)
    ] = 8,
    actor: Actor = None,
) -> None:
    """Run the handlers and schedules of files until Ctrl-C or SIGTERM. This process owns the installation meanwhile."""

    async def action(sdk: Any) -> None:
        work = asyncio.ensure_future(sdk.automation.run(*files, once=once, concurrency=concurrency, actor=actor))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work

    context.run(action)


@app.command("list", epilog="Example:  infra-sdk automation list ops.py")
def list_(files: Files, output: Output = Format.table) -> None:
    """The handlers and schedules of files: on what they are called, and when next."""
    declared = _loaded(*files)
    now = datetime.now(timezone.utc)
    rows = [
        {"name": each.name, "kind": each.kind, "on": ", ".join(each.patterns), "next": None}
        for each in declared.handlers
    ]
    for schedule in declared.schedules:
        due = schedule.cron.next_after(now)
        when = f"{schedule.cron.expression} {schedule.cron.timezone}"
        rows.append(
            {
                "name": schedule.name,
                "kind": schedule.kind,
                "on": when,
                "next": None if due is None else due.isoformat(),
            }
        )
    show(rows, {"name": "name", "kind": "kind", "on": "on", "next": "next"}, output, key="name")


@app.command(epilog="Example:  infra-sdk automation parked -o json")
def parked(output: Output = Format.table) -> None:
    """What was given up after its last try."""

    async def action(sdk: Any) -> list[dict[str, Any]]:
        return [item.to_dict() for item in await sdk.automation.parked()]

    columns = {"name": "name", "key": "key", "tries": "attempts", "since": "parked_at", "error": "error"}
    show(context.run(action), columns, output, key="name")


@app.command(epilog="Example:  infra-sdk automation retry bring_back 1024")
def retry(
    name: Annotated[str, typer.Argument(help="The handler or schedule.", metavar="NAME")],
    key: Annotated[str, typer.Argument(help="Of what is parked, as `automation parked` says it.", metavar="KEY")],
) -> None:
    """Have what is parked tried anew at the next `automation run`."""

    async def action(sdk: Any) -> None:
        await sdk.automation.retry(name, key)

    context.run(action)


@app.command(epilog="Example:  infra-sdk automation history --name clear_user -o json")
def history(
    name: Annotated[str | None, typer.Option(help="Only of this handler, schedule or runbook.", metavar="NAME")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.", metavar="N")] = 100,
    verify: Annotated[bool, typer.Option("--verify", help="Check the chain of all records instead.")] = False,
    output: Output = Format.table,
) -> None:
    """The audit trail: who ran what, when, with what. With --verify exit code 1 when a record was tampered with."""

    async def action(sdk: Any) -> Any:
        if verify:
            return await sdk.automation.verify_history()
        return await sdk.automation.history(name=name, limit=limit)

    found = context.run(action)
    if verify:
        for problem in found:
            print(problem, file=sys.stderr)
        if found:
            raise typer.Exit(1)
        print("verified")
        return
    columns = {
        "time": "time",
        "kind": "kind",
        "name": "name",
        "by": "actor",
        "stage": "stage",
        "outcome": "outcome",
        "dry run": "dry_run",
        "error": "error",
    }
    show(found, columns, output)


@runbook_app.command("list", epilog="Example:  infra-sdk runbook list ops.py")
def list_runbooks(file: File, output: Output = Format.table) -> None:
    """The runbooks of a file and their parameters."""
    rows = [
        {
            "name": runbook.name,
            "description": runbook.description,
            "parameters": [parameter.to_dict() for parameter in runbook.parameters],
            "usage": " ".join(_usage(parameter) for parameter in runbook.parameters),
        }
        for runbook in _loaded(file).runbooks
    ]
    columns = {"name": "name", "parameters": "usage", "about": "description"}
    show(rows, columns, output, key="name")


@runbook_app.command("run", epilog="Example:  infra-sdk runbook run ops.py clear_user -p user_id=alice --dry-run")
def run_runbook(
    file: File,
    name: Annotated[str, typer.Argument(help="The runbook.", metavar="NAME")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="A parameter; lists with commas.", metavar="NAME=VALUE"),
    ] = None,
    dry_run: context.DryRun = False,
    actor: Actor = None,
    output: Output = Format.table,
) -> None:
    """Run a runbook, or say what it would do. Exit code 1 when it failed or the dry run could not go on."""
    values: dict[str, str] = {}
    for item in parameter or []:
        key, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"{item!r} is not NAME=VALUE", param_hint="--parameter")
        values[key] = value

    async def action(sdk: Any) -> Any:
        return await sdk.automation.run_runbook(file, values, name=name, dry_run=dry_run, actor=actor)

    report = context.run(action)
    if output is Format.table:
        print(harmless(str(report)))
        if report.result is not None:
            print(harmless(f"result: {report.result}"))
    else:
        show_one(report.to_dict(), output)
    if report.outcome != "succeeded":
        raise typer.Exit(1)


def _usage(parameter: Any) -> str:
    text = f"{parameter.name}={parameter.type_name}"
    return text if parameter.required else f"[{text}]"


def _loaded(*files: Path) -> Any:
    from infrastructure_sdk import exceptions
    from infrastructure_sdk.automation import load

    try:
        return load(*files)
    except exceptions.InfrastructureSDKError as error:
        context.fail(error)
