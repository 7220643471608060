"""A stream into a guest, as the native core hands it over."""

from __future__ import annotations

import socket


class GuestStream:
    """A connected socket, and what counts it as a client of its VM until it is closed."""

    def __init__(self, descriptor: int, counted: object) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self._counted: object | None = counted

    def close(self) -> None:
        """Let go of it. Again is fine."""
        self.socket.close()
        self._counted = None
