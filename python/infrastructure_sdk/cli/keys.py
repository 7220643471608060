"""`infra-sdk keys ...`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, show, show_one

app = typer.Typer(
    help="Keys of users, which encrypt their suspended memory, disks and snapshots.",
    no_args_is_help=True,
    epilog="Example:  infra-sdk keys list",
)

User = Annotated[str, typer.Option("--user", "-u", help="Whose keys.", metavar="NAME")]

COLUMNS = {"user": "user_id", "key": "key", "created": "created_at", "older keys": "older"}


@app.command("list", epilog="Example:  infra-sdk keys list -o json")
def list_keys(output: Output = Format.table) -> None:
    """Who has keys. No key itself is shown."""

    async def action(sdk: Any) -> list[dict[str, Any]]:
        return list(await sdk.keys.list())

    found = context.run(action)
    if output is not Format.table:
        show(found, {}, output)
        return
    rows = [
        {
            "user_id": user["user_id"] or "(nobody yet)",
            "key": user["keys"][-1]["id"],
            "created_at": user["keys"][-1]["created_at"],
            "older": len(user["keys"]) - 1,
        }
        for user in found
        if user["keys"]
    ]
    show(rows, COLUMNS, output)


@app.command(epilog="Example:  infra-sdk keys rotate --user alice")
def rotate(
    user: User,
    timeout: context.Timeout = "10m",
    dry_run: context.DryRun = False,
    output: Output = Format.table,
) -> None:
    """Give a user a new key, and encrypted disks a new passphrase. Sessions go on meanwhile.

    Cut off, it is finished by asking again.
    """

    async def action(sdk: Any) -> dict[str, Any]:
        if dry_run:
            return next((found for found in await sdk.keys.list() if found["user_id"] == user), {"user_id": user})
        return dict(await sdk.keys.rotate(user, timeout=timeout))

    document = context.run(action)
    if dry_run:
        context.dry_run(f"{len(document.get('keys', []))} key(s) of {user} would be replaced")
    show_one(document, output)


@app.command(epilog="Example:  infra-sdk keys erase --user alice --dry-run")
def erase(user: User, dry_run: context.DryRun = False, output: Output = Format.table) -> None:
    """Forget a user's keys: what they encrypted is lost for good, backups too. Sessions must be terminated before."""

    async def action(sdk: Any) -> dict[str, Any]:
        if not dry_run:
            await sdk.keys.erase(user)
        return {"user_id": user, "erased": not dry_run}

    document = context.run(action)
    if dry_run:
        context.dry_run(f"the keys of {user} would be erased")
    show_one(document, output)
