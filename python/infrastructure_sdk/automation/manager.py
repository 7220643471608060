"""Automation of one installation: running handlers and schedules, runbooks, what is parked, the audit trail."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import html
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from infrastructure_sdk.automation.audit import AuditTrail
from infrastructure_sdk.automation.clock import Clock, SystemClock
from infrastructure_sdk.automation.declare import Runbook
from infrastructure_sdk.automation.loading import load
from infrastructure_sdk.automation.parameters import bind
from infrastructure_sdk.automation.recorder import NotForetoldError, Recorder, Step, texts_of
from infrastructure_sdk.automation.runner import Context, Runner
from infrastructure_sdk.automation.store import Parked, Store
from infrastructure_sdk.exceptions import InvalidTransitionError, ValidationError
from infrastructure_sdk.logging import correlation_id

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK

__all__ = ["Automation", "RunbookReport"]

Source = str | Path | ModuleType | Callable[..., Any]


@dataclass(frozen=True)
class RunbookReport:
    """What a runbook did, or in a dry run would do.

    Attributes
    ----------
    id
        Of its records in the audit trail; the correlation id of all that it called.
    outcome
        "succeeded", "failed", or of a dry run "incomplete" when it could not foretell how to go on.
    error
        Why, if it did not succeed.
    result
        What the function returned; None unless it succeeded.
    steps
        Every change, in order.
    """

    id: str
    name: str
    dry_run: bool
    outcome: str
    error: str
    result: Any
    steps: tuple[Step, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a document; the result as text unless it is a plain value."""
        plain = isinstance(self.result, str | int | float | bool | type(None))
        shown = self.result if plain else repr(self.result)
        return {**vars(self), "result": shown, "steps": [vars(step) for step in self.steps]}

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{html.escape(str(step))}</li>" for step in self.steps)
        state = f"{self.outcome}{', dry run: nothing was changed' if self.dry_run else ''}"
        return f"<p><b>{html.escape(self.name)}</b>: {state}</p><ol>{rows}</ol><p>{html.escape(self.error)}</p>"

    def __str__(self) -> str:
        head = f"{self.name}: {self.outcome}{' (dry run, nothing was changed)' if self.dry_run else ''}"
        lines = [head, *(f"{number:3}. {step}" for number, step in enumerate(self.steps, start=1))]
        return "\n".join([*lines, self.error] if self.error else lines)


class Automation:
    """Handlers of events, schedules and runbooks.

    Its state is the folder ``automation`` of the state directory: ``state.db`` (how far each handler came) and
    ``audit.jsonl`` (what was run by whom).
    """

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk
        self._running = False
        self._trail: AuditTrail | None = None

    async def run(
        self,
        *sources: Source,
        once: bool = False,
        clock: Clock | None = None,
        concurrency: int = 8,
        actor: str | None = None,
    ) -> None:
        """Run the handlers and schedules of `sources` until it is cancelled.

        Each event reaches each handler at least once, each due run its schedule: both go on from where they were, also
        in another process. What a stop interrupts is done again.

        Parameters
        ----------
        sources
            Python files, modules, or functions with `on` or `schedule`.
        once
            Handle what is there and due now, then return.
        clock
            The system's if None.
        concurrency
            How many functions may run at a time, 1 to 1000.
        actor
            Who it is for in the audit trail; this process's user if None.

        Raises
        ------
        ValidationError, NotFoundError
            If a source is wrong.
        InvalidTransitionError
            If it runs already in this process.
        StoreError
            If its state cannot be written.
        """
        if not isinstance(concurrency, int) or not 1 <= concurrency <= 1000:
            why = f"concurrency: {concurrency!r} is not allowed; 1 to 1000"
            raise ValidationError(why, context={"field": "concurrency", "value": repr(concurrency)})
        declared = load(*sources)
        if not declared.handlers and not declared.schedules:
            raise ValidationError("sources: none of them has a handler or a schedule", context={"field": "sources"})
        self._sdk._opened()
        if self._running:
            raise InvalidTransitionError("automation runs already: stop that run first")
        self._running = True
        try:
            with self._store() as store:
                slots = asyncio.Semaphore(concurrency)
                context = Context(self._sdk, store, self._audit(), clock or SystemClock(), actor or _user(), slots)
                await Runner(context, declared).run(once=once)
        finally:
            self._running = False

    async def run_runbook(
        self,
        runbook: Callable[..., Any] | str | Path,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        clock: Clock | None = None,
    ) -> RunbookReport:
        """Run a runbook, or with `dry_run` find out what it would do.

        Parameters
        ----------
        runbook
            A function with `runbook`, or a file; then `name` says which of it.
        parameters
            By name; texts are read as the parameter's type.
        dry_run
            Whether it only plans: what reads is real, what changes is written down and not made.
        actor
            Who runs it, for the audit trail; this process's user if None.

        Returns
        -------
        RunbookReport
            Also when it failed.

        Raises
        ------
        ValidationError, NotFoundError
            If there is no such runbook or a parameter is wrong. Nothing was run.
        """
        chosen = _chosen(runbook, name)
        bound = bind(chosen.parameters, parameters or {})
        self._sdk._opened()
        secrets = texts_of(bound[each.name] for each in chosen.parameters if each.secret)
        shown = {each.name: "***" if each.secret else repr(bound[each.name]) for each in chosen.parameters}
        recorder = Recorder(dry=dry_run, secrets=secrets)
        now = (clock or SystemClock()).now
        audit = self._audit()
        with correlation_id() as correlation:
            record = {
                "id": correlation,
                "kind": "runbook",
                "name": chosen.name,
                "dry_run": dry_run,
                "source_sha256": chosen.source,
                "actor": actor or _user(),
                "parameters": shown,
            }
            audit.append({**record, "stage": "started", "time": now().isoformat()})
            outcome, error, result = "failed", "stopped", None
            try:
                result = await chosen.function(recorder.wrap_sdk(self._sdk), **bound)
                outcome, error = "succeeded", ""
            except NotForetoldError as caught:
                outcome, error = "incomplete", recorder.hide(str(caught))
            except Exception as caught:
                error = recorder.hide(f"{type(caught).__name__}: {caught}")
            finally:
                steps = [vars(step) for step in recorder.steps]
                ending = {"outcome": outcome, "error": error, "steps": steps, "time": now().isoformat()}
                audit.append({**record, **ending, "stage": "finished"})
        return RunbookReport(correlation, chosen.name, dry_run, outcome, error, result, tuple(recorder.steps))

    async def parked(self) -> list[Parked]:
        """Events and runs that were given up after their last try, the oldest first."""
        with self._store() as store:
            return store.parked()

    async def retry(self, name: str, key: str) -> None:
        """Have a parked one tried anew when the handler or schedule is started the next time.

        Raises
        ------
        NotFoundError
            If it is not parked.
        """
        with self._store() as store:
            store.again(name, key)

    async def history(self, *, name: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Records of the audit trail, the newest first; of one handler, schedule or runbook if `name` is given."""
        found = [record for record in self._audit().records() if name in (None, record.get("name"))]
        return found[: -limit - 1 : -1] if limit > 0 else []

    async def verify_history(self) -> list[str]:
        """What is wrong with the audit trail, by line; empty if no line was changed, moved or taken out."""
        return self._audit().problems()

    def __repr__(self) -> str:
        return f"<Automation in {self._folder()}{', running' if self._running else ''}>"

    def _folder(self) -> Path:
        from infrastructure_sdk.config import default_state_directory

        configured = self._sdk.config.to_dict()["store"]["state_directory"]
        return Path(configured or default_state_directory()).absolute() / "automation"

    @contextlib.contextmanager
    def _store(self) -> Iterator[Store]:
        self._make_folder()
        store = Store(self._folder() / "state.db")
        try:
            yield store
        finally:
            store.close()

    def _audit(self) -> AuditTrail:
        self._make_folder()
        if self._trail is None:
            self._trail = AuditTrail(self._folder() / "audit.jsonl")
        return self._trail

    def _make_folder(self) -> None:
        self._sdk._opened()  # its owner alone writes there
        self._folder().mkdir(mode=0o700, exist_ok=True)


def _chosen(runbook: Callable[..., Any] | str | Path, name: str | None) -> Runbook:
    declared = load(runbook)
    if name is not None or len(declared.runbooks) != 1:
        return declared.runbook(name or "")
    return declared.runbooks[0]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
