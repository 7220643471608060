"""What came of simulations, as frozen objects, tables and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from infrastructure_sdk import _core
from infrastructure_sdk.simulation.picture import draw

__all__ = ["Comparison", "Decision", "Outcome", "PlannedSession", "Result", "Waits"]

StrPath = str | os.PathLike[str]
T = TypeVar("T")


def _read(kind: type[T], document: Mapping[str, Any]) -> T:
    """The fields of a dataclass from a document with the same names."""
    return kind(**{field.name: document[field.name] for field in fields(kind)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Outcome:
    """What became of one planned session, or of all together.

    Attributes
    ----------
    ran_seconds
        For which it is charged: from its record to its suspension or end, and again from each resume.
    used_seconds
        Of it: somebody or something used it.
    missed_seconds
        Use that was planned while it did not run.
    waited_seconds
        Of people, for it to be active.
    cost
        In the currency.
    sessions, lost
        Made; ended, not by their user, with planned use ahead.
    cold_starts, warm_starts, resumes
        Booted; taken from a warm pool; resumed because somebody came back.
    suspensions
        By clocks and policies.
    suspended_in_use, wanted_again, wrongly_suspended
        In use at that moment; suspended or ended when not in use, but wanted again soon after; both together.
    denied, gave_up
        Times that somebody was refused; waits that had no end before the need was over. They are in no waiting time.
    failed
        Starts and VMs that failed.
    """

    ran_seconds: float
    used_seconds: float
    missed_seconds: float
    waited_seconds: float
    cost: float
    sessions: int
    lost: int
    cold_starts: int
    warm_starts: int
    resumes: int
    suspensions: int
    suspended_in_use: int
    wanted_again: int
    wrongly_suspended: int
    denied: int
    gave_up: int
    failed: int


@dataclass(frozen=True)
class Waits:
    """How long people waited, in seconds: so many percent waited no longer."""

    count: int
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    longest_seconds: float
    total_seconds: float


@dataclass(frozen=True)
class Decision:
    """How often a policy answered what at a decision point, and what became of it.

    Attributes
    ----------
    count
        In force: carried out, or left to the engine.
    shadowed
        Said in shadow, or by a canary about others than its tenants.
    overruled
        Not allowed (a rate limit, a provider that cannot) or not possible.
    """

    point: str
    answer: str
    count: int
    shadowed: int = 0
    overruled: int = 0


@dataclass(frozen=True)
class PlannedSession:
    """One planned session and what became of it; at the same place in every result of its workload."""

    user: str
    tenant: str
    template: str
    start: str
    ended: str
    baseline_ran_seconds: float
    baseline_cost: float
    outcome: Outcome


class Result:
    """What a policy did to a workload. Immutable."""

    def __init__(self, native: _core.SimulationResult) -> None:
        self._native = native
        self._document: dict[str, Any] = json.loads(native.to_json(False))
        self.policy: str = self._document["policy"]
        self.seed: int = self._document["seed"]
        self.currency: str = self._document["currency"]
        self.total = _read(Outcome, self._document["total"])
        self.waits = _read(Waits, self._document["waits"])
        self.start_waits = _read(Waits, self._document["start_waits"])
        self.resume_waits = _read(Waits, self._document["resume_waits"])
        self.decisions = tuple(_read(Decision, line) for line in self._document["decisions"])
        self.notes: Sequence[str] = tuple(self._document["notes"])

    @property
    def hours_run(self) -> float:
        """Session-hours that are charged."""
        return self.total.ran_seconds / 3600

    @property
    def baseline_hours(self) -> float:
        """The same, had every session run from its start until its user ended it."""
        return float(self._document["baseline"]["ran_seconds"]) / 3600

    @property
    def hours_saved(self) -> float:
        """Of the baseline's hours."""
        return float(self._document["saved"]["seconds"]) / 3600

    @property
    def money_saved(self) -> float:
        """Of the baseline's cost, in `currency`."""
        return float(self._document["saved"]["money"])

    @property
    def session_hours(self) -> float:
        """Hours that sessions existed, suspended or not."""
        return float(self._document["existed_seconds"]) / 3600

    @cached_property
    def sessions(self) -> Sequence[PlannedSession]:
        """One line for each planned session, in the order of the workload."""
        lines = json.loads(self._native.to_json(True))["sessions"]
        names = [field.name for field in fields(PlannedSession) if field.name != "outcome"]
        return tuple(
            PlannedSession(**{name: line[name] for name in names}, outcome=_read(Outcome, line)) for line in lines
        )

    @property
    def hours(self) -> Mapping[str, Sequence[float]]:
        """Mean numbers of sessions in each hour: ``ran``, ``used`` of them, and the ``baseline``."""
        return {name: tuple(values) for name, values in self._document["hours"].items()}

    def to_dict(self, *, sessions: bool = False) -> dict[str, Any]:
        """Everything as a document."""
        return json.loads(self.to_json(sessions=sessions))  # type: ignore[no-any-return]

    def to_json(self, *, sessions: bool = True) -> str:
        """One line, with sorted keys: the same bytes for the same input and seed."""
        return self._native.to_json(sessions)

    def table(self) -> Table:
        """For rich: the figures of this result beside the baseline."""
        return _table([self])

    def plot(self, path: StrPath) -> Path:
        """Draw it into an SVG file. @returns the file"""
        return _save(path, [self])

    def _repr_html_(self) -> str:
        return draw([self])

    def __repr__(self) -> str:
        return (
            f"<Result {self.policy}: {self.hours_run:.0f} h run, {self.hours_saved:.0f} h saved, "
            f"{self.total.wrongly_suspended} wrongly suspended>"
        )


class Comparison:
    """Two policies on the same workload, and every session that they treat differently. Immutable."""

    def __init__(self, before: Result, after: Result, document: Mapping[str, Any]) -> None:
        self.before = before
        self.after = after
        self._document = dict(document)

    @property
    def sessions(self) -> Sequence[Mapping[str, Any]]:
        """Sessions that differ, the largest difference first: ``index``, ``user``, ``start``, ``before``, ``after``."""
        lines: Sequence[Mapping[str, Any]] = self._document["sessions"]
        return tuple(lines)

    @property
    def hours(self) -> float:
        """Hours that the second runs more than the first; below zero it runs less."""
        return float(self._document["ran_seconds"]) / 3600

    @property
    def cost(self) -> float:
        """What the second costs more."""
        return float(self._document["cost"])

    def to_dict(self) -> dict[str, Any]:
        """Everything as a document."""
        return dict(self._document)

    def table(self) -> Table:
        """For rich: both results and the baseline, figure by figure."""
        return _table([self.before, self.after])

    def session_table(self, most: int = 20) -> Table:
        """For rich: the sessions that differ most."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("user")
        table.add_column("from")
        for title in ("hours", "hours", "cost", "cost", "wrong", "wrong", "waited", "waited"):
            table.add_column(title, justify="right")
        for line in self.sessions[:most]:
            pair = (line["before"], line["after"])
            cells = [f"{side['ran_seconds'] / 3600:.1f}" for side in pair]
            cells += [f"{side['cost']:.2f}" for side in pair]
            cells += [str(side["wrongly_suspended"]) for side in pair]
            cells += [_seconds(side["waited_seconds"]) for side in pair]
            table.add_row(line["user"], line["start"][:16], *cells)
        return table

    def plot(self, path: StrPath) -> Path:
        """Draw it into an SVG file. @returns the file"""
        return _save(path, [self.before, self.after])

    def _repr_html_(self) -> str:
        return draw([self.before, self.after])

    def __repr__(self) -> str:
        return (
            f"<Comparison {self.before.policy} -> {self.after.policy}: {self.hours:+.0f} h, "
            f"{len(self.sessions)} sessions differ>"
        )


def _seconds(value: float) -> str:
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def _figures(result: Result) -> list[tuple[str, str]]:
    total, waits = result.total, result.waits
    return [
        ("hours run", f"{result.hours_run:,.1f}"),
        ("  of them in use", f"{total.used_seconds / 3600:,.1f}"),
        (f"cost ({result.currency})", f"{total.cost:,.2f}"),
        ("hours saved", f"{result.hours_saved:,.1f}"),
        (f"money saved ({result.currency})", f"{result.money_saved:,.2f}"),
        ("suspensions", f"{total.suspensions:,}"),
        ("wrongly suspended", f"{total.wrongly_suspended:,}"),
        ("  in use", f"{total.suspended_in_use:,}"),
        ("  wanted again soon", f"{total.wanted_again:,}"),
        ("sessions lost", f"{total.lost:,}"),
        ("use missed", _seconds(total.missed_seconds)),
        ("denied", f"{total.denied:,}"),
        ("waited in vain", f"{total.gave_up:,}"),
        ("cold starts", f"{total.cold_starts:,}"),
        ("warm starts", f"{total.warm_starts:,}"),
        ("resumes", f"{total.resumes:,}"),
        ("waits", f"{waits.count:,}"),
        ("  p50", _seconds(waits.p50_seconds)),
        ("  p95", _seconds(waits.p95_seconds)),
        ("  p99", _seconds(waits.p99_seconds)),
    ]


def _table(results: Sequence[Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("always on", justify="right")
    for result in results:
        table.add_column(result.policy, justify="right")
    first = results[0]
    baseline = {
        "hours run": f"{first.baseline_hours:,.1f}",
        f"cost ({first.currency})": f"{first.total.cost + first.money_saved:,.2f}",
    }
    columns = [_figures(result) for result in results]
    for rows in zip(*columns, strict=True):
        title = rows[0][0]
        table.add_row(title, baseline.get(title, ""), *(value for _, value in rows))
    notes = dict.fromkeys(note for result in results for note in result.notes)
    if notes:
        table.caption, table.caption_justify = "\n".join(notes), "left"
    for result in results:
        for decision in result.decisions:
            cells = [_times(decision) if other is result else "" for other in results]
            table.add_row(f"{result.policy}: {decision.point} {decision.answer}", "", *cells)
    return table


def _times(decision: Decision) -> str:
    aside = [f"{number:,} {what}" for what in ("shadowed", "overruled") if (number := getattr(decision, what))]
    return f"{decision.count:,}" + (f" ({', '.join(aside)})" if aside else "")


def _save(path: StrPath, results: Sequence[Result]) -> Path:
    target = Path(path)
    target.write_text(draw(results), encoding="utf-8")
    return target
