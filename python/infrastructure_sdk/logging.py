"""Structured logging and correlation ids.

Records of the native core arrive at the standard library's loggers below ``infrastructure_sdk``; the correlation id of
the calling context goes into the core with every call and comes back with every record. Handlers are the application's
affair; `written` is for programs that have none, such as `infra-sdk`.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from infrastructure_sdk.exceptions import ConfigurationError

__all__ = ["JsonFormatter", "TextFormatter", "correlation_id", "current_correlation_id", "written"]

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


class TextFormatter(logging.Formatter):
    """One line a record: time, level, logger, message and correlation id."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        time = getattr(record, "time", None) or self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z")
        line = f"{time} {record.levelname:<7} {record.name}: {record.getMessage()}"
        found = getattr(record, "correlation_id", "")
        return f"{line} correlation_id={found}" if found else line


@contextlib.contextmanager
def written(section: Mapping[str, Any]) -> Iterator[None]:
    """Inside the block this package's records are written as the configuration's section ``logging`` says.

    Parameters
    ----------
    section
        ``level``, ``format`` (text or json) and ``file`` (standard error if empty).

    Raises
    ------
    ConfigurationError
        If the file cannot be written.
    """
    logger = logging.getLogger("infrastructure_sdk")
    before = logger.level
    path = section["file"]
    if path:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            stream = os.fdopen(os.open(path, flags, 0o600), "a", encoding="utf-8")
        except OSError as error:
            why = f"logging.file: {path!r} cannot be written: {error.strerror}; unset it for standard error"
            raise ConfigurationError(why, context={"field": "logging.file", "value": path}) from error
        handler: logging.StreamHandler[Any] = logging.StreamHandler(stream)
    else:
        handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if section["format"] == "json" else TextFormatter())
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[section["level"]])
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        if path:
            stream.close()


def forward(records: Iterable[Mapping[str, Any]]) -> None:
    """Hand records of the native core to the standard library's loggers."""
    for record in records:
        logger = logging.getLogger(f"infrastructure_sdk.{record['logger']}")
        extra = {"time": record["time"], "correlation_id": record["correlation_id"], "fields": record["fields"]}
        fields = " ".join(f"{key}={_one_line(value)}" for key, value in record["fields"].items() if value)
        logger.log(_LEVELS[record["level"]], "%s", f"{record['message']} {fields}".strip(), extra=extra)


def _one_line(value: str) -> str:
    """As it is if it is one plain word; otherwise quoted, so that no value can pose as another record."""
    return value if value.isprintable() and " " not in value else json.dumps(value)
