"""Virtual machines, templates and the state of the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infrastructure_sdk import _bridge, _core
from infrastructure_sdk.config import InfraSDKConfig

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK

__all__ = ["LimitCatalogue", "TemplateCatalogue", "VMLifecycleController", "doctor"]


class VMLifecycleController:
    """What the provider has and can do."""

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    def capabilities(self) -> Mapping[str, Any]:
        """Provider, accelerator (and why that one), suspend modes, and what else it can do."""
        found: Mapping[str, Any] = self._sdk._opened().capabilities()
        return found

    async def list(self) -> list[Mapping[str, Any]]:
        """Every virtual machine of this installation, as it is now."""
        found: list[Mapping[str, Any]] = await self._sdk._call(lambda native: native.list_vms)
        return found

    async def inspect(self, session_id: str) -> Mapping[str, Any]:
        """The virtual machine of a session: state, process identity, accelerator."""
        found: Mapping[str, Any] = await self._sdk._call(lambda native: native.inspect_vm, session_id)
        return found


class TemplateCatalogue:
    """What sessions can be made of."""

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    def list(self) -> list[Mapping[str, Any]]:
        """All templates, by name."""
        found: list[Mapping[str, Any]] = self._sdk._opened().templates()
        return found


class LimitCatalogue:
    """What users, tenants, templates and the host may hold (``session.limits_file``)."""

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    async def usage(self) -> list[Mapping[str, Any]]:
        """A dict for each limit and each subject that it counts.

        ``limit`` (scope, subject, resource, value), ``subject``, ``in_use``, ``free`` and ``holder_count``; of
        ``in_use``, ``warm`` is held by unclaimed units of pools and ``spent`` was spent by sessions that have ended.
        Counts are numbers, other amounts texts: "500m", "8Gi", "0.50" (in ``currency``).
        """
        found: list[Mapping[str, Any]] = await self._sdk._call(lambda native: native.usage)
        return found


def doctor(config: InfraSDKConfig | None = None) -> list[dict[str, str]]:
    """Look at the host: one dict a line with name, status (ok, warning, error), detail, meaning and advice."""
    chosen = config if config is not None else InfraSDKConfig.from_environment()

    async def look() -> list[dict[str, str]]:
        runtime = _bridge.make_runtime()
        try:
            lines: list[dict[str, str]] = await _bridge.call(
                runtime, lambda q, f, t, c: _core.doctor(runtime, q, f, t, c, chosen._native)
            )
            return lines
        finally:
            runtime.stop()

    # On the background loop, so that it works in a notebook's running one.
    from infrastructure_sdk.sync import _run

    return _run(look())
