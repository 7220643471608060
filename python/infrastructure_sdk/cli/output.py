"""How results are shown: tables for people, JSON and YAML for programs, names for pipes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table


class Format(str, Enum):
    """What `-o` takes."""

    table = "table"
    json = "json"
    yaml = "yaml"
    name = "name"


Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]


def console(*, error: bool = False) -> Console:
    """A rich console without escape codes when the output is no terminal or NO_COLOR is set.

    Texts are shown as they are: square brackets and colons in them mean nothing, and for programs no line is folded.
    """
    stream = sys.stderr if error else sys.stdout
    terminal = stream.isatty()
    return Console(
        file=stream,
        color_system="auto" if terminal and not os.environ.get("NO_COLOR") else None,
        force_terminal=terminal,
        width=None if terminal else 1_000_000,
        highlight=False,
        markup=False,
        emoji=False,
    )


def harmless(text: str) -> str:
    """A text of a guest or of QEMU without what could steer the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], output: Format, *, key: str = "id") -> None:
    """Print a list of documents.

    Parameters
    ----------
    rows
        The documents, as the API gives them.
    columns
        Title to dotted path, for the table.
    output
        The format.
    key
        The field that `-o name` prints.
    """
    if output is Format.json:
        print(json.dumps(list(rows), indent=2))
    elif output is Format.yaml:
        print(yaml.safe_dump(list(rows), sort_keys=False), end="")
    elif output is Format.name:
        for row in rows:
            print(row[key])
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in columns:
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*(_text(_at(row, path)) for path in columns.values()))
        _print(table)


def show_one(document: Mapping[str, Any], output: Format, *, key: str = "id") -> None:
    """Print one document; as a table it is a list of fields."""
    if output is Format.json:
        print(json.dumps(document, indent=2))
    elif output is Format.yaml:
        print(yaml.safe_dump(dict(document), sort_keys=False), end="")
    elif output is Format.name:
        print(document[key])
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in document.items():
            table.add_row(name, _text(value))
        _print(table)


def _print(table: Table) -> None:
    """Print a table; rich pads its last column, which only a terminal's width gives a use."""
    screen = console()
    with screen.capture() as captured:
        screen.print(table)
    for line in captured.get().splitlines():
        print(line if screen.is_terminal else line.rstrip())


def _at(row: Mapping[str, Any], path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return " ".join(f"{k}={_text(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "-"
    if isinstance(value, float):
        return f"{round(value, 3):.12g}"
    return harmless(str(value))
