"""From files, modules and functions to what they declare."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from infrastructure_sdk.automation.declare import MARK, Handler, Runbook, Schedule
from infrastructure_sdk.automation.refusal import refused
from infrastructure_sdk.exceptions import NotFoundError, ValidationError

__all__ = ["Declarations", "load"]


@dataclass(frozen=True)
class Declarations:
    """What files declare, by name."""

    handlers: tuple[Handler, ...]
    schedules: tuple[Schedule, ...]
    runbooks: tuple[Runbook, ...]

    def runbook(self, name: str) -> Runbook:
        """One runbook.

        Raises
        ------
        NotFoundError
            If there is none of that name.
        """
        for found in self.runbooks:
            if found.name == name:
                return found
        known = ", ".join(found.name for found in self.runbooks) or "none"
        raise NotFoundError(f"runbook {name!r}: there is none; there are: {known}", context={"runbook": name})


def load(*sources: str | Path | ModuleType | Callable[..., Any]) -> Declarations:
    """What Python files, modules and decorated functions declare.

    Files are run: they are trusted as this process is.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ValidationError
        If a file cannot be run, a function is not decorated, or two share a name.
    """
    found: list[Handler | Schedule | Runbook] = []
    for source in sources:
        if isinstance(source, str | Path):
            found += _of_module(_module(Path(source)))
        elif isinstance(source, ModuleType):
            found += _of_module(source)
        elif declared := getattr(source, MARK, None):
            found += declared
        else:
            raise refused("sources", source, "a file, a module, or a function with @on, @schedule or @runbook")
    names: set[tuple[bool, str]] = set()
    for item in found:
        # Runbooks have no place in the log that a name would stand for.
        key = (isinstance(item, Runbook), item.name)
        if key in names:
            raise refused("name", item.name, "a name that nothing else has; say one with name=")
        names.add(key)
    return Declarations(
        tuple(item for item in found if isinstance(item, Handler)),
        tuple(item for item in found if isinstance(item, Schedule)),
        tuple(item for item in found if isinstance(item, Runbook)),
    )


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFoundError(f"{path}: there is no such file", context={"path": str(path)})
    name = "infrastructure_sdk_automation_" + hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise refused("path", str(path), "a Python file, *.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # type hints are resolved there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValidationError(
            f"{path}: it cannot be run: {type(error).__name__}: {error}", context={"field": "path", "value": str(path)}
        ) from error
    return module


def _of_module(module: ModuleType) -> list[Handler | Schedule | Runbook]:
    found: list[Handler | Schedule | Runbook] = []
    seen: set[int] = set()
    for value in vars(module).values():
        # What it imports is declared where it was written.
        if getattr(value, "__module__", None) == module.__name__ and id(value) not in seen:
            seen.add(id(value))
            found += getattr(value, MARK, ())
    return found
