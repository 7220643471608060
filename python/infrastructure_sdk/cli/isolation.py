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
