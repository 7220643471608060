"""From a file, an entry point or a text to a policy; and a file that is loaded again when it has changed."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from infrastructure_sdk._core import check_decision
from infrastructure_sdk.exceptions import InfrastructureSDKError, NotFoundError, PolicyError
from infrastructure_sdk.policy.definition import Policy, PolicyDefinition, define, sha256_of
from infrastructure_sdk.policy.linter import lint_source
from infrastructure_sdk.policy.samples import sample_request

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["ENTRY_POINTS", "PolicyFile", "dry_run", "load_entry_point", "load_file", "load_source"]

ENTRY_POINTS = "infrastructure_sdk.policies"
MOST_SOURCE_BYTES = 1024 * 1024

StrPath = str | os.PathLike[str]


def load_source(source: str, origin: str = "<policy>", *, lint: bool = True) -> PolicyDefinition:
    """The one policy that a text defines. The text is run.

    Parameters
    ----------
    source
        Python, 1 MiB at most.
    origin
        Its file, for tracebacks; the policy's name when it states none is the stem of it.
    lint
        Refuse what the linter calls an error, before anything is run.

    Raises
    ------
    PolicyError
        When it is no Python, breaks a rule, raises, or holds no policy or more than one.
    """
    if len(source) > MOST_SOURCE_BYTES:
        raise PolicyError(f"{origin} is too long: {MOST_SOURCE_BYTES} characters at most")
    errors = [finding for finding in lint_source(source) if finding.severity == "error"] if lint else []
    if errors:
        lines = "; ".join(f"line {finding.line}: {finding.message}" for finding in errors[:5])
        raise PolicyError(
            f"{origin} breaks the rules of policies: {lines}", context={"field": "source", "findings": len(errors)}
        )
    module = ModuleType(f"infrastructure_sdk_policy_{sha256_of(source)[:12]}")
    module.__file__ = origin
    # Dataclasses look their module up while they are made.
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, origin, "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        raise PolicyError(f"{origin} cannot be loaded: {short_traceback(error)}") from error
    finally:
        sys.modules.pop(module.__name__, None)
    return _only_policy(vars(module), module.__name__, source, origin)


def _only_policy(names: dict[str, Any], module: str, source: str, origin: str) -> PolicyDefinition:
    def is_own(thing: Any) -> bool:
        return getattr(thing, "__module__", None) == module

    own = [thing for thing in names.values() if is_own(thing)]
    functions = [thing for thing in own if hasattr(thing, "__policy__")]
    classes = [thing for thing in own if isinstance(thing, type) and issubclass(thing, Policy)]
    name = Path(origin).stem if not origin.startswith("<") else ""
    if bool(functions) + len(classes) != 1:
        found = len(classes) + bool(functions)
        raise PolicyError(f"{origin} must hold one policy, functions with @policy or one Policy class; it has {found}")
    return define(classes[0] if classes else functions, source=source, origin=origin, name=name)


def load_file(path: StrPath, *, lint: bool = True) -> PolicyDefinition:
    """The one policy of a file.

    Raises
    ------
    NotFoundError
        When there is no such file.
    PolicyError
        See `load_source`.
    """
    return load_source(read_policy(path), os.fspath(path), lint=lint)


def read_policy(path: StrPath) -> str:
    """The text of a file. Raises NotFoundError or PolicyError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"there is no policy {os.fspath(path)}", context={"field": "path"}) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"the policy {os.fspath(path)} cannot be read: {error}") from None


def load_entry_point(name: str, *, lint: bool = True) -> PolicyDefinition:
    """A policy that an installed package offers in the group ``infrastructure_sdk.policies``. The entry point names a
    module, which is loaded like a file; the packages around it are not imported.

    Raises
    ------
    NotFoundError
        When no package offers it.
    PolicyError
        See `load_source`.
    """
    return load_file(_entry_point_path(name), lint=lint)


def _entry_point_path(name: str) -> str:
    import importlib.metadata  # costs more than all the rest

    found = list(importlib.metadata.entry_points(group=ENTRY_POINTS, name=name))
    if not found:
        offered = ", ".join(sorted(entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)))
        raise NotFoundError(
            f"no package offers the policy {name!r}; there is: {offered or 'none'}",
            context={"field": "name", "value": name, "allowed": offered},
        )
    path = _installed_file(found[0]) or _importable_file(found[0].module)
    if path is None:
        raise PolicyError(f"the module {found[0].module} of the policy {name!r} has no source")
    return path


def _installed_file(entry: EntryPoint) -> str | None:
    """Beside what the package brought along."""
    if entry.dist is None:
        return None
    stem = entry.module.replace(".", "/")
    for file in (f"{stem}.py", f"{stem}/__init__.py"):
        path = os.fspath(entry.dist.locate_file(file))  # type: ignore[call-overload]
        if os.path.isfile(path):
            return str(path)
    return None


def _importable_file(module: str) -> str | None:
    """Where an import would find it, of a package that is installed as a link to its folder. Nothing of the package is
    run: its text may be meant for the sandbox, and importlib.util.find_spec would import the packages around it.
    """
    names, places, spec = module.split("."), None, None
    for count in range(len(names)):
        spec = None
        for finder in sys.meta_path:
            try:
                spec = finder.find_spec(".".join(names[: count + 1]), places)
            except (AttributeError, ImportError, KeyError):  # KeyError: a namespace that is not imported
                continue
            if spec is not None:
                break
        places = spec.submodule_search_locations if spec else None
        if spec is None or (places is None and count + 1 < len(names)):
            return None
    return spec.origin if spec else None


def read_source(source: str) -> tuple[str, str]:
    """Text and origin of what a configuration names: a file, or ``entry:NAME`` for a package's policy.

    Raises
    ------
    NotFoundError, PolicyError
        When it is not there or cannot be read.
    """
    kind, colon, name = source.partition(":")
    path = _entry_point_path(name) if colon and kind == "entry" else source
    return read_policy(path), path


def dry_run(definition: PolicyDefinition) -> None:
    """Ask it once at each of its points with a sample request.

    Raises
    ------
    PolicyError
        When it raises, or its answer is not a decision of that point.
    """
    for point, handler in definition.handlers.items():
        request = sample_request(point)
        try:
            answer = handler(request, "")[0] if definition.keeps_state else handler(request)
            check_decision(answer, request)
        except InfrastructureSDKError as error:
            raise PolicyError(f"{definition.identity.name} at {point}: {error}") from error
        except Exception as error:
            raise PolicyError(f"{definition.identity.name} at {point}: {short_traceback(error)}") from error


def short_traceback(error: BaseException, most: int = 1500) -> str:
    """The last frames and the error, in one text."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = "; ".join(f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames)
    try:
        what = f"{type(error).__name__}: {error}"
    except Exception:  # its __str__ may be anything
        what = type(error).__name__
    return f"{what} ({where})"[:most] if where else what[:most]


class PolicyFile:
    """A policy of a file that is loaded again when it has changed. Thread-safe.

    A new text counts only when it loads, passes the linter and answers a sample request at each of its points; else the
    old one stays and `error` says why.

    Raises
    ------
    NotFoundError, PolicyError
        When the first text is not good.
    """

    def __init__(self, path: StrPath, *, lint: bool = True) -> None:
        self._path = Path(path)
        self._lint = lint
        self._lock = threading.Lock()
        self.error: str | None = None
        self._definition = self._validated(read_policy(path))

    @property
    def definition(self) -> PolicyDefinition:
        """The one in force."""
        return self._definition

    def _validated(self, source: str) -> PolicyDefinition:
        definition = load_source(source, os.fspath(self._path), lint=self._lint)
        dry_run(definition)
        return definition

    def reload(self) -> bool:
        """Look at the file again. True = another text is in force now."""
        with self._lock:
            try:
                source = read_policy(self._path)
                if source == self._definition.source:
                    self.error = None
                    return False
                # One assignment: who asks meanwhile gets the old or the new one, whole.
                self._definition = self._validated(source)
            except InfrastructureSDKError as error:
                self.error = str(error)
                return False
            self.error = None
            return True
