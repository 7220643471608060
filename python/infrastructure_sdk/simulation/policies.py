"""What may stand for a policy in a simulation."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeAlias

import yaml

from infrastructure_sdk.exceptions import NotFoundError, ValidationError
from infrastructure_sdk.policy import Policy, define

__all__ = ["PolicyInput", "TriedPolicy", "as_policy"]

StrPath = str | os.PathLike[str]

NOTEBOOK_IMPORTS = "from infrastructure_sdk.policy import *\n"
"""Ahead of a function that was defined in a notebook: its source alone imports nothing."""

PolicyInput: TypeAlias = StrPath | Mapping[str, Any] | Callable[..., Any] | type[Policy] | None
"""None or "builtin" for the engine's own rules, settings, a file of settings (.yaml, .json) or of a policy (.py), or a
decorated function or a `Policy` class whose source can be read."""


@dataclass(frozen=True)
class TriedPolicy:
    """What the native core is given: settings, and policies in Python with where they are from."""

    document: str
    texts: tuple[tuple[str, str], ...] = ()


def as_policy(policy: PolicyInput) -> TriedPolicy:
    """Read what `policy` names.

    Settings are ``name``, ``idle_timeout``, ``disconnect_timeout``, ``ttl``, ``retention`` (durations; "0s" = off),
    ``on_expiry`` (by clock: disconnect, suspend, terminate), ``sample_interval``, ``arming_delay``,
    ``schedule_interval``, ``budget_interval``, and ``limits``, ``pools`` and ``policies`` as in their documents. Files
    of policies are relative to the settings' folder.
    """
    if policy is None or policy == "builtin":
        return TriedPolicy("{}")
    if isinstance(policy, Mapping):
        return _settings(policy, Path())
    if isinstance(policy, str | os.PathLike):
        path = Path(policy)
        if path.suffix == ".py":
            return _named(path.stem, _read(path), os.fspath(path))
        return _from_file(path)
    if callable(policy):
        definition = define(policy)
        return _named(definition.identity.name, NOTEBOOK_IMPORTS + dedent(definition.source), "<policy>")
    raise ValidationError(
        f"policy: {type(policy).__name__} is not allowed; settings, a policy, a file or None",
        context={"field": "policy", "value": type(policy).__name__},
    )


def _named(name: str, text: str, origin: str) -> TriedPolicy:
    return TriedPolicy(json.dumps({"name": name, "policies": [{"source": "text:0"}]}), ((text, origin),))


def _from_file(path: Path) -> TriedPolicy:
    try:
        settings = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        raise ValidationError(f"{path} cannot be read: {error}", context={"field": "policy"}) from None
    if not isinstance(settings, dict):
        raise ValidationError(f"{path}: settings by name are needed", context={"field": "policy"})
    return _settings({"name": path.stem} | settings, path.parent)


def _settings(settings: Mapping[str, Any], folder: Path) -> TriedPolicy:
    """Policies in Python become texts that their entries name; order and all other fields stay."""
    document = dict(settings)
    entries = document.get("policies")
    texts: list[tuple[str, str]] = []
    if isinstance(entries, list):
        document["policies"] = entries = list(entries)
        for place, entry in enumerate(entries):
            source = entry.get("source") if isinstance(entry, Mapping) else None
            if not isinstance(source, str) or not source.endswith(".py"):
                continue
            if entry.get("untrusted"):
                raise ValidationError(
                    f"policies.untrusted: 'true' of {source} is not allowed; a simulation runs policies in this "
                    "process, so try only those that are trusted",
                    context={"field": "policies.untrusted", "value": "true", "allowed": "false"},
                )
            entries[place] = {**entry, "source": f"text:{len(texts)}"}
            texts.append((_read(folder / source), source))
    return TriedPolicy(json.dumps(document, default=str), tuple(texts))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", context={"field": "policy", "value": str(path)}) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValidationError(f"{path} cannot be read: {error}", context={"field": "policy"}) from None
