"""What may stand for a policy in a simulation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from infrastructure_sdk.exceptions import NotFoundError, ValidationError

__all__ = ["PolicyInput", "TriedPolicy", "as_policy"]

StrPath = str | os.PathLike[str]

PolicyInput: TypeAlias = StrPath | Mapping[str, Any] | None
"""None or "builtin" for the engine's own rules, settings, or a file of settings (.yaml, .json)."""


@dataclass(frozen=True)
class TriedPolicy:
    """What the native core is given."""

    document: str


def as_policy(policy: PolicyInput) -> TriedPolicy:
    """Read what `policy` names.

    Settings are ``name``, ``idle_timeout``, ``disconnect_timeout``, ``ttl``, ``retention`` (durations; "0s" = off),
    ``on_expiry`` (by clock: disconnect, suspend, terminate), ``sample_interval``, ``arming_delay``, and ``limits`` and
    ``pools`` as in their documents.
    """
    if policy is None or policy == "builtin":
        return TriedPolicy("{}")
    if isinstance(policy, Mapping):
        return TriedPolicy(json.dumps(dict(policy), default=str))
    if isinstance(policy, str | os.PathLike):
        return _from_file(Path(policy))
    raise ValidationError(
        f"policy: {type(policy).__name__} is not allowed; settings, a file or None",
        context={"field": "policy", "value": type(policy).__name__},
    )


def _from_file(path: Path) -> TriedPolicy:
    try:
        text = path.read_text(encoding="utf-8")
        settings = yaml.safe_load(text)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", context={"field": "policy", "value": str(path)}) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValidationError(f"{path} cannot be read: {error}", context={"field": "policy"}) from None
    if not isinstance(settings, dict):
        raise ValidationError(f"{path}: settings by name are needed", context={"field": "policy"})
    return TriedPolicy(json.dumps({"name": path.stem} | settings, default=str))
