"""The root of the command line and the commands that stand alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infrastructure_sdk.cli import (
    automation,
    context,
    image,
    incident,
    isolation,
    keys,
    policy,
    pool,
    session,
    simulate,
    snapshot,
    webhook,
)
from infrastructure_sdk.cli.output import Format, Output, show, show_one

app = typer.Typer(
    name="infra-sdk",
    help="Isolated, VM-backed user sessions.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Examples:  infra-sdk image build linux-tiny   |   infra-sdk session create --user alice --wait",
)
session.app.command("replay", epilog=incident.EPILOG)(incident.replay)
app.add_typer(session.app, name="session")
app.add_typer(snapshot.app, name="snapshot")
app.add_typer(keys.app, name="keys")
app.add_typer(image.app, name="image")
app.add_typer(isolation.app, name="isolation")
app.add_typer(pool.app, name="pool")
app.add_typer(policy.app, name="policy")
app.add_typer(webhook.app, name="webhook")
app.command("simulate", epilog=simulate.EPILOG)(simulate.simulate)
app.add_typer(automation.app, name="automation")
app.add_typer(automation.runbook_app, name="runbook")

template_app = typer.Typer(
    help="Templates: what VM a session gets.", no_args_is_help=True, epilog="Example:  infra-sdk template list"
)
config_app = typer.Typer(
    help="The configuration and where it comes from.", no_args_is_help=True, epilog="Example:  infra-sdk config show"
)
app.add_typer(template_app, name="template")
app.add_typer(config_app, name="config")
limits_app = typer.Typer()
app.add_typer(limits_app, name="limits")


@app.callback()
def root(
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Where sessions and VMs are kept (INFRA_SDK_STORE__STATE_DIRECTORY).", metavar="DIR"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A configuration file: YAML, TOML or JSON.", metavar="FILE")
    ] = None,
) -> None:
    """Isolated, VM-backed user sessions."""
    context.options.state_dir = state_dir
    context.options.config = config


@app.command(epilog="Example:  infra-sdk version -o json")
def version(output: Output = Format.table) -> None:
    """Print the version."""
    import infrastructure_sdk as isdk

    if output is Format.table:
        print(isdk.__version__)
    else:
        show_one({"name": "infra-sdk", "version": isdk.__version__}, output, key="version")


@app.command(epilog="Example:  infra-sdk doctor")
def doctor(output: Output = Format.table) -> None:
    """Look at this host: what works, what it means, what to do. Exit code 1 when something is broken."""
    from infrastructure_sdk import exceptions
    from infrastructure_sdk.vm import doctor as look

    try:
        lines = look(context.make_config())
    except exceptions.InfrastructureSDKError as error:
        context.fail(error)
    columns = {"check": "name", "status": "status", "found": "detail", "means": "meaning", "do": "advice"}
    show(lines, columns, output, key="name")
    if any(line["status"] == "error" for line in lines):
        raise typer.Exit(1)


@template_app.command("list", epilog="Example:  infra-sdk template list -o yaml")
def template_list(output: Output = Format.table) -> None:
    """The templates that sessions may be made of."""
    rows = context.run(_templates)
    show(
        rows, {"name": "name", "os": "os", "cpu": "cpu", "memory": "memory", "about": "description"}, output, key="name"
    )


async def _templates(sdk: object) -> list[dict[str, object]]:
    return [dict(item) for item in sdk.templates.list()]  # type: ignore[attr-defined]


@limits_app.callback(invoke_without_command=True, epilog="Example:  infra-sdk limits -o json")
def limits(command: typer.Context, output: Output = Format.table) -> None:
    """Limits: what users, tenants, templates and the host may hold, how much of it is in use and how much is free.

    Of what is in use, `warm` is held by unclaimed units of pools, and `spent` was spent this month by sessions that
    have ended. Money is in the configured currency; a month's is what has accrued and what is reserved until the ttl.
    """
    if command.invoked_subcommand is None:
        show_limits(output)


@limits_app.command("list", epilog="Example:  infra-sdk limits list -o json")
def limits_list(output: Output = Format.table) -> None:
    """The same as `infra-sdk limits`."""
    show_limits(output)


def show_limits(output: Format) -> None:
    """One row for each limit and each subject that it counts."""

    async def action(sdk: Any) -> list[dict[str, Any]]:
        return [dict(line) for line in await sdk.limits.usage()]

    columns = {
        "scope": "limit.scope",
        "subject": "subject",
        "resource": "limit.resource",
        "limit": "limit.value",
        "in use": "in_use",
        "free": "free",
        "holders": "holder_count",
        "warm": "warm",
        "spent": "spent",
        "currency": "currency",
    }
    show(context.run(action), columns, output, key="subject")


@config_app.command("show", epilog="Example:  infra-sdk --config site.yaml config show -o json")
def config_show(output: Output = Format.yaml) -> None:
    """The configuration in force; secrets are not shown. `-o name` lists the options that are set."""
    from infrastructure_sdk import exceptions

    try:
        config = context.make_config()
    except exceptions.InfrastructureSDKError as error:
        context.fail(error)
    document = config.to_dict()
    if output is Format.name:
        paths = (f"{section}.{option}" for section, options in document.items() for option in options)
        show([{"path": path} for path in paths if config.origin(path) != "default"], {}, output, key="path")
    else:
        show_one(document, output)


@config_app.command("schema", epilog="Example:  infra-sdk config schema > infra-sdk.schema.json")
def config_schema() -> None:
    """The JSON Schema of configuration files."""
    from infrastructure_sdk.config import InfraSDKConfig

    show_one(InfraSDKConfig.schema(), Format.json)


@config_app.command("reference", epilog="Example:  infra-sdk config reference > configuration.md")
def config_reference() -> None:
    """Every option with its default, unit and environment variable, as Markdown."""
    from infrastructure_sdk.config import InfraSDKConfig

    print(InfraSDKConfig.reference())


def main() -> None:
    """Entry point of `infra-sdk`."""
    app(prog_name="infra-sdk")
