"""`infra-sdk isolation ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from infrastructure_sdk import exceptions
from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, console, harmless, show, show_one
from infrastructure_sdk.isolation import check_catalogue, score_text
from infrastructure_sdk.reports import FORMATS
from infrastructure_sdk.reports import signed as signed_reports
from infrastructure_sdk.reports.controls import FRAMEWORKS

app = typer.Typer(
    help="Isolation: evidence, not claims.",
    no_args_is_help=True,
    epilog="Example:  infra-sdk isolation check s-0123456789abcdef --probes",
)


@app.command(epilog="Example:  infra-sdk isolation check s-0123456789abcdef --probes --require-isolated")
def check(
    session: Annotated[str, typer.Argument(help="The session's id.", metavar="SESSION")],
    probes: Annotated[
        bool, typer.Option("--probes", help="Also try what a look cannot show: takes a second or two.")
    ] = False,
    require: Annotated[
        bool, typer.Option("--require-isolated", help="Exit code 6 unless the verdict is isolated.")
    ] = False,
    output: Output = Format.table,
) -> None:
    """Look at a running session and judge what is proven."""

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.validate(await sdk.sessions.get(session), probes=probes)

    report = context.run(action)
    document = report.to_dict()
    if output is not Format.table:
        show_one(document, output)
    else:
        screen = console()
        screen.print(f"{report.verdict}   {score_text(report.lower, report.upper)} of 100", style="bold")
        columns = {"check": "check_id", "status": "status", "severity": "severity", "what was seen": "reason"}
        show(document["findings"], columns, output, key="check_id")
        for line in document["recommendations"]:
            screen.print(f"- {harmless(line)}")
    if require and report.verdict != "isolated":
        raise typer.Exit(6)


@app.command(epilog="Example:  infra-sdk isolation audit --pid 4711 --pid 4712 --qmp 4711=/run/vm/qmp.sock -o json")
def audit(
    pid: Annotated[
        list[int] | None, typer.Option("--pid", help="A QEMU process; may be repeated.", min=1, metavar="PID")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every QEMU process of this host.")] = False,
    qmp: Annotated[
        list[str] | None,
        typer.Option("--qmp", metavar="PID=PATH", help="A process's free QMP socket; may be repeated."),
    ] = None,
    output: Output = Format.table,
) -> None:
    """Judge QEMU processes of this host, whoever started them, each against the others. Changes nothing."""
    if bool(pid) == every:
        raise typer.BadParameter("either --pid or --all is needed", param_hint="--pid")
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
            f"{report.session_id}   {report.verdict}   {score_text(report.lower, report.upper)} of 100", style="bold"
        )
        show(report.to_dict()["findings"], columns, output, key="check_id")


File = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it. Default: standard output.")
]
Session = Annotated[str, typer.Argument(help="The session's id.", metavar="SESSION")]


def _write(text: str, place: Path | None) -> None:
    if place is None:
        sys.stdout.write(text)
        return
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"'{place}' cannot be written: {error.strerror}", param_hint="--output") from error


@app.command(epilog="Example:  infra-sdk isolation report 3f6c1f0e-... --format html -o report.html")
def report(
    report_id: Annotated[str, typer.Argument(help="The report's id, see `isolation history`.", metavar="REPORT")],
    format: Annotated[
        str, typer.Option("--format", "-f", help=f"One of {', '.join(FORMATS)}.", metavar="NAME")
    ] = "json",
    place: File = None,
) -> None:
    """Write a kept report in a format for people or for another tool."""
    if format not in FORMATS:
        raise typer.BadParameter(f"'{format}' is not one of {', '.join(FORMATS)}", param_hint="--format")

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.report(report_id)

    _write(context.run(action).export(format), place)


@app.command(epilog="Example:  infra-sdk isolation history s-0123456789abcdef -o json")
def history(session: Session, output: Output = Format.table) -> None:
    """List the kept reports of a session, oldest first."""

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.history(session)

    columns = {
        "report": "report_id",
        "number": "sequence",
        "created": "created_at",
        "verdict": "verdict",
        "from": "lower",
        "to": "upper",
    }
    show([kept.to_dict() for kept in context.run(action)], columns, output, key="report_id")


@app.command(epilog="Example:  infra-sdk isolation chain s-0123456789abcdef -o reports.dsse")
def chain(session: Session, place: File = None) -> None:
    """Write the kept reports of a session as they were signed, for `verify`."""

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.chain(session)

    _write(context.run(action), place)


@app.command(epilog="Example:  infra-sdk isolation explain s-0123456789abcdef/CMP-01")
def explain(
    finding: Annotated[
        str, typer.Argument(help="REPORT/CHECK, SESSION/CHECK for its last report, or a CHECK.", metavar="FINDING")
    ],
    output: Output = Format.table,
) -> None:
    """Tell what a finding means, what it rests on and what would change it."""

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.explain(finding)

    found = context.run(action)
    if output is Format.table:
        print(harmless(str(found)))
    else:
        show_one(found.to_dict(), output, key="check_id")


@app.command(epilog="Example:  infra-sdk isolation checks -o json")
def checks(output: Output = Format.table) -> None:
    """List the catalogue of checks, with what each looks at of a local VM and of a cluster's."""
    rows = check_catalogue()
    if output is Format.table:
        rows = [
            {**row, "facts": ", ".join(row["facts"]), "kubernetes_facts": ", ".join(row["kubernetes_facts"])}
            for row in rows
        ]
    columns = {
        "check": "id",
        "severity": "severity",
        "floor": "floor",
        "title": "title",
        "local evidence": "facts",
        "cluster evidence": "kubernetes_facts",
    }
    show(rows, columns, output, key="id")


@app.command(epilog="Example:  infra-sdk isolation compliance s-0123456789abcdef --framework soc2")
def compliance(
    session: Session,
    framework: Annotated[
        str, typer.Option("--framework", help=f"One of {', '.join(FRAMEWORKS)}.", metavar="NAME")
    ] = "nist-800-53",
    output: Output = Format.table,
) -> None:
    """Show the last report of a session by the controls of a framework. A pass is evidence, not fulfilment."""

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.compliance(session, framework)

    view = context.run(action).to_dict()
    if output is not Format.table:
        show_one(view, output, key="report_id")
        return
    rows = [
        {**state, "checks": " ".join(f"{check['check_id']}={check['status']}" for check in state["checks"])}
        for state in view["controls"]
    ]
    show(rows, {"control": "id", "status": "status", "title": "title", "checks": "checks"}, output)
    counts = ", ".join(f"{count} {status}" for status, count in view["counts"].items() if count)
    console().print(f"{view['title']}: {counts}", style="bold")


@app.command(epilog="Example:  infra-sdk isolation verify reports.dsse --key keys.pem --anchor anchor.dsse")
def verify(
    files: Annotated[list[Path], typer.Argument(help="Files of signed reports, one session each.", metavar="FILE")],
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key", "--trust", help="Public keys (PEM) that are trusted. Default: this installation's.", metavar="FILE"
        ),
    ] = None,
    anchor: Annotated[
        Path | None, typer.Option("--anchor", help="A head record that was kept elsewhere.", metavar="FILE")
    ] = None,
    session: Annotated[
        str, typer.Option("--session", help="Every report must be of this session.", metavar="SESSION")
    ] = "",
    complete: Annotated[
        bool, typer.Option("--complete", help="Refuse chains without their beginning and sessions without reports.")
    ] = False,
    max_age: Annotated[
        str | None, typer.Option("--max-age", help="How old the last report may be, e.g. 15m.", metavar="DURATION")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Check signed reports. With --key it works offline, anywhere. Exit code 6 when something is wrong."""
    options = {"anchor": anchor, "session": session, "complete": complete, "max_age": max_age}
    if key:
        try:
            found = signed_reports.verify(files, key, **options)  # type: ignore[arg-type]
        except exceptions.InfrastructureSDKError as error:
            context.fail(error)
    else:

        async def action(sdk: Any) -> Any:
            return await sdk.isolation.verify(files, **options)

        found = context.run(action)
    if output is not Format.table:
        show_one(found.to_dict(), output, key="ok")
    else:
        columns = {
            "where": "where",
            "session": "session_id",
            "number": "sequence",
            "created": "created_at",
            "verdict": "verdict",
        }
        show(found.reports, columns, output, key="report_id")
        for problem in found.problems:
            print(harmless(f"{problem['kind']}: {problem['where']}: {problem['message']}"))
        for note in found.notes:
            print(harmless(f"note: {note}"))
        console().print("verified" if found.ok else "NOT verified", style="bold")
    if not found.ok:
        raise typer.Exit(6)


@app.command(epilog="Example:  infra-sdk isolation anchor -o anchor.dsse")
def anchor(
    sessions: Annotated[list[str] | None, typer.Argument(help="Default: all.", metavar="SESSION")] = None,
    place: File = None,
) -> None:
    """Write a signed record of where the chains of reports end. Keep it on another machine, for `verify --anchor`."""

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.anchor(sessions or ())

    _write(context.run(action), place)


@app.command(epilog="Example:  infra-sdk isolation keys -o keys.pem")
def keys(place: File = None) -> None:
    """Write the public keys that reports are signed with, oldest first, for `verify --key` elsewhere."""

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.public_keys()

    _write(context.run(action), place)


@app.command(epilog="Example:  infra-sdk isolation rotate-key")
def rotate_key() -> None:
    """Sign with a new key from now on. The old key signs the change and is removed."""

    async def action(sdk: Any) -> Any:
        return await sdk.isolation.rotate_key()

    print(context.run(action))


@app.command(
    epilog="Example:  infra-sdk isolation waive CMP-01 --reason 'no KVM in the lab' --approved-by alice "
    "--expires 2027-01-31T00:00:00Z --key alice.pem >> waivers.dsse"
)
def waive(
    check_id: Annotated[str, typer.Argument(help="The check whose failure is accepted.", metavar="CHECK")],
    reason: Annotated[str, typer.Option("--reason", help="Why.", metavar="TEXT")],
    approved_by: Annotated[str, typer.Option("--approved-by", help="By whom.", metavar="NAME")],
    expires: Annotated[str, typer.Option("--expires", help="Until when, RFC 3339 in UTC.", metavar="TIME")],
    key: Annotated[Path, typer.Option("--key", help="An Ed25519 private key (PEM).", metavar="FILE")],
    session: Annotated[str, typer.Option("--session", help="Only for this session.", metavar="SESSION")] = "",
    name: Annotated[
        str, typer.Option("--name", help="The waiver's name. Default: made of check and session.", metavar="NAME")
    ] = "",
) -> None:
    """Write a signed waiver, a line of the file that isolation.waivers_file names.

    A waived failure is shown as waived; scores and verdicts count it as before.
    """
    try:
        line = signed_reports.sign_waiver(
            check_id,
            reason=reason,
            approved_by=approved_by,
            expires_at=expires,
            private_key=key,
            session=session,
            id=name,
        )
    except exceptions.InfrastructureSDKError as error:
        context.fail(error)
    sys.stdout.write(line)


@app.command(epilog="Example:  infra-sdk isolation watch s-0123456789abcdef")
def watch(
    session: Annotated[str | None, typer.Argument(help="A session's id; all if left out.", metavar="SESSION")] = None,
    after: Annotated[
        int, typer.Option("--after", help="The last sequence number that was seen.", min=0, metavar="N")
    ] = 0,
) -> None:
    """Look again at running sessions and tell what changes, one JSON object a line, until stopped."""

    async def follow(sdk: Any) -> None:
        if session is not None:
            await sdk.sessions.get(session)
        async for event in sdk.isolation.watch(session, after=after):
            print(json.dumps(dict(event)), flush=True)

    context.run(follow)
