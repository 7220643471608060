"""`infra-sdk snapshot ...`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, show, show_one

app = typer.Typer(
    help="Snapshots: copies of sessions' disks and memory that outlive them.",
    no_args_is_help=True,
    epilog="Example:  infra-sdk snapshot list --user alice",
)

SnapshotId = Annotated[str, typer.Argument(help="The snapshot's id.", metavar="SNAPSHOT")]

COLUMNS = {
    "id": "id",
    "name": "name",
    "session": "session_id",
    "user": "user_id",
    "state": "state",
    "mode": "mode",
    "consistent": "consistent",
    "bytes": "size_bytes",
    "created": "created_at",
}


def show_snapshot_row(document: dict[str, Any], output: Format) -> None:
    """A snapshot as a one-row table, or the whole document for programs."""
    if output is Format.table:
        show([document], COLUMNS, output)
    else:
        show_one(document, output)


def take_snapshot(session: str, name: str, memory: bool, timeout: str, output: Output) -> None:
    """Take one and show it."""

    async def action(sdk: Any) -> dict[str, Any]:
        with context.status(f"snapshot of {session}"):
            return dict((await sdk.sessions.snapshot(session, name, memory=memory, timeout=timeout)).to_dict())

    show_snapshot_row(context.run(action), output)


@app.command("create", epilog="Example:  infra-sdk snapshot create s-0123456789abcdef 'before the update' --memory")
def create_snapshot(
    session: Annotated[str, typer.Argument(help="The session's id.", metavar="SESSION")],
    name: Annotated[str, typer.Argument(help="A name for people.", metavar="NAME")],
    memory: Annotated[
        bool, typer.Option("--memory", help="With the memory: what begins from it goes on from there.")
    ] = False,
    timeout: context.Timeout = "10m",
    output: Output = Format.table,
) -> None:
    """Copy the disk of an active, suspended or failed session, or disk and memory of an active one."""
    take_snapshot(session, name, memory, timeout, output)


@app.command("list", epilog="Example:  infra-sdk snapshot list --user alice -o json")
def list_snapshots(
    session: Annotated[
        str | None, typer.Option("--session", "-s", help="Only of this session.", metavar="SESSION")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's.", metavar="NAME")] = None,
    output: Output = Format.table,
) -> None:
    """The snapshots that there are, by id."""

    async def action(sdk: Any) -> list[dict[str, Any]]:
        return [s.to_dict() for s in await sdk.snapshots.list(session_id=session, user_id=user)]

    show(context.run(action), COLUMNS, output)


@app.command("show", epilog="Example:  infra-sdk snapshot show snap-0123456789abcdef -o yaml")
def show_snapshot(snapshot: SnapshotId, output: Output = Format.table) -> None:
    """Everything about one snapshot."""

    async def action(sdk: Any) -> dict[str, Any]:
        return dict((await sdk.snapshots.get(snapshot)).to_dict())

    show_one(context.run(action), output)


@app.command("delete", epilog="Example:  infra-sdk snapshot delete snap-0123456789abcdef --dry-run")
def delete_snapshot(snapshot: SnapshotId, dry_run: context.DryRun = False, output: Output = Format.table) -> None:
    """Remove a snapshot. Sessions that began from it keep their disks."""

    async def action(sdk: Any) -> dict[str, Any]:
        found = await sdk.snapshots.get(snapshot)
        if not dry_run:
            await found.delete()
        return dict(found.to_dict())

    document = context.run(action)
    if dry_run:
        context.dry_run(f"snapshot {snapshot} of {document['session_id']} would be removed")
    show_snapshot_row(document, output)
