"""`infra-sdk webhook`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

import typer

from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, harmless, show, show_one

app = typer.Typer(
    help="Webhooks: who is told of events over HTTP (session.webhooks_file).",
    no_args_is_help=True,
    epilog="Example:  infra-sdk webhook deliveries --state dead",
)


class State(str, Enum):
    """What a delivery may be."""

    pending = "pending"
    delivered = "delivered"
    dead = "dead"


@app.command("list", epilog="Example:  infra-sdk --config site.yaml webhook list")
def list_(output: Output = Format.table) -> None:
    """Each webhook, what it is told of and how its deliveries do."""

    async def action(sdk: Any) -> list[dict[str, Any]]:
        return [dict(item) for item in await sdk.webhooks.list()]

    columns = {
        "name": "name",
        "state": "state",
        "url": "url",
        "events": "events",
        "pending": "pending",
        "delivered": "delivered",
        "dead": "dead",
        "last error": "last_error",
    }
    show(context.run(action), columns, output, key="name")


@app.command(epilog="Example:  infra-sdk webhook deliveries --webhook ops --state dead -o json")
def deliveries(
    webhook: Annotated[str | None, typer.Option(help="Only of this webhook.", metavar="NAME")] = None,
    state: Annotated[State | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.", metavar="N")] = 100,
    output: Output = Format.table,
) -> None:
    """What was sent and what waits, the newest first."""

    async def action(sdk: Any) -> list[dict[str, Any]]:
        chosen = None if state is None else state.value
        return [dict(item) for item in await sdk.webhooks.deliveries(webhook=webhook, state=chosen, limit=limit)]

    columns = {
        "id": "id",
        "webhook": "webhook",
        "event": "event_type",
        "session": "session_id",
        "state": "state",
        "attempts": "attempts",
        "next": "due_at",
        "last error": "last_error",
    }
    show(context.run(action), columns, output)


@app.command(epilog="Example:  infra-sdk webhook redeliver $(infra-sdk webhook deliveries --state dead -o name)")
def redeliver(
    delivery: Annotated[list[str], typer.Argument(help="Ids of deliveries.", metavar="DELIVERY")],
    output: Output = Format.table,
) -> None:
    """Begin deliveries again, under the same id: the receiver can tell that it had them before."""

    async def action(sdk: Any) -> list[Mapping[str, Any]]:
        return [await sdk.webhooks.redeliver(each) for each in delivery]

    columns = {"id": "id", "webhook": "webhook", "event": "event_type", "state": "state"}
    show(context.run(action), columns, output)


@app.command(epilog="Example:  infra-sdk webhook test ops")
def test(
    name: Annotated[str, typer.Argument(help="The webhook.", metavar="NAME")],
    timeout: context.Timeout = "1m",
    output: Output = Format.table,
) -> None:
    """Send one test event and say how it was answered. Exit code 1 unless with a 2xx status.

    Success enables a webhook that was disabled.
    """

    async def action(sdk: Any) -> dict[str, Any]:
        return dict(await sdk.webhooks.test(name, timeout=timeout))

    outcome = context.run(action)
    if output is Format.table:
        shown = ("id", "webhook", "state", "last_status", "last_error")
        show_one({field: outcome[field] for field in shown}, output)
    else:
        show_one(outcome, output)
    if outcome["state"] != "delivered":
        print(f"not delivered: {harmless(outcome['last_error'])}", file=sys.stderr)
        raise typer.Exit(1)
