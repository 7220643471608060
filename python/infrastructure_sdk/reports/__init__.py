"""Isolation reports as documents for other tools and for people.

Every format is a function from a signed report to a text; nothing here looks at a session or checks a signature.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from infrastructure_sdk.exceptions import ValidationError
from infrastructure_sdk.reports import junit, oscal, page, policy_report, prometheus, sarif

if TYPE_CHECKING:
    from infrastructure_sdk.reports.signed import SignedReport

__all__ = ["FORMATS", "export"]


def _dsse(signed: SignedReport) -> str:
    return signed.envelope + "\n"


def _json(signed: SignedReport) -> str:
    return json.dumps(signed.report.to_dict(), indent=2) + "\n"


FORMATS: dict[str, Callable[[SignedReport], str]] = {
    "json": _json,
    "dsse": _dsse,
    "sarif": sarif.document,
    "oscal": oscal.document,
    "junit": junit.document,
    "policyreport": policy_report.document,
    "prometheus": prometheus.document,
    "html": page.document,
}


def export(signed: SignedReport, format: str) -> str:
    """The report as a text in one of `FORMATS`."""
    write = FORMATS.get(format)
    if write is None:
        raise ValidationError(
            f"format: '{format}' is not known; allowed: {', '.join(FORMATS)}",
            context={"field": "format", "value": format, "allowed": ", ".join(FORMATS)},
        )
    return write(signed)
