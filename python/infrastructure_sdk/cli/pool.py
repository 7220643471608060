"""`infra-sdk pool ...`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, show, show_one

app = typer.Typer(
    help="Warm pools: booted, paused VMs that are kept ready (session.pools_file).",
    no_args_is_help=True,
    epilog="Example:  infra-sdk pool show desks",
)

Name = Annotated[str, typer.Argument(help="The pool's name.", metavar="POOL")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Until the pool is settled.")]

COLUMNS = {
    "pool": "name",
    "template": "template",
    "wanted": "wanted",
    "ready": "ready",
    "booting": "booting",
    "claimed": "claimed",
    "warm": "warm_starts",
    "cold": "cold_starts",
    "problem": "problem",
}
UNIT_COLUMNS = {"unit": "id", "state": "state", "vm": "vm_id", "ready since": "ready_at", "reason": "reason"}


@app.command("list", epilog="Example:  infra-sdk pool list -o json")
def list_pools(output: Output = Format.table) -> None:
    """Every pool: how many units it wants, has ready, boots, and how many are sessions now."""

    async def action(sdk: Any) -> list[dict[str, Any]]:
        return [pool.to_dict() for pool in await sdk.pools.list()]

    show(context.run(action), COLUMNS, output, key="name")


@app.command("show", epilog="Example:  infra-sdk pool show desks -o yaml")
def show_pool(name: Name, output: Output = Format.table) -> None:
    """Everything about one pool, and its units."""

    async def action(sdk: Any) -> dict[str, Any]:
        document: dict[str, Any] = (await sdk.pools.get(name)).to_dict()
        return document

    document = context.run(action)
    if output is not Format.table:
        show_one(document, output, key="name")
        return
    units = document.pop("units")
    show_one(document, output)
    if units:
        print()
        show(units, UNIT_COLUMNS, output)


@app.command(epilog="Example:  infra-sdk pool drain desks --no-wait")
def drain(
    name: Name,
    wait: Wait = True,
    timeout: context.Timeout = "2m",
    dry_run: context.DryRun = False,
    output: Output = Format.table,
) -> None:
    """Keep nothing ready any more, until `pool refill`. Sessions that have a unit keep it."""

    async def action(sdk: Any) -> Any:
        if dry_run:
            return await sdk.pools.get(name)
        return await sdk.pools.drain(name, wait=wait, timeout=timeout)

    with context.status(f"draining {name}"):
        pool = context.run(action)
    if dry_run:
        context.dry_run(f"{pool.ready + pool.booting} units of pool {name} would be removed")
    else:
        show([pool.to_dict()], COLUMNS, output, key="name")


@app.command(epilog="Example:  infra-sdk pool refill desks --units 8 --wait")
def refill(
    name: Name,
    units: Annotated[
        int | None, typer.Option(help="At least so many; what the schedule says if absent.", min=0, metavar="N")
    ] = None,
    wait: Wait = True,
    timeout: context.Timeout = "10m",
    dry_run: context.DryRun = False,
    output: Output = Format.table,
) -> None:
    """End a drain and boot what is missing. Without --wait units boot while somebody has the installation open."""

    async def action(sdk: Any) -> Any:
        if dry_run:
            return await sdk.pools.get(name)
        return await sdk.pools.refill(name, units, wait=wait, timeout=timeout)

    with context.status(f"filling {name}"):
        pool = context.run(action)
    if dry_run:
        goal = "what its schedule says" if units is None else f"at least {units} units"
        context.dry_run(f"pool {name}, with {pool.ready} units ready, would keep {goal}")
    else:
        show([pool.to_dict()], COLUMNS, output, key="name")
