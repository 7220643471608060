"""Why a session is alive or not, and what would end it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Explanation"]


class Explanation:
    """The answer of `Session.explain`: sentences for people, and everything that they were worked out from.

    ``str(explanation)`` is the answer as text; in a notebook it shows itself with the signals as a table.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    @property
    def sentences(self) -> Sequence[str]:
        """The answer, in order of interest."""
        return list(self._document["sentences"])

    @property
    def verdict(self) -> str | None:
        """ "busy", "observing", "armed", "due" or "unknown"; None when nobody looked yet."""
        found = self._document["verdict"]
        return None if found is None else str(found["state"])

    @property
    def signals(self) -> Sequence[Mapping[str, Any]]:
        """One each with ``signal``, ``state`` ("active", "quiet", "unknown"), ``detail`` and ``at``."""
        found: Sequence[Mapping[str, Any]] = self._document["readings"]
        return found

    @property
    def deadlines(self) -> Sequence[Mapping[str, Any]]:
        """What would end it, first to come first: ``clock``, ``action``, ``at``, ``warn_at``, ``firm``."""
        found: Sequence[Mapping[str, Any]] = self._document["deadlines"]
        return found

    @property
    def what_ifs(self) -> Sequence[Mapping[str, Any]]:
        """What other idle timeouts would have done to what was seen."""
        found: Sequence[Mapping[str, Any]] = self._document["what_if"]
        return found

    def to_dict(self) -> dict[str, Any]:
        """The whole document, with the recorded inputs under ``inputs``."""
        return dict(self._document)

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def __repr__(self) -> str:
        return f"<Explanation {self.verdict}: {len(self.sentences)} sentences>"

    def _repr_html_(self) -> str:
        sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.sentences)
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(str(row[key]))}</td>" for key in ("signal", "state", "detail", "at"))
            + "</tr>"
            for row in self.signals
        )
        head = "<tr><th>signal</th><th>state</th><th>seen</th><th>at</th></tr>"
        return sentences + (f"<table>{head}{rows}</table>" if rows else "")
