"""What every command shares: options, opening the SDK, errors to exit codes, progress."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from infrastructure_sdk import exceptions
from infrastructure_sdk.cli.output import console, harmless

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and change nothing.")]
T = TypeVar("T")


@dataclass
class Options:
    """The options before the command."""

    state_dir: Path | None = None
    config: Path | None = None


options = Options()

EXIT_CODES: list[tuple[type[BaseException], int]] = [
    (exceptions.NotFoundError, 3),
    (exceptions.NotReadyError, 4),
    (exceptions.OperationTimeoutError, 4),
    (exceptions.AdmissionDeniedError, 5),
    (exceptions.PolicyError, 5),
    (exceptions.IsolationError, 6),
    (exceptions.ProviderError, 7),
    (exceptions.ValidationError, 2),
    (exceptions.ConfigurationError, 2),
]
"""The first that fits counts; anything else is 1."""


def exit_code(error: BaseException) -> int:
    """The command's exit code for an error."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def fail(error: BaseException, code: int | None = None) -> NoReturn:
    """Print an error for people and leave."""
    console(error=True).print("error:", style="bold red", end=" ")
    print(harmless(str(error)), file=sys.stderr)
    if remote := getattr(error, "context", {}).get("remote_message"):
        print(f"the other side said: {harmless(remote)}", file=sys.stderr)
    raise typer.Exit(exit_code(error) if code is None else code)


def make_config() -> Any:
    """The configuration: file, then environment, then the command line."""
    from infrastructure_sdk.config import InfraSDKConfig

    config = InfraSDKConfig.from_file(options.config) if options.config else InfraSDKConfig()
    config = config.overlaid_with(InfraSDKConfig.from_environment())
    if options.state_dir is not None:
        overlay = InfraSDKConfig.from_dict({"store": {"state_directory": str(options.state_dir)}})
        config = config.overlaid_with(overlay)
    return config


def run(action: Callable[[Any], Awaitable[T]], *, state_dir: str | None = None) -> T:
    """Open the SDK, run `action(sdk)`, close; errors become a message and an exit code."""

    async def main() -> T:
        import infrastructure_sdk as isdk

        config = make_config()
        with isdk.logging.written(config.logging):
            async with isdk.InfrastructureSDK(config=config, state_dir=state_dir) as sdk:
                return await action(sdk)

    try:
        return asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT) from None
    except (exceptions.InfrastructureSDKError, OSError) as error:
        fail(error)


def checked_duration(value: str, param: typer.CallbackParam) -> str:
    """A parameter that is a duration; a wrong one is refused before anything is begun."""
    from infrastructure_sdk import _core

    try:
        _core.parse_duration(value, str(param.name))
    except exceptions.ValidationError as error:
        fail(error)
    return value


Timeout = Annotated[
    str, typer.Option(help="How long to wait, e.g. 90s or 5m.", callback=checked_duration, metavar="DURATION")
]


def dry_run(text: str) -> None:
    """Say what would be done."""
    print(f"dry run: {text}; nothing was changed", file=sys.stderr)


@contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner with a changing text on a terminal; nothing otherwise."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _text: None
        return
    with console(error=True).status(text) as spinner:
        yield lambda new: spinner.update(new)
