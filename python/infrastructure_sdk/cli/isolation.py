"""`infra-sdk isolation ...`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, console, harmless, show, show_one

app = typer.Typer(help="Isolation: evidence, not claims.", no_args_is_help=True)

Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]


@app.command(epilog="Example:  infra-sdk isolation check s-0123456789abcdef --require-isolated")
def check(
    session: Annotated[str, typer.Argument(help="The session's id.", metavar="SESSION")],
    require: Annotated[
        bool, typer.Option("--require-isolated", help="Exit code 6 unless the verdict is isolated.")
    ] = False,
    output: Output = Format.table,
) -> None:
    """Look at a running session and judge what is proven."""

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.validate(await sdk.sessions.get(session))

    report = context.run(action)
    document = report.to_dict()
    if output is not Format.table:
        show_one(document, output)
    else:
        screen = console()
        screen.print(f"{report.verdict}   {report.lower:.0f} to {report.upper:.0f} of 100", style="bold")
        columns = {"check": "check_id", "status": "status", "severity": "severity", "what was seen": "reason"}
        show(document["findings"], columns, output, key="check_id")
        for line in document["recommendations"]:
            screen.print(f"- {harmless(line)}")
    if require and report.verdict != "isolated":
        raise typer.Exit(6)


@app.command(epilog="Example:  infra-sdk isolation audit --pid 4711 --pid 4712 --qmp 4711=/run/vm/qmp.sock -o json")
def audit(
    pid: Annotated[list[int] | None, typer.Option("--pid", help="A QEMU process; again for more.", min=1)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every QEMU process of this host.")] = False,
    qmp: Annotated[
        list[str] | None, typer.Option("--qmp", metavar="PID=PATH", help="A process's free QMP socket; again for more.")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Judge QEMU processes of this host, whoever started them, each against the others. Changes nothing."""
    sockets = {}
    for text in qmp or []:
        number, separator, path = text.partition("=")
        if not separator or not number.isdecimal() or not path:
            raise typer.BadParameter(f"'{text}' is not PID=PATH", param_hint="--qmp")
        sockets[int(number)] = path

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.audit(pid or (), all=every, qmp=sockets)

    reports = context.run(action)
    if output is not Format.table:
        show([report.to_dict() for report in reports], {"session": "session_id"}, output, key="session_id")
        return
    screen = console()
    columns = {"check": "check_id", "status": "status", "severity": "severity", "what was seen": "reason"}
    for report in reports:
        screen.print(
            f"{report.session_id}   {report.verdict}   {report.lower:.0f} to {report.upper:.0f} of 100", style="bold"
        )
        show(report.to_dict()["findings"], columns, output, key="check_id")
