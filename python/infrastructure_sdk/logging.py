"""Structured logging and correlation ids.

Records of the native core arrive at the standard library's loggers below ``infrastructure_sdk``; the correlation id of
the calling context goes into the core with every call and comes back with every record.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["JsonFormatter", "correlation_id", "current_correlation_id"]

_current: contextvars.ContextVar[str] = contextvars.ContextVar("infrastructure_sdk_correlation_id", default="")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def current_correlation_id() -> str:
    """The correlation id of this context; empty if none was set."""
    return _current.get()


@contextlib.contextmanager
def correlation_id(value: str | None = None) -> Iterator[str]:
    """Give everything inside the block one correlation id.

    Parameters
    ----------
    value
        The id; a new random one if absent.

    Examples
    --------
    >>> with correlation_id("request-7") as value:
    ...     value, current_correlation_id()
    ('request-7', 'request-7')
    """
    token = _current.set(value if value is not None else secrets.token_hex(16))
    try:
        yield _current.get()
    finally:
        _current.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a line with OpenTelemetry's field names."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        document: dict[str, Any] = {
            "timestamp": getattr(record, "time", None) or self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "severity_text": record.levelname,
            "logger": record.name,
            "body": record.getMessage(),
        }
        if found := getattr(record, "correlation_id", ""):
            document["correlation_id"] = found
        document.update(getattr(record, "fields", {}))
        return json.dumps(document)


def forward(records: Iterable[Mapping[str, Any]]) -> None:
    """Hand records of the native core to the standard library's loggers."""
    for record in records:
        logger = logging.getLogger(f"infrastructure_sdk.{record['logger']}")
        extra = {"time": record["time"], "correlation_id": record["correlation_id"], "fields": record["fields"]}
        fields = " ".join(f"{key}={value}" for key, value in record["fields"].items() if value)
        logger.log(_LEVELS[record["level"]], "%s", f"{record['message']} {fields}".strip(), extra=extra)
