"""What the console's page consists of: files that are read once, so that no request ever names a path on the disk."""

from __future__ import annotations

from functools import cache
from pathlib import Path

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}


@cache
def assets() -> dict[str, tuple[str, bytes]]:
    """Content type and bytes by the path of the address."""
    base = Path(__file__).parent
    found = {}
    for folder, prefix in ((base / "page", "/static/"), (base / "novnc", "/static/novnc/")):
        for file in folder.rglob("*"):
            if kind := TYPES.get(file.suffix):
                found[prefix + file.relative_to(folder).as_posix()] = (kind, file.read_bytes())
    return found
