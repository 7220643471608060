"""Signed reports: as they are kept, and checking files of them offline."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from infrastructure_sdk import _core
from infrastructure_sdk.exceptions import ValidationError
from infrastructure_sdk.isolation import IsolationReport
from infrastructure_sdk.reports import export

__all__ = ["SignedReport", "Verification", "sign_waiver", "verify"]

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class SignedReport:
    """A report as it was signed and kept.

    Attributes
    ----------
    sequence
        Its number among the reports of its session, from 1.
    digest
        SHA-256 of `envelope`; the next report of the session names it.
    key_id
        SHA-256 of the public key (DER, SubjectPublicKeyInfo).
    envelope
        The in-toto statement in its DSSE envelope, one line.
    """

    report_id: str
    session_id: str
    sequence: int
    digest: str
    key_id: str
    created_at: str
    verdict: str
    lower: float
    upper: float
    envelope: str = field(repr=False)

    @property
    def statement(self) -> dict[str, Any]:
        """The signed in-toto statement. Reading it checks no signature: see `verify`."""
        payload = base64.b64decode(json.loads(self.envelope)["payload"], validate=True)
        statement: dict[str, Any] = json.loads(payload)
        return statement

    @property
    def report(self) -> IsolationReport:
        """What was signed."""
        return IsolationReport.from_document(self.statement["predicate"]["report"])

    def to_dict(self) -> dict[str, Any]:
        """The attributes, without the envelope."""
        return {name: value for name, value in vars(self).items() if name != "envelope"}

    def export(self, format: str) -> str:
        """The report in another format.

        Parameters
        ----------
        format
            dsse (the envelope), or one of `infrastructure_sdk.reports.FORMATS`.

        Raises
        ------
        ValidationError
            If there is no such format.
        """
        return export(self, format)


@dataclass(frozen=True)
class Verification:
    """What checking files of signed reports found.

    Attributes
    ----------
    ok
        Every report is signed by a trusted key, follows the one before it and says what its own evidence supports.
    reports
        What was signed, of those whose signature holds, in the order given.
    problems
        Each with `kind`, `where` and `message`.
    notes
        What was not asked for and may matter.
    """

    ok: bool
    reports: tuple[Mapping[str, Any], ...]
    problems: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.ok

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "ok": self.ok,
            "reports": [dict(report) for report in self.reports],
            "problems": [dict(problem) for problem in self.problems],
            "notes": list(self.notes),
        }


def _bytes_of(name: str, path: StrPath) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValidationError(
            f"{name}: '{path}' cannot be read: {error.strerror}", context={"field": name, "value": str(path)}
        ) from error


def verify(
    files: StrPath | Iterable[StrPath],
    keys: StrPath | Iterable[StrPath],
    *,
    anchor: StrPath | None = None,
    session: str = "",
    complete: bool = False,
    max_age: str | None = None,
) -> Verification:
    """Check files of signed reports, offline: no SDK needs to be open.

    Parameters
    ----------
    files
        One or more files, each with the reports of one session, an envelope a line, oldest first.
    keys
        Files with the Ed25519 public keys (PEM) that are trusted. Keys they rotated to are followed.
    anchor
        A file with a head record that was kept elsewhere: what it names must be there.
    session
        Every report must be of this session.
    complete
        Also refuse a chain that does not begin with its first report, and a session of the anchor without reports.
    max_age
        The last report of each session must not be older than this, e.g. "15m".

    Raises
    ------
    ValidationError
        If a file cannot be read, there is none, or a key is none.
    """
    return verify_with(
        files, texts_of("keys", keys), anchor=anchor, session=session, complete=complete, max_age=max_age
    )


def verify_with(
    files: StrPath | Iterable[StrPath],
    keys: list[str],
    *,
    anchor: StrPath | None,
    session: str,
    complete: bool,
    max_age: str | None,
) -> Verification:
    """As `verify`, with the keys as PEM texts."""
    texts = [(os.fspath(path), _bytes_of("files", path)) for path in _several(files)]
    head = None if anchor is None else _bytes_of("anchor", anchor)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = _core.verify_reports(texts, keys, head, session, complete, max_age, now)
    return Verification(found["ok"], tuple(found["reports"]), tuple(found["problems"]), tuple(found["notes"]))


def texts_of(name: str, paths: StrPath | Iterable[StrPath]) -> list[str]:
    """The contents of files that an argument names."""
    return [_bytes_of(name, path).decode("utf-8", "replace") for path in _several(paths)]


def sign_waiver(
    check_id: str,
    *,
    reason: str,
    approved_by: str,
    expires_at: str,
    private_key: StrPath,
    session: str = "",
    id: str = "",
) -> str:
    """One line of a waivers file.

    Parameters
    ----------
    check_id
        The check whose failure is accepted, e.g. "CMP-01".
    reason, approved_by
        Why, and by whom.
    expires_at
        When it ends: RFC 3339, UTC, e.g. "2027-01-31T00:00:00Z".
    private_key
        A file with an Ed25519 private key in PEM form (``openssl genpkey -algorithm ed25519``).
    session
        Only for this session. Default: all.
    id
        Its name. Default: made of check and session.

    Raises
    ------
    ValidationError
        If a field is empty or wrong, or the key is none.
    """
    name = id or "-".join(part for part in (check_id, session) if part)
    (pem,) = texts_of("private_key", private_key)
    return _core.sign_waiver(name, check_id, session, reason, approved_by, expires_at, pem)


def _several(paths: StrPath | Iterable[StrPath]) -> list[StrPath]:
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)
