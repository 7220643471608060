"""The facade: opens an installation and hands out its managers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from infrastructure_sdk import _bridge, _core
from infrastructure_sdk.automation.manager import Automation
from infrastructure_sdk.config import InfraSDKConfig
from infrastructure_sdk.events import EventLog
from infrastructure_sdk.exceptions import InvalidTransitionError
from infrastructure_sdk.isolation import IsolationEngine
from infrastructure_sdk.keys import KeyRing
from infrastructure_sdk.policies import Policies
from infrastructure_sdk.pools import PoolManager
from infrastructure_sdk.session_manager import UserSessionManager
from infrastructure_sdk.snapshot import SnapshotCatalogue
from infrastructure_sdk.vm import LimitCatalogue, TemplateCatalogue, VMLifecycleController
from infrastructure_sdk.webhooks import Webhooks

if TYPE_CHECKING:
    from infrastructure_sdk.server.console import ConsoleBridge
    from infrastructure_sdk.server.forward import PortForward

__all__ = ["InfrastructureSDK"]


class InfrastructureSDK:
    """One installation: a state directory, its virtual machines and sessions.

    Virtual machines go on running after `close` and after the process; the next owner of the state directory adopts
    them. May be used from one event loop at a time.

    Parameters
    ----------
    config
        An `InfraSDKConfig`, a dict of sections, or the path of a file. Default: the environment (``INFRA_SDK_...``).
    state_dir
        Overrides ``store.state_directory``.

    Examples
    --------
    ::

        async with isdk.InfrastructureSDK() as sdk:
            session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
    """

    def __init__(
        self,
        config: InfraSDKConfig | Mapping[str, Any] | str | Path | None = None,
        *,
        state_dir: str | Path | None = None,
    ) -> None:
        if config is None:
            config = InfraSDKConfig.from_environment()
        elif isinstance(config, str | Path):
            config = InfraSDKConfig.from_file(config)
        elif not isinstance(config, InfraSDKConfig):
            config = InfraSDKConfig.from_dict(config)
        if state_dir is not None:
            overlay = {"store": {"state_directory": str(Path(state_dir).absolute())}}
            config = config.overlaid_with(InfraSDKConfig.from_dict(overlay))
        self.config: InfraSDKConfig = config
        self._runtime: _core.Runtime | None = None
        self._native: _core.Sdk | None = None
        self._console: ConsoleBridge | None = None
        self._forwards: set[PortForward] = set()
        self.sessions = UserSessionManager(self)
        self.vms = VMLifecycleController(self)
        self.isolation = IsolationEngine(self)
        self.templates = TemplateCatalogue(self)
        self.limits = LimitCatalogue(self)
        self.pools = PoolManager(self)
        self.events = EventLog(self)
        self.webhooks = Webhooks(self)
        self.policies = Policies(self)
        self.snapshots = SnapshotCatalogue(self)
        self.keys = KeyRing(self)
        self.automation = Automation(self)

    async def open(self) -> InfrastructureSDK:
        """Take the state directory, open the store, adopt what runs.

        Raises
        ------
        ConflictError
            If a living process owns the state directory; the message names it.
        ProviderError
            If QEMU is missing.
        StoreError
            If the state directory cannot be used.
        """
        if self._native is not None:
            return self
        runtime = _bridge.make_runtime(self.config.logging.level)
        config = self.config._native
        try:
            self._native = await _bridge.call(runtime, lambda q, f, t, c: _core.open_sdk(runtime, q, f, t, c, config))
        except BaseException:
            runtime.stop()
            raise
        self._runtime = runtime
        return self

    async def close(self) -> None:
        """Let go of everything; no virtual machine is touched. Closing twice is fine."""
        console, self._console = self._console, None
        if console is not None:
            await console.close()
        for forward in list(self._forwards):
            await forward.close()
        native, runtime = self._native, self._runtime
        self._native = self._runtime = None
        if native is None or runtime is None:
            return
        try:
            await _bridge.call(runtime, native.close)
        finally:
            runtime.stop()

    async def __aenter__(self) -> InfrastructureSDK:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<InfrastructureSDK {'open' if self._native is not None else 'closed'}>"

    def _opened(self) -> _core.Sdk:
        if self._native is None:
            raise InvalidTransitionError("the SDK is not open: use `async with InfrastructureSDK() as sdk:` or open()")
        return self._native

    async def _call(
        self, method: Callable[[_core.Sdk], Callable[..., int]], *arguments: Any, timeout: str | float | None = None
    ) -> Any:
        native = self._opened()
        assert self._runtime is not None
        return await _bridge.call(self._runtime, method(native), *arguments, timeout=timeout)
