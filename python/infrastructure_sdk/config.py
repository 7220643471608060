"""Configuration: the table in the native core is the only definition; these are views of it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infrastructure_sdk import _core
from infrastructure_sdk.exceptions import ConfigurationError

__all__ = ["InfraSDKConfig", "Section", "default_image_directory", "default_state_directory"]


class Section(Mapping[str, Any]):
    """One section, by attribute or by key. Durations and quantities are texts, secrets ``***``."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self._name = name
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"section {self.__dict__.get('_name')!r} has no option {name!r}")
        return self._values[name]

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{self._name}({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"


class InfraSDKConfig:
    """An immutable, checked configuration.

    Raises
    ------
    ConfigurationError
        By every constructor; ``problems`` lists all faults with path, redacted value, what is allowed and origin.

    Examples
    --------
    >>> InfraSDKConfig.from_dict({"session": {"default_ttl": "2h"}}).session.default_ttl
    '2h'
    """

    kubernetes: Section
    aws: Section
    vm: Section
    isolation: Section
    cost_optimization: Section
    logging: Section
    session: Section
    store: Section
    providers: Section

    def __init__(self, _native: _core.Config | None = None) -> None:
        self._native = _native if _native is not None else _core.Config()
        for name, values in json.loads(self._native.to_json()).items():
            setattr(self, name, Section(name, values))

    @classmethod
    def from_file(cls, path: str | Path) -> InfraSDKConfig:
        """YAML, TOML or JSON, by the ending."""
        with _readable(f"the path {str(path)!a}"):
            return cls(_core.Config.from_file(str(path)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InfraSDKConfig:
        """``{"section": {"option": value}}``."""
        with _readable("the argument"):
            return cls(_core.Config.from_json(json.dumps(values), "argument"))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> InfraSDKConfig:
        """``INFRA_SDK_SECTION__OPTION`` of `environment` (default: the process's)."""
        found = os.environ if environment is None else environment
        ours = {name: value for name, value in found.items() if name.startswith("INFRA_SDK_")}
        with _readable(f"the environment ({', '.join(sorted(ours))})"):
            return cls(_core.Config.from_environment(ours))

    @classmethod
    def from_dotenv(cls, path: str | Path) -> InfraSDKConfig:
        """The same names from a file of ``NAME=value`` lines."""
        with _readable(f"the path {str(path)!a}"):
            return cls(_core.Config.from_dotenv(str(path)))

    def overlaid_with(self, over: InfraSDKConfig) -> InfraSDKConfig:
        """This, with everything that `over` sets."""
        return InfraSDKConfig(self._native.overlaid_with(over._native))

    def origin(self, path: str) -> str:
        """Where the value of ``section.option`` came from."""
        return self._native.origin(path)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Every value; secrets as ``***``."""
        values: dict[str, dict[str, Any]] = json.loads(self._native.to_json())
        return values

    @staticmethod
    def schema() -> dict[str, Any]:
        """JSON Schema 2020-12 of configuration files."""
        schema: dict[str, Any] = json.loads(_core.config_schema())
        return schema

    @staticmethod
    def reference() -> str:
        """Every option, as Markdown."""
        return _core.config_reference()

    def __repr__(self) -> str:
        changed = [
            f"{s}.{o}" for s, values in self.to_dict().items() for o in values if self._native.is_set(f"{s}.{o}")
        ]
        return f"InfraSDKConfig(set: {', '.join(changed) or 'nothing'})"


@contextlib.contextmanager
def _readable(source: str) -> Iterator[None]:
    """Say which source has a value that is none for the native core; Python's own message would quote every value."""
    try:
        yield
    except TypeError:
        why = f"{source} has a value that is not valid Unicode, or not of a type that JSON has"
        raise ConfigurationError(why, context={"field": source}) from None


def default_state_directory() -> str:
    """Where state lives when the configuration does not say."""
    return _core.default_state_directory()


def default_image_directory() -> str:
    """Where images live when the configuration does not say."""
    return _core.default_image_directory()
