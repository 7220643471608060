"""`infra-sdk policy`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from infrastructure_sdk import exceptions
from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, show, show_one
from infrastructure_sdk.policies import Policies

app = typer.Typer(
    help="Policies: who decides about sessions besides the limits and the clocks (section policy).",
    no_args_is_help=True,
    epilog="Example:  infra-sdk policy lint patient.py",
)
Name = Annotated[str, typer.Argument(help="The policy's name.", metavar="POLICY")]

COLUMNS = {
    "policy": "name",
    "version": "version",
    "mode": "mode",
    "points": "points",
    "enabled": "enabled",
    "rolled back": "rolled_back",
    "breaker": "breaker",
    "asked": "asked",
    "decided": "decided",
    "failed": "failed",
    "overdue": "overdue",
    "unprotected": "missing_protections",
}

LINT_COLUMNS = {
    "line": "line",
    "rule": "rule",
    "severity": "severity",
    "what": "message",
    "instead": "instead",
}


@app.command("list", epilog="Example:  infra-sdk --config site.yaml policy list")
def list_(
    builtin: Annotated[bool, typer.Option("--builtin", help="The rules that there are without code, instead.")] = False,
    output: Output = Format.table,
) -> None:
    """Every policy that is loaded, in the order in which they are asked."""
    if builtin:
        rules = [dict(rule) for rule in Policies.builtin()]
        show(rules, {"source": "source", "points": "points", "what it does": "description"}, output, key="name")
        return

    async def action(sdk: Any) -> list[dict[str, Any]]:
        return [dict(item) for item in await sdk.policies.list()]

    show(context.run(action), COLUMNS, output, key="name")


@app.command("show", epilog="Example:  infra-sdk policy show business-hours -o yaml")
def show_policy(name: Name, output: Output = Format.table) -> None:
    """Everything about one policy."""

    async def action(sdk: Any) -> dict[str, Any]:
        return dict(await sdk.policies.status(name))

    show_one(context.run(action), output, key="name")


@app.command(epilog="Example:  infra-sdk policy enable business-hours")
def enable(name: Name, output: Output = Format.table) -> None:
    """Ask a policy again. Ends a rollback by its guard."""

    async def action(sdk: Any) -> list[dict[str, Any]]:
        return [dict(await sdk.policies.enable(name))]

    show(context.run(action), COLUMNS, output, key="name")


@app.command(epilog="Example:  infra-sdk policy disable business-hours")
def disable(name: Name, output: Output = Format.table) -> None:
    """Ask a policy no more, until it is enabled."""

    async def action(sdk: Any) -> list[dict[str, Any]]:
        return [dict(await sdk.policies.disable(name))]

    show(context.run(action), COLUMNS, output, key="name")


@app.command(epilog="Example:  infra-sdk policy lint patient.py -o json")
def lint(
    file: Annotated[Path, typer.Argument(help="A policy in Python.", metavar="FILE")],
    output: Output = Format.table,
) -> None:
    """Find what a policy must not do: clocks, chance, I/O, imports, state, threads, eval.

    The file is read and not run. The exit code is 1 when there is an error; such a policy is not loaded.
    """
    from infrastructure_sdk.policy import lint_source
    from infrastructure_sdk.policy.loader import read_policy

    try:
        findings = lint_source(read_policy(file))
    except exceptions.InfrastructureSDKError as error:
        context.fail(error)
    show([asdict(finding) for finding in findings], LINT_COLUMNS, output, key="rule")
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)
