"""Isolation reports: what is proven about a running session, with the evidence."""

from __future__ import annotations

import html
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infrastructure_sdk import _core
from infrastructure_sdk.exceptions import NotFoundError, ValidationError

if TYPE_CHECKING:
    from infrastructure_sdk.reports.compliance import ComplianceView
    from infrastructure_sdk.reports.explanation import FindingExplanation
    from infrastructure_sdk.reports.signed import SignedReport, StrPath, Verification
    from infrastructure_sdk.sdk import InfrastructureSDK
    from infrastructure_sdk.session import Session

__all__ = [
    "Evidence",
    "Finding",
    "IsolationEngine",
    "IsolationReport",
    "OwnCheck",
    "Verdict",
    "check_catalogue",
    "isolation_check",
    "probed_checks",
]

#: What a check of your own says: pass, fail, unknown or not_applicable, or such a word and a reason.
Verdict = str | tuple[str, str]


def score_text(lower: float, upper: float) -> str:
    """A score for people: the interval in whole points of 100, one number where both ends are the same.

    >>> score_text(4.999, 5.0), score_text(10.0, 99.6)
    ('5', '10 to 100')
    """
    low, high = f"{lower:.0f}", f"{upper:.0f}"
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Evidence:
    """What was seen, where, when and of whom."""

    id: str
    source: str
    locator: str
    vantage: str
    strength: str
    collected_at: str
    sha256: str
    excerpt: str


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: pass, fail, unknown (could not look), not_applicable or waived (an accepted failure).

    `meaning` says what a failure would let somebody do.
    """

    check_id: str
    layer: str
    severity: str
    title: str
    status: str
    reason: str
    fix: str
    controls: str
    meaning: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class IsolationReport:
    """What a session's isolation is worth, as far as it could be seen.

    Attributes
    ----------
    verdict
        isolated, degraded, unproven or not_isolated; gates use this, never the number.
    lower, upper
        Score from 0 to 100 with what is unknown counted as failed and as passed.
    coverage
        Share of the weight that was decided, 0 to 1.
    confidence
        Weight of the evidence behind the passes, 0 to 1.
    """

    id: str
    session_id: str
    vm_id: str
    created_at: str
    verdict: str
    lower: float
    upper: float
    coverage: float
    confidence: float
    findings: tuple[Finding, ...]
    recommendations: tuple[str, ...]
    document: Mapping[str, Any]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> IsolationReport:
        """From the native core's document."""
        evidence_fields = Evidence.__dataclass_fields__
        findings = tuple(
            Finding(
                **{name: item[name] for name in Finding.__dataclass_fields__ if name != "evidence"},
                evidence=tuple(Evidence(**{name: e[name] for name in evidence_fields}) for e in item["evidence"]),
            )
            for item in document["findings"]
        )
        plain = ("id", "session_id", "vm_id", "created_at", "verdict", "lower", "upper", "coverage", "confidence")
        return cls(
            **{name: document[name] for name in plain},
            findings=findings,
            recommendations=tuple(document["recommendations"]),
            document=document,
        )

    def to_dict(self) -> dict[str, Any]:
        """The whole document."""
        return dict(self.document)

    def __repr__(self) -> str:
        return f"<IsolationReport {self.verdict} {self.lower:.0f}..{self.upper:.0f} of session {self.session_id}>"

    def _repr_html_(self) -> str:
        colours = {"pass": "#2e7d32", "fail": "#c62828", "unknown": "#b26a00", "not_applicable": "#757575"}
        rows = "".join(
            f"<tr><td>{html.escape(f.check_id)}</td>"
            f"<td style='color:{colours.get(f.status, 'inherit')}'><b>{html.escape(f.status)}</b></td>"
            f"<td>{html.escape(f.severity)}</td><td>{html.escape(f.title)}</td><td>{html.escape(f.reason)}"
            + "".join(
                f"<details><summary>{html.escape(e.locator)}</summary><code>{html.escape(e.excerpt)}</code></details>"
                for e in f.evidence
            )
            + "</td></tr>"
            for f in self.findings
        )
        return (
            f"<div><b>{html.escape(self.verdict)}</b> &nbsp; {score_text(self.lower, self.upper)} of 100, "
            f"coverage {self.coverage:.0%}<table><thead><tr><th>check</th><th>status</th><th>severity</th>"
            f"<th>what a pass proves</th><th>what was seen</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )


@dataclass(frozen=True)
class OwnCheck:
    """A check of your own, for `IsolationEngine.register`; `isolation_check` makes one of a function.

    Attributes
    ----------
    id
        Two to four words of capitals and digits with hyphens, such as "ACME-01"; none of the catalogue's.
    layer
        compute, network, storage, runtime or memory.
    severity
        low, medium, high or critical.
    title
        What a pass proves.
    facts
        What it reads: names that the catalogue's checks read (`checks` in the native core lists them), "qmp:query-..."
        and "hmp:info ..."; "neighbours:X" is X of every other session, by its id.
    judge
        From the facts, by name, to "pass", "fail", "unknown" or "not_applicable", or such a word and a reason. It is
        asked only when every fact could be had, and should depend on nothing else; on any thread. What raises, or takes
        longer than five seconds, makes its own finding unknown and touches no other.
    floor
        How strong the evidence of a pass must be, E1 to E4.
    fix, controls, meaning
        As in `Finding`.
    root_cause
        Failures with the same word count once; the id if empty.
    """

    id: str
    layer: str
    severity: str
    title: str
    facts: Sequence[str]
    judge: Callable[[Mapping[str, Any]], Verdict]
    floor: str = "E3"
    fix: str = ""
    controls: str = ""
    meaning: str = ""
    root_cause: str = ""

    def _definition(self) -> str:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "judge"}
        return json.dumps({**plain, "facts": list(self.facts)})

    def _answer(self, facts: Mapping[str, str]) -> tuple[str, str]:
        verdict = self.judge({name: json.loads(text) for name, text in facts.items()})
        return (verdict, "") if isinstance(verdict, str) else (str(verdict[0]), str(verdict[1]))


def isolation_check(
    id: str, *, layer: str, severity: str, title: str, facts: Sequence[str], **more: str
) -> Callable[[Callable[[Mapping[str, Any]], Verdict]], OwnCheck]:
    """Make an `OwnCheck` of a function; the arguments are its attributes.

    Examples
    --------
    >>> @isolation_check("ACME-01", layer="runtime", severity="high", title="It has a name", facts=["qmp:query-name"])
    ... def named(facts):
    ...     return "pass" if facts["qmp:query-name"].get("name") else ("fail", "it has no name")
    """

    def make(judge: Callable[[Mapping[str, Any]], Verdict]) -> OwnCheck:
        return OwnCheck(id, layer, severity, title, tuple(facts), judge, **more)

    return make


class IsolationEngine:
    """Looks at running sessions."""

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    async def validate(
        self,
        session: Session | str,
        *,
        layers: Sequence[str] = (),
        probes: bool | Sequence[str] = False,
        timeout: str | float | None = "60s",
    ) -> IsolationReport:
        """Judge one session; the other running ones are looked at for what they may share with it.

        The report is signed and kept before it is returned: see `history` and `report`.

        Some checks are only decided by trying: they are `unknown` until probes were run, and again when what these
        found is too old (10 minutes for critical checks, else 30). A probe puts frames in where the VM's network card
        meets its network, and opens the VM's sockets, disks and memory under another user's id; only sockets of the
        SDK itself, ports of this host and addresses of metadata services are aimed at. It takes a second or two.

        Parameters
        ----------
        session
            A session or its id.
        layers
            Of compute, network, storage, runtime, memory; all if empty.
        probes
            True for all active probes, or ids of checks to probe for: those of `probed_checks()`.
        timeout
            Seconds or a duration such as "60s".

        Raises
        ------
        NotFoundError
            If there is no such session.
        StoreError
            If the report cannot be kept.
        ValidationError
            If `probes` names a check that has no probe.
        """
        found = _id_of(session)
        wanted = (probed_checks() if probes else []) if isinstance(probes, bool) else list(probes)
        document = await self._sdk._call(
            lambda native: native.validate_isolation, found, list(layers), wanted, timeout=timeout
        )
        return IsolationReport.from_document(document)

    async def register(self, check: OwnCheck) -> None:
        """Take a check of your own into every report from now on: score, drift and exports count it like any other.

        Raises
        ------
        ValidationError
            If a field is not allowed: an id that is taken, no facts, or a word that is none.
        """
        await self._sdk._call(lambda native: native.register_check, check._definition(), check._answer)

    async def watch(self, session: Session | str | None = None, *, after: int = 0) -> AsyncIterator[Mapping[str, Any]]:
        """What changes in the isolation of running sessions, as it happens, for ever.

        Sessions are looked at every ``isolation.recheck_interval``, and within about a second when their files, a
        network link, a packet rule or page merging change. ``session.isolation.checked``: the first look after a start,
        a claim or a resume. ``session.isolation.drifted``: a check fails that did not, or could not be looked at twice
        in a row. ``session.isolation.restored``: every change is for the better.

        Parameters
        ----------
        session
            A session or its id; all if None.
        after
            The last ``sequence`` that was seen: what came after it is given first.

        Yields
        ------
        Mapping
            An event. The ``data`` of ``checked`` has ``report``, ``epoch``, ``verdict``, ``lower`` and ``upper``; that
            of the others ``report``, ``epoch``, ``verdict`` (``from``, ``to``) and ``changes``, each with ``check``,
            ``severity``, ``from``, ``to`` and ``reason``.

        Raises
        ------
        CancelledError
            When the SDK is closed.
        """
        found = session if session is None or isinstance(session, str) else session.id
        async for event in self._sdk.events.watch(after=after, session_id=found):
            if event["type"].startswith("session.isolation."):
                yield event

    async def audit(
        self,
        pids: Iterable[int] = (),
        *,
        all: bool = False,
        qmp: Mapping[int, str | os.PathLike[str]] | None = None,
        layers: Sequence[str] = (),
        timeout: str | float | None = "60s",
    ) -> list[IsolationReport]:
        """Judge QEMU processes of this host, whoever started them, each against the others.

        Nothing is started or changed. What needs the monitor of a process is `unknown` where no QMP socket is at hand;
        the processes of this SDK's own sessions are looked at through their sessions.

        Parameters
        ----------
        pids
            Process ids.
        all
            Every process that runs a program named qemu-system-* or qemu-kvm, instead of `pids`.
        qmp
            For a process, the path of a QMP unix socket that no other client holds.
        layers
            Of compute, network, storage, runtime, memory; all if empty.
        timeout
            Seconds or a duration such as "60s".

        Returns
        -------
        list of IsolationReport
            One for each process, by pid; `session_id` is "pid N" where no session of this SDK owns it.

        Raises
        ------
        ValidationError
            If both or neither of `pids` and `all` are given, a pid is not positive or there twice, or `qmp` names a
            process that is not among `pids`.
        NotFoundError
            If a process does not run.
        """
        wanted = list(pids)
        sockets = {pid: os.fspath(path) for pid, path in (qmp or {}).items()}
        if bool(wanted) == all:
            raise ValidationError(
                "pids: give process ids or all=True, and not both",
                context={"field": "pids", "value": str(wanted), "allowed": "process ids, or all=True"},
            )
        for pid in sockets:
            if not all and pid not in wanted:
                raise ValidationError(
                    f"qmp: process {pid} is not among pids",
                    context={"field": "qmp", "value": str(pid), "allowed": ", ".join(map(str, wanted))},
                )
        chosen = [(pid, sockets.get(pid, "")) for pid in (sockets if all else wanted)]
        documents = await self._sdk._call(
            lambda native: native.audit_isolation, chosen, all, list(layers), timeout=timeout
        )
        return [IsolationReport.from_document(document) for document in documents]

    # The documents of reports are read by a package that builds upon this module: it is imported when it is used.

    async def report(self, report_id: str) -> SignedReport:
        """A kept report.

        Raises
        ------
        NotFoundError
            If there is none; the oldest reports of a session are removed, see ``isolation.kept_reports``.
        """
        from infrastructure_sdk.reports.signed import SignedReport

        return SignedReport(**await self._sdk._call(lambda native: native.isolation_report, report_id))

    async def history(self, session: Session | str) -> list[SignedReport]:
        """The kept reports of a session, oldest first, also when it has ended; empty if there is none."""
        from infrastructure_sdk.reports.signed import SignedReport

        kept = await self._sdk._call(lambda native: native.isolation_history, _id_of(session))
        return [SignedReport(**item) for item in kept]

    async def chain(self, session: Session | str) -> str:
        """The kept reports of a session as a file for `verify`: an envelope a line, rotations of keys among them."""
        text: str = await self._sdk._call(lambda native: native.isolation_chain, _id_of(session))
        return text

    async def anchor(self, sessions: Iterable[Session | str] = ()) -> str:
        """A signed record of where the chains of these sessions end. Kept elsewhere, it shows what was cut off.

        Parameters
        ----------
        sessions
            Sessions or their ids; all that have reports if empty.

        Raises
        ------
        NotFoundError
            If a session has no report.
        """
        wanted = [_id_of(session) for session in sessions]
        text: str = await self._sdk._call(lambda native: native.isolation_anchor, wanted)
        return text

    async def public_keys(self) -> str:
        """The keys that this installation has signed reports with, oldest first, as PEM."""
        text: str = await self._sdk._call(lambda native: native.isolation_keys)
        return text

    async def rotate_key(self) -> str:
        """Sign with a new key from now on; the old one signs the change and is removed. Gives the new key's id."""
        key_id: str = await self._sdk._call(lambda native: native.rotate_isolation_key)
        return key_id

    async def verify(
        self,
        files: StrPath | Iterable[StrPath],
        *,
        keys: StrPath | Iterable[StrPath] = (),
        anchor: StrPath | None = None,
        session: str = "",
        complete: bool = False,
        max_age: str | None = None,
    ) -> Verification:
        """As `infrastructure_sdk.reports.signed.verify`, which needs no open SDK; without keys, this installation's."""
        from infrastructure_sdk.reports import signed

        chosen = signed.texts_of("keys", keys) or [await self.public_keys()]
        return signed.verify_with(files, chosen, anchor=anchor, session=session, complete=complete, max_age=max_age)

    async def compliance(self, session: Session | str, framework: str = "nist-800-53") -> ComplianceView:
        """The last kept report of a session by the controls of a framework.

        Parameters
        ----------
        session
            A session or its id.
        framework
            nist-800-53, cis, soc2 or pci.

        Raises
        ------
        NotFoundError
            If the session has no report yet.
        ValidationError
            If there is no such framework.
        """
        from infrastructure_sdk.reports.compliance import view_of

        return view_of((await self._last(session)).report, framework)

    async def explain(self, finding: Finding | str) -> FindingExplanation:
        """What a finding means, what it rests on and what would change it.

        Parameters
        ----------
        finding
            A `Finding`, "REPORT_ID/CHECK_ID" of a kept report, "SESSION_ID/CHECK_ID" for its last one, or a check's id
            alone, which tells what it is about.

        Raises
        ------
        NotFoundError
            If there is no such report or check.
        """
        from infrastructure_sdk.reports.explanation import explain, explain_check

        if isinstance(finding, Finding):
            return explain(finding)
        place, slash, check_id = finding.rpartition("/")
        if not slash:
            return explain_check(check_id)
        try:
            report = (await self.report(place)).report
        except NotFoundError:
            report = (await self._last(place)).report
        for found in report.findings:
            if found.check_id == check_id:
                return explain(found, report)
        raise NotFoundError(
            f"report {report.id} has no check '{check_id}'", context={"field": "finding", "value": finding}
        )

    async def _last(self, session: Session | str) -> SignedReport:
        kept = await self.history(session)
        if not kept:
            raise NotFoundError(
                f"there is no report of session '{_id_of(session)}': validate it first",
                context={"field": "session", "value": _id_of(session)},
            )
        return kept[-1]


def probed_checks() -> list[str]:
    """Ids of the checks that active probes decide, or add to."""
    return _core.probed_checks()


def check_catalogue() -> list[dict[str, Any]]:
    """The checks of this build as plain data, by id.

    Each has `id`, `layer`, `severity`, `title`, `fix`, `controls`, `meaning`, `floor` (the weakest evidence, E1 to E4,
    that a pass may rest on), `root_cause`, `facts` (what it looks at of a local VM; "neighbours:X" is X of every other)
    and `kubernetes_facts`, the same of a cluster's VM: "k8s:" objects of the API, "exec:" seen inside the launcher's
    pod, "agent:" seen by an agent on the node, "probe." tried. This build has no collectors of those, so there every
    check is unknown.
    """
    return _core.checks()


def _id_of(session: Session | str) -> str:
    return session if isinstance(session, str) else session.id
