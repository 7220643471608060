"""`infra-sdk simulate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, console, show_one

EPILOG = (
    "Example: infra-sdk simulate --users 1000 --days 30 --policy strict.yaml --against builtin --picture diff.svg"
    "   |   infra-sdk simulate --events log.jsonl --policy strict.yaml -o json"
    "   |   infra-sdk simulate --trace sessions.csv --policy builtin --set boot_time=90s"
)

Policy = Annotated[
    str, typer.Option(help="What is tried: a policy (.py), settings (YAML, JSON), or `builtin`.", metavar="FILE")
]
Against = Annotated[str | None, typer.Option(help="A second policy to compare with.", metavar="FILE")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of the simulation, such as boot_time=90s; may be repeated.", metavar="K=V"),
]
FleetAssignments = Annotated[
    list[str] | None,
    typer.Option("--fleet", help="A parameter of the fleet, such as day_start=10h; may be repeated.", metavar="K=V"),
]


def simulate(
    policy: Policy = "builtin",
    against: Against = None,
    users: Annotated[int, typer.Option(help="People of a made-up fleet.", metavar="N", min=1, max=1_000_000)] = 100,
    days: Annotated[float, typer.Option(help="How long it is watched.", metavar="DAYS", min=0.05, max=3650)] = 30,
    fleet: FleetAssignments = None,
    trace: Annotated[
        Path | None, typer.Option(help="Sessions of a file instead: CSV or JSONL.", metavar="FILE")
    ] = None,
    events: Annotated[Path | None, typer.Option(help="A recorded event log instead: JSONL.", metavar="FILE")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.", metavar="N", min=0)] = 1,
    settings: Assignments = None,
    sessions: Annotated[
        bool, typer.Option("--sessions", help="Also every session, or every one that differs.")
    ] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw it into this file.", metavar="FILE.svg")] = None,
    output: Output = Format.table,
) -> None:
    """Try a policy on a virtual clock before it touches anyone: hours, money, who was wrongly suspended, who waited.

    The session engine itself runs, with people who come, work, leave and come back: of a made-up fleet, a trace or a
    recorded event log. No installation is opened and nothing real is started.
    """
    from infrastructure_sdk import exceptions, simulation

    try:
        if trace is not None and events is not None:
            raise exceptions.ValidationError("--trace and --events exclude each other: give one")
        options = _assignments(settings, "--set")
        workload = _workload(users, days, _assignments(fleet, "--fleet"), trace, events, seed)
        results = []
        for which in [name for name in (against, policy) if name is not None]:
            with _progress(f"simulating {which}") as tell:
                results.append(simulation.run(which, workload, seed=seed, options=options, progress=tell))
        _print(results, sessions, output)
        if picture is not None:
            drawn = simulation.compare(*results) if len(results) == 2 else results[0]
            drawn.plot(picture)
            print(f"drawn: {picture}", file=sys.stderr)
    except exceptions.InfrastructureSDKError as error:
        context.fail(error)


def _assignments(given: list[str] | None, option: str) -> dict[str, Any]:
    """Values are JSON where they can be read as such, else texts."""
    from infrastructure_sdk import exceptions

    found: dict[str, Any] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise exceptions.ValidationError(f"{option}: '{text}' is not allowed; NAME=VALUE is needed")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _workload(
    users: int, days: float, parameters: dict[str, Any], trace: Path | None, events: Path | None, seed: int
) -> Any:
    from infrastructure_sdk import simulation

    if trace is not None:
        return simulation.Workload.from_trace(trace)
    if events is not None:
        return simulation.Workload.from_events(events)
    return simulation.Workload.from_fleet(simulation.Fleet(users, days, **parameters), seed)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[float], None]]:
    """A bar on the terminal; nothing elsewhere."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    screen = console(error=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda done: bar.update(task, completed=done)


def _print(results: list[Any], sessions: bool, output: Format) -> None:
    from infrastructure_sdk import simulation

    compared = simulation.compare(*results) if len(results) == 2 else None
    if output is Format.table:
        screen = console()
        screen.print((compared or results[0]).table())
        if sessions and compared:
            screen.print()
            screen.print(compared.session_table())
        return
    if compared is None:
        if output is Format.json:
            print(results[0].to_json(sessions=sessions))
            return
        show_one(results[0].to_dict(sessions=sessions), output, key="policy")
        return
    comparison = compared.to_dict()
    if not sessions:
        del comparison["sessions"]
    show_one({"results": [result.to_dict() for result in results], "comparison": comparison}, output)
