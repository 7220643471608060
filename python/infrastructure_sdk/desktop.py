"""The screen of a session: pictures, keyboard, mouse, clipboard."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure_sdk._bridge import Timeout
from infrastructure_sdk.commands import ExecResult, check_texts
from infrastructure_sdk.exceptions import NotFoundError, ProviderError, UnsupportedError, ValidationError

if TYPE_CHECKING:
    from infrastructure_sdk.session import Session

__all__ = ["DesktopClient", "Screenshot"]

_MOST_CLIPBOARD = 1 << 20
_NO_CLIPBOARD = 99
_DISPLAY = ":0"
# What xclip says when nobody holds the selection, or not as text.
_NO_TEXT = re.compile(r"target \S+ not available")
# With -i xclip stays, in the background, for as long as it holds the selection: nothing may wait for its output.
_CLIPBOARD_SCRIPT = f"""
[ -S /tmp/.X11-unix/X0 ] && command -v xclip >/dev/null || exit {_NO_CLIPBOARD}
if [ "$1" = -i ]; then exec xclip -i -selection clipboard >/dev/null 2>&1; fi
exec xclip -o -selection clipboard -target UTF8_STRING
"""


@dataclass(frozen=True)
class Screenshot:
    """What a screen showed, as PNG bytes."""

    png: bytes = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the PNG and return its path."""
        target = Path(path)
        target.write_bytes(self.png)
        return target

    def _repr_png_(self) -> bytes:
        return self.png


class DesktopClient:
    """The screen of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def screenshot(self, *, timeout: Timeout = "30s") -> Screenshot:
        """What the screen shows now."""
        return Screenshot(await self._session._call("screenshot", timeout=timeout))

    async def size(self, *, timeout: Timeout = "30s") -> tuple[int, int]:
        """Width and height of the screen in pixels, as it is now; guests change it."""
        width, height = await self._session._call("display_size", timeout=timeout)
        return width, height

    async def keyboard(
        self, text: str = "", *, keys: str | Iterable[str] = (), layout: str = "us", timeout: Timeout = "60s"
    ) -> None:
        """Type a text, then press keys; returns when the guest's keyboard took them all.

        Parameters
        ----------
        text
            At most 4096 characters; a line feed is the enter key.
        keys
            Keys to hold together, e.g. "ctrl+alt+delete", or several such in a row.
        layout
            The layout that the guest is set to: "us" or "de".

        Raises
        ------
        ValidationError
            If the layout has no key for a character, or there is no such key. Nothing was typed.
        NotReadyError
            If the guest does not take keys.
        """
        chords = [keys] if isinstance(keys, str) else list(keys)
        check_texts("keys", chords)
        if text:
            await self._session._call("type_text", text, layout, timeout=timeout)
        if chords:
            await self._session._call("press_keys", chords, timeout=timeout)

    async def mouse(
        self,
        x: int | None = None,
        y: int | None = None,
        *,
        click: str | None = None,
        press: str | None = None,
        release: str | None = None,
        count: int = 1,
        scroll: int = 0,
        timeout: Timeout = "30s",
    ) -> None:
        """Move the pointer, then use one button, then turn the wheel.

        Parameters
        ----------
        x, y
            Where to, in pixels from the upper left; None = it stays where it is.
        click, press, release
            "left", "middle" or "right"; at most one of the three. Press here and release there to drag.
        count
            How many clicks, 1 to 3.
        scroll
            Steps of the wheel, down above zero; at most 100.

        Raises
        ------
        ValidationError
            If the place is outside the screen or a button has another name.

        Notes
        -----
        The pointer is a virtio tablet. A guest without a driver for it, such as ``linux-tiny``, does not notice.
        """
        actions = {"click": click, "press": press, "release": release}
        chosen = [(name, button) for name, button in actions.items() if button is not None]
        if len(chosen) > 1 or (x is None) != (y is None):
            raise ValidationError(
                "mouse: at most one of click, press and release is allowed, and x only with y",
                context={"field": "mouse", "value": ", ".join(name for name, _ in chosen) or f"{x},{y}"},
            )
        name, button = chosen[0] if chosen else ("", "left")
        at = None if x is None or y is None else (x, y)
        await self._session._call("point", at, button, name, count, scroll, timeout=timeout)

    async def clipboard(self, *, timeout: Timeout = "30s") -> str:
        """The text in the clipboard of the guest's desktop; "" when there is none.

        Raises
        ------
        UnsupportedError
            If the guest has no X display or no ``xclip``, with the capability ``clipboard``. ``linux-desktop`` has
            both.
        ProviderError
            If the clipboard could not be read.
        """
        result = await self._clip("-o", b"", timeout)
        # Of a clipboard without an owner, or with a picture, xclip has no text to give.
        if result.exit_code == 1 and _NO_TEXT.search(result.stderr):
            return ""
        if result.exit_code != 0:
            raise ProviderError(
                "the guest's clipboard could not be read",
                context={"exit_code": str(result.exit_code), "detail": result.stderr[:500]},
            )
        return result.stdout

    async def set_clipboard(self, text: str, *, timeout: Timeout = "30s") -> None:
        """Put a text into the clipboard of the guest's desktop: what is pasted there next.

        Parameters
        ----------
        text
            At most 1 MiB as UTF-8.

        Raises
        ------
        ValidationError
            If it is not such a text.
        UnsupportedError
            As `clipboard`.
        """
        check_texts("text", [text])
        data = text.encode(errors="surrogateescape")
        if len(data) > _MOST_CLIPBOARD or data.decode(errors="replace") != text:
            raise ValidationError(
                f"text: {text!r:.200} is not allowed; Unicode of at most {_MOST_CLIPBOARD} bytes is needed",
                context={"field": "text", "value": f"{text!r:.200}"},
            )
        result = await self._clip("-i", data, timeout)
        if result.exit_code != 0:
            raise ProviderError(
                "the guest's clipboard did not take the text", context={"exit_code": str(result.exit_code)}
            )

    async def _clip(self, direction: str, data: bytes, timeout: Timeout) -> ExecResult:
        words = ["sh", "-c", _CLIPBOARD_SCRIPT, "clipboard", direction]
        try:
            result = await self._session.exec(words, stdin=data, env={"DISPLAY": _DISPLAY}, timeout=timeout)
        except NotFoundError:
            result = ExecResult(_NO_CLIPBOARD, b"", b"", False, False, 0.0)
        if result.exit_code == _NO_CLIPBOARD:
            raise UnsupportedError(
                "the guest has no clipboard that can be reached: it takes an X display and xclip in the guest; type "
                "with desktop.keyboard, or copy files",
                context={"capability": "clipboard"},
            )
        return result
