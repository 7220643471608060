"""An HTML page for people: verdict, score, layers, findings worst first, the evidence one click away.

It holds no script and loads nothing. Every text is escaped: reasons and excerpts may come from a guest.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from infrastructure_sdk.isolation import score_text
from infrastructure_sdk.reports.controls import controls_of
from infrastructure_sdk.reports.page_style import STYLE

if TYPE_CHECKING:
    from infrastructure_sdk.isolation import Evidence, Finding
    from infrastructure_sdk.reports.signed import SignedReport

VERDICTS = {
    "isolated": "Isolated: every check that matters passed on fresh evidence.",
    "degraded": "Degraded: nothing serious failed, some lesser check did or could not be seen.",
    "unproven": "Unproven: something serious could not be seen, so isolation is not shown.",
    "not_isolated": "Not isolated: at least one serious check failed.",
}
WORDS = {
    "fail": "failed",
    "unknown": "not seen",
    "waived": "waived",
    "pass": "passed",
    "not_applicable": "not applicable",
}
SEVERITIES = ("critical", "high", "medium", "low")
STRENGTHS = {
    "E0": "own intent",
    "E1": "declared",
    "E2": "reported by another part",
    "E3": "kernel or hypervisor state",
    "E4": "behaviour, seen from both sides",
}


def document(signed: SignedReport) -> str:
    """The report as a page."""
    report = signed.report
    title = f"Isolation of {report.session_id}"
    body = (
        _head(signed),
        _advice(report.recommendations),
        _layers(report.document["layers"], report.findings),
        _findings(report.findings, report.document["waivers"]),
        _proof(signed),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _when(moment: str) -> str:
    return f"{moment[:10]} {moment[11:19]} UTC"


def _bar(lower: float, upper: float) -> str:
    """From 0 to 100: what is proven, and what may be on top."""
    return (
        f'<span class="bar" role="img" aria-label="{score_text(lower, upper)} of 100">'
        f'<i class="may" style="width:{upper:.1f}%"></i><i class="is" style="width:{lower:.1f}%"></i></span>'
    )


def _head(signed: SignedReport) -> str:
    report = signed.report
    counts = {status: sum(f.status == status for f in report.findings) for status in WORDS}
    chips = "".join(
        f'<li class="{status}"><b>{count}</b> {WORDS[status]}</li>' for status, count in counts.items() if count
    )
    return (
        f'<header class="{escape(report.verdict)}"><p class="what">Isolation of session</p>'
        f"<h1>{escape(report.session_id)}</h1>"
        f'<p class="verdict">{escape(VERDICTS.get(report.verdict, report.verdict))}</p>'
        f'<p class="score"><b>{score_text(report.lower, report.upper)}</b> of 100</p>{_bar(report.lower, report.upper)}'
        '<p class="note">The lower number counts what could not be seen as failed, the upper one as passed. '
        f"{report.coverage:.0%} of the weight was decided; the evidence behind the passes has a weight of "
        f"{report.confidence:.0%}. Made {_when(report.created_at)}.</p>"
        f'<ul class="counts">{chips}</ul></header>'
    )


def _advice(recommendations: Iterable[str]) -> str:
    lines = "".join(f"<li>{escape(text)}</li>" for text in recommendations)
    return f"<section><h2>What would help most</h2><ol>{lines}</ol></section>" if lines else ""


def _layers(layers: Iterable[dict[str, Any]], findings: tuple[Finding, ...]) -> str:
    rows = []
    for layer in layers:
        own = [finding for finding in findings if finding.layer == layer["layer"]]
        counts = ", ".join(
            f"{sum(f.status == status for f in own)} {word}"
            for status, word in WORDS.items()
            if any(f.status == status for f in own)
        )
        rows.append(
            f"<tr><th scope=row>{escape(layer['layer'])}</th><td>{_bar(layer['lower'], layer['upper'])}</td>"
            f"<td class=number>{score_text(layer['lower'], layer['upper'])}</td><td>{escape(counts)}</td></tr>"
        )
    return (
        "<section><h2>Layers</h2><p class=note>The weakest layer is the score of the whole.</p>"
        f"<table class=layers><tbody>{''.join(rows)}</tbody></table></section>"
    )


def _findings(findings: tuple[Finding, ...], waivers: list[dict[str, Any]]) -> str:
    statuses = tuple(WORDS)
    ordered = sorted(findings, key=lambda f: (statuses.index(f.status), SEVERITIES.index(f.severity), f.check_id))
    parts = []
    for status in statuses:
        own = [finding for finding in ordered if finding.status == status]
        if own:
            parts.append(f"<h3>{WORDS[status].capitalize()} <small>{len(own)}</small></h3>")
            parts.extend(_finding(finding, waivers) for finding in own)
    return f"<section><h2>Findings</h2>{''.join(parts)}</section>"


def _finding(finding: Finding, waivers: list[dict[str, Any]]) -> str:
    facts = [("A failure would mean", finding.meaning), ("To mend it", finding.fix)]
    if finding.status in ("pass", "not_applicable"):
        facts = facts[:1]
    facts += [
        ("Accepted", f"{w['reason']} ({w['approved_by']}, until {_when(w['expires_at'])})")
        for w in waivers
        if finding.status == "waived" and w["check_id"] == finding.check_id
    ]
    facts.append(("Controls", ", ".join(str(control) for control in controls_of(finding.controls))))
    terms = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts if text)
    evidence = "".join(_evidence(item) for item in finding.evidence)
    return (
        f'<details class="finding {finding.status}"><summary><span class="chip">{WORDS[finding.status]}</span>'
        f'<span class="severity {escape(finding.severity)}">{escape(finding.severity)}</span>'
        f"<b>{escape(finding.check_id)}</b> <span class=title>{escape(finding.title)}</span>"
        f"<span class=reason>{escape(finding.reason)}</span></summary>"
        f"<dl>{terms}</dl><h4>Evidence</h4>{evidence or '<p class=note>None could be had.</p>'}</details>"
    )


def _evidence(item: Evidence) -> str:
    about = f"{item.source}, seen from the {item.vantage}, {STRENGTHS.get(item.strength, '')} ({item.strength})"
    return (
        f'<div class="evidence"><p><code>{escape(item.locator)}</code></p><pre>{escape(item.excerpt) or "-"}</pre>'
        f"<p class=note>{escape(about)}, {_when(item.collected_at)}<br>SHA-256 "
        f"<code>{escape(item.sha256)}</code></p></div>"
    )


def _proof(signed: SignedReport) -> str:
    rows = (
        ("Report", signed.report_id),
        ("Number in its session's chain", str(signed.sequence)),
        ("Virtual machine", signed.report.vm_id),
        ("Instance", signed.report.document["instance_epoch"]),
        ("Signing key", signed.key_id),
        ("SHA-256 of the signed envelope", signed.digest),
    )
    cells = "".join(f"<tr><th scope=row>{name}</th><td><code>{escape(text)}</code></td></tr>" for name, text in rows)
    return (
        "<section><h2>How to check this report</h2><p>This page is a copy for reading. What is signed is the envelope: "
        f"get it with <code>infra-sdk isolation report {escape(signed.report_id)} --format dsse</code> and check it "
        "with <code>infra-sdk isolation verify</code>. A signature shows who signed and that nothing was changed; "
        "it does not show that the collector told the truth.</p>"
        f"<table class=proof><tbody>{cells}</tbody></table></section>"
    )
