"""Running the outside tools that images are made with."""

from __future__ import annotations

import collections
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from infrastructure_sdk.exceptions import ProviderError

PACKAGE_OF = {
    "qemu-img": "qemu-utils",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "mke2fs": "e2fsprogs",
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg": "dpkg",
    "fakeroot": "fakeroot",
    "mmdebstrap": "mmdebstrap",
    "tar": "tar",
    "xorrisofs": "xorriso",
    "swtpm": "swtpm",
    "qemu-system-x86_64": "qemu-system-x86",
    "ldd": "libc-bin",
}


def find_tool(name: str) -> str:
    """Absolute path of a tool, also from the administrator's folders.

    Raises
    ------
    ProviderError
        If it is missing, with the package that has it.
    """
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        raise ProviderError(f"{name} is missing; install it: apt-get install {PACKAGE_OF.get(name, name)}")
    return path


def run(command: Sequence[str], *, cwd: Path | None = None, confined: bool = False, timeout: float = 600) -> str:
    """Run a tool and return what it printed.

    Parameters
    ----------
    command
        The tool's name and its arguments; no shell.
    cwd
        Where.
    confined
        For tools that read files of strangers: at most 60 s of CPU, 2 GiB of address space, no file written.
    timeout
        Seconds.

    Raises
    ------
    ProviderError
        If it is missing, fails or takes too long.
    """

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    arguments = [find_tool(command[0]), *command[1:]]
    try:
        done = subprocess.run(
            arguments,
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            preexec_fn=limit if confined else None,
        )
    except subprocess.TimeoutExpired:
        raise ProviderError(f"{command[0]} did not end within {timeout:.0f} s") from None
    if done.returncode != 0:
        raise ProviderError(
            f"{' '.join(command[:2])} failed ({done.returncode}): {done.stderr.strip()[-1000:]}",
            context={"command": command[0], "exit_code": done.returncode},
        )
    return done.stdout


def run_watched(command: Sequence[str], told: Callable[[str], None], *, timeout: float) -> None:
    """Run a tool that works long; each line that it prints goes to `told` at once.

    Raises
    ------
    ProviderError
        If it is missing, fails or takes too long.
    """
    last: collections.deque[str] = collections.deque(maxlen=20)
    process = subprocess.Popen(
        [find_tool(command[0]), *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    late = threading.Timer(timeout, _end_group, [process])
    late.start()
    try:
        for line in process.stdout:
            last.append(line.rstrip())
            told(line.rstrip())
        code = process.wait()
    finally:
        over_time = not late.is_alive()
        late.cancel()
        if process.poll() is None:
            _end_group(process)
        process.wait()
        process.stdout.close()
    if over_time:
        raise ProviderError(f"{command[0]} did not end within {timeout:.0f} s")
    if code != 0:
        said = "\n".join(last)[-1500:]
        raise ProviderError(f"{command[0]} failed ({code}): {said}", context={"command": command[0], "exit_code": code})


def _end_group(process: subprocess.Popen[str]) -> None:
    """End a tool and all that it started; it leads a group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
