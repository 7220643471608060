"""Processes that tests look for and end."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

INTERRUPTIBLE = ("env", "--default-signal=INT")
"""Before a command that a test interrupts: a shell lets what it runs in the background ignore that signal."""


def processes_in(place: Path) -> list[int]:
    """The processes that work in a folder: its virtual machines."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(place):
                found.append(int(entry.name))
    return found


def end_processes_in(place: Path) -> list[int]:
    """So that a test that fails leaves nothing to the next one."""
    found = processes_in(place)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found
