"""One session: use, suspend, resume, end."""

from __future__ import annotations

import builtins
import html
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from infrastructure_sdk import _bridge
from infrastructure_sdk import snapshot as _snapshot
from infrastructure_sdk._bridge import Timeout
from infrastructure_sdk.commands import ExecResult, GuestProcess, exec_arguments
from infrastructure_sdk.desktop import DesktopClient
from infrastructure_sdk.exceptions import UnsupportedError
from infrastructure_sdk.explanation import Explanation
from infrastructure_sdk.files import FileClient
from infrastructure_sdk.notebook.timeline import Timeline
from infrastructure_sdk.snapshot import ForkResult, Snapshot

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK
    from infrastructure_sdk.server.forward import PortForward

__all__ = ["SESSION_STATES", "Session"]

SESSION_STATES = (
    "pending",
    "provisioning",
    "active",
    "suspending",
    "suspended",
    "resuming",
    "terminating",
    "terminated",
    "failed",
)
"""Every state, in the order of a session's life."""


class Session:
    """A handle on one session. Its fields are as of `observed_at`; `refresh` looks again."""

    def __init__(self, sdk: InfrastructureSDK, document: Mapping[str, Any]) -> None:
        self._sdk = sdk
        self._document: Mapping[str, Any] = document
        self.desktop = DesktopClient(self)
        self.files = FileClient(self)

    @property
    def id(self) -> str:
        """The session's id."""
        return str(self._document["id"])

    @property
    def user_id(self) -> str:
        """Who owns it."""
        return str(self._document["user_id"])

    @property
    def tenant(self) -> str:
        """The group whose limits it counts for; empty = none."""
        return str(self._document["tenant"])

    @property
    def gpu_count(self) -> int:
        """How many GPUs it has while it is not suspended."""
        return int(self._document["resources"]["gpu_count"])

    @property
    def gpu_type(self) -> str:
        """Of which type they are; empty without GPUs."""
        return str(self._document["resources"]["gpu_type"])

    @property
    def price_per_hour(self) -> Decimal:
        """What it costs an hour while it is not suspended, in ``cost_optimization.currency``; fixed at creation."""
        return Decimal(self._document["cost"]["price_per_hour"])

    @property
    def cost_this_month(self) -> Decimal:
        """What it has cost in the calendar month (UTC) of `observed_at`, up to then."""
        return Decimal(self._document["cost"]["this_month"])

    @property
    def template(self) -> str:
        """What it was made of."""
        return str(self._document["template"])

    @property
    def state(self) -> str:
        """One of `SESSION_STATES`, as last seen."""
        return str(self._document["state"])

    @property
    def vm_id(self) -> str:
        """The VM's id."""
        return str(self._document["vm_id"])

    @property
    def execution_id(self) -> str:
        """Changes at every start and resume."""
        return str(self._document["execution_id"])

    @property
    def launch_type(self) -> str:
        """``warm`` when it took a unit of a warm pool, ``cold`` when its VM was started for it."""
        return str(self._document["launch_type"])

    @property
    def launched_from(self) -> str:
        """``template`` when its guest began as a copy of one that had booted, ``snapshot`` when it went on from a
        snapshot's memory, ``cold boot``, or empty before that."""
        return str(self._document["launched_from"])

    @property
    def launch_reason(self) -> str:
        """Why its guest was booted; empty when it came from a template."""
        return str(self._document["launch_reason"])

    @property
    def pool(self) -> str:
        """The warm pool whose unit it took; empty for a cold start."""
        return str(self._document["pool"])

    @property
    def termination_reason(self) -> str | None:
        """Why it was ended; None while it was not."""
        reason: str | None = self._document["termination_reason"]
        return reason

    @property
    def failure(self) -> Mapping[str, str]:
        """reason, message and channel of a failed session."""
        found: Mapping[str, str] = self._document["failure"]
        return found

    @property
    def observed_at(self) -> str:
        """When these fields were seen, RFC 3339."""
        return str(self._document["observed_at"])

    def to_dict(self) -> dict[str, Any]:
        """Every field."""
        return dict(self._document)

    async def refresh(self) -> Session:
        """Look again; returns itself."""
        self._document = await self._call("get")
        return self

    async def wait_until(self, state: str, *, timeout: Timeout = None) -> Session:
        """Wait for a state; a state that will not lead there ends the wait at once.

        Raises
        ------
        OperationTimeoutError
            If the time is up; the session goes on.
        NotReadyError
            If the session failed because a channel did not answer; `channel` names it.
        SessionCreationError, ProviderError, InvalidTransitionError
            If it cannot get there any more.
        """
        self._document = await self._call("wait", state, timeout=timeout)
        return self

    async def wait_until_active(self, timeout: Timeout = "5m") -> Session:
        """Wait until every channel of the template answers."""
        return await self.wait_until("active", timeout=timeout)

    async def exec(
        self,
        command: str | Iterable[str],
        *,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        timeout: Timeout = "60s",
    ) -> ExecResult:
        """Run a command in the guest.

        Parameters
        ----------
        command
            Words, or a text for the guest's shell.
        stdin
            Its standard input.
        env
            Its environment; the agent's own if None.
        cwd
            An absolute path, where it runs; the agent's own if None.
        user
            The name of the guest's user that it runs as; the agent's own (root) if None. Both need a Linux guest.
        timeout
            When it is over the command is killed.

        Raises
        ------
        OperationTimeoutError
            If it took too long; it was killed.
        NotFoundError
            If the guest has no such command, user or folder.
        ValidationError
            If a word is not a text, or has a character that it may not have.
        """
        arguments = exec_arguments(command, stdin, env, cwd, user)
        found = await self._call("exec", *arguments, timeout=timeout)
        return ExecResult(
            found["exit_code"],
            found["stdout"],
            found["stderr"],
            found["stdout_truncated"],
            found["stderr_truncated"],
            found["elapsed"],
        )

    async def spawn(
        self,
        command: str | Iterable[str],
        *,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        timeout: Timeout = "60s",
    ) -> GuestProcess:
        """Start a command in a Linux guest and follow it while it runs; parameters as for `exec`.

        Its output may be of any length; the guest keeps it in a file without a name until the command is closed.
        `timeout` is for the start.

        Examples
        --------
        ::

            async with await session.spawn("for i in 1 2 3; do date; sleep 1; done") as process:
                async for chunk in process.output():
                    print(chunk.text, end="")
            print(process.exit_code)
        """
        arguments = exec_arguments(command, stdin, env, cwd, user)
        return GuestProcess(self, await self._call("exec_start", *arguments, timeout=timeout))

    async def console_url(self, *, valid_for: str = "60s", share: bool = False) -> str:
        """An address that shows the session's screen in a browser of this machine.

        It opens once, for this session, as long as `valid_for` says and the session is not resumed anew; who has it
        has the session's keyboard. It is served on the loopback by this process until the SDK is closed.

        Parameters
        ----------
        valid_for
            Until when it must be opened, at most "1h". An open console stays open.
        share
            Whether it opens beside other viewers. Without it, it is refused while somebody is connected.

        Raises
        ------
        InvalidTransitionError
            If the session is not active.
        UnsupportedError
            If the provider has no console.
        """
        from infrastructure_sdk.server.console import console_url

        return await console_url(self._sdk, self.id, valid_for, share)

    async def forward(self, port: int, *, local_port: int = 0) -> PortForward:
        """A TCP port on this machine's loopback that leads to a port of the guest, e.g. 22 or 3389.

        It needs no network between host and guest: the guest stays cut off from the host. Whoever may connect to this
        machine's loopback may use it.

        Parameters
        ----------
        port
            The guest's.
        local_port
            0 = one that the kernel chooses; `PortForward.local_port` tells which.

        Raises
        ------
        UnsupportedError
            If the session's VM has no such way in; said at once.
        ProviderError
            If `local_port` is taken.

        Examples
        --------
        ::

            async with await session.forward(22) as ssh:
                print("ssh -p", ssh.local_port, "root@127.0.0.1")
        """
        from infrastructure_sdk.server.forward import PortForward, check_port

        check_port("port", port, 1)
        check_port("local_port", local_port, 0)
        if not self._sdk.vms.capabilities()["forward"]:
            raise UnsupportedError("the provider cannot forward ports", context={"capability": "forward"})
        forward = PortForward(self._sdk, self.id, port)
        await forward.start(local_port)
        return forward

    async def disconnect_clients(self, *, timeout: Timeout = "30s") -> None:
        """Cut off every viewer of the screen and every forwarded connection; the session goes on, new ones may come."""
        await self._call("disconnect_clients", timeout=timeout)

    async def suspend(self, *, wait: bool = True, timeout: Timeout = "5m") -> Session:
        """Save the VM's memory to a file and end its process."""
        _bridge.seconds(timeout)  # a wrong one is refused before anything is begun
        self._document = await self._call("suspend")
        return await self.wait_until("suspended", timeout=timeout) if wait else self

    async def resume(self, *, wait: bool = True, timeout: Timeout = "5m") -> Session:
        """Bring a suspended session back as it was, with the right time."""
        _bridge.seconds(timeout)
        self._document = await self._call("resume")
        return await self.wait_until("active", timeout=timeout) if wait else self

    async def terminate(self, *, reason: str = "request", wait: bool = True, timeout: Timeout = "5m") -> Session:
        """End the session and remove everything of its VM; with `wait` it returns when death was observed."""
        _bridge.seconds(timeout)
        self._document = await self._call("terminate", reason)
        return await self.wait_until("terminated", timeout=timeout) if wait else self

    async def recover(self, *, wait: bool = True, timeout: Timeout = "5m") -> Session:
        """Start a failed session's VM again from its disk; what was in memory only is gone.

        Recovering twice, or what is active already, is fine. The cause of the failure stays in the events.

        Raises
        ------
        InvalidTransitionError
            If it is neither failed nor on its way back.
        AdmissionDeniedError
            If what it held is not free any more; it stays failed.
        """
        _bridge.seconds(timeout)
        self._document = await self._call("recover")
        return await self.wait_until("active", timeout=timeout) if wait else self

    async def snapshot(self, name: str, *, memory: bool = False, timeout: Timeout = "10m") -> Snapshot:
        """Copy the disk of an active, suspended or failed session; an active one goes on.

        The copy outlives the session and counts for its user's disk until it is deleted.

        Parameters
        ----------
        name
            For people, 1 to 128 printable characters.
        memory
            Copy the memory too. The session must be active; it stands still while its memory is written, and disk and
            memory are of one instant. Sessions from it go on from there, as other guests (hostname, machine-id, SSH
            host key, network address, random seed, clock); they are the same user's, with the same resources. The
            memory file is encrypted as that of a suspended session.

        Raises
        ------
        InvalidTransitionError
            If the session is in another state.
        OperationTimeoutError
            If it took too long; no snapshot is left.
        UnsupportedError
            If the provider cannot, or if the guest's memory cannot become another guest's (Windows, a TPM, UEFI, a GPU,
            a bridge); said at once.
        """
        return await _snapshot.take(self._sdk, self.id, name, memory, timeout)

    async def fork(
        self,
        count: int = 1,
        *,
        memory: bool = False,
        user_id: str | None = None,
        ttl: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: Timeout = "10m",
    ) -> builtins.list[ForkResult]:
        """New sessions that begin from this one as it is now; see `UserSessionManager.fork`."""
        return await _snapshot.fork(
            self._sdk, self.id, count, memory=memory, user_id=user_id, ttl=ttl, tags=tags, timeout=timeout
        )

    async def touch(self) -> Session:
        """Say that the session is in use: its idle clock starts anew. A `ping` does not do that."""
        self._document = await self._call("touch")
        return self

    async def extend(self, by: str) -> Session:
        """Let it live longer, e.g. by "2h"; at most ``session.maximum_ttl`` from creation.

        Raises
        ------
        BudgetExceededError
            If a limit on the month's money does not allow it; nothing is moved.
        """
        self._document = await self._call("extend", by)
        return self

    async def hold(self, name: str, length: str, *, note: str = "") -> Session:
        """Keep the session from being idle for so long, e.g. "2h"; its ttl goes on.

        Parameters
        ----------
        name
            One hold per name, 1 to 64 characters; asked again it is replaced.
        length
            At most a week.
        note
            Why, for those who ask what keeps it alive.
        """
        self._document = await self._call("hold", name, length, note)
        return self

    async def release(self, name: str) -> Session:
        """Let go of a hold. One that is not there is fine."""
        self._document = await self._call("release", name)
        return self

    async def ping(self, *, timeout: Timeout = "10s") -> None:
        """Return when the guest's agent answered. No clock is moved.

        Raises
        ------
        NotReadyError
            If it did not answer in time.
        InvalidTransitionError
            If the session is not active.
        """
        await self._call("ping", timeout=timeout)

    async def explain(self, *, what_if: Sequence[str] = ()) -> Explanation:
        """Why it is alive or not, what would end it and when.

        Parameters
        ----------
        what_if
            Other idle timeouts, e.g. ``["10m", "1h"]``: what they would have done to what was seen.
        """
        return Explanation(await self._call("explain", list(what_if)))

    async def timeline(self) -> Timeline:
        """What happened to it, as a picture (SVG) that a notebook shows."""
        found: builtins.list[Mapping[str, Any]] = []
        while page := await self.events(after=found[-1]["sequence"] if found else 0):
            found += page
        await self.refresh()
        return Timeline(found, now=self._document["observed_at"])

    async def events(self, *, after: int = 0, limit: int = 1000) -> builtins.list[Mapping[str, Any]]:
        """What happened to it, in order, with sequence numbers above `after`."""
        found: builtins.list[Mapping[str, Any]] = await self._sdk._call(
            lambda native: native.events, self.id, after, limit
        )
        return found

    async def watch(self, *, after: int = 0) -> AsyncIterator[Mapping[str, Any]]:
        """Every event of the session with a sequence number above `after`, as it happens, until it is terminated.

        Nothing is missed and nothing comes twice: to go on later, pass the last ``sequence`` that was seen.
        """
        async for event in self._sdk.events.watch(after=after, session_id=self.id):
            yield event
            if event["type"] == "session.lifecycle.terminated":
                return

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.state} of {self.user_id}>"

    def _repr_html_(self) -> str:
        shown = {
            "session": self.id,
            "user": self.user_id,
            "template": self.template,
            "state": self.state,
            "accelerator": self._document["accelerator"],
            "created": self._document["created_at"],
            "expires": self._document["expires_at"],
        }
        rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in shown.items())
        return f"<table>{rows}</table>"

    async def _call(self, verb: str, *arguments: Any, timeout: Timeout = None) -> Any:
        return await self._sdk._call(lambda native: getattr(native, verb), self.id, *arguments, timeout=timeout)
