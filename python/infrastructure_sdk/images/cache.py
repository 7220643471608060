"""Downloads kept by their content: checked, continued where they broke off, removed when no image needs them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any

from infrastructure_sdk.exceptions import ProviderError, ValidationError
from infrastructure_sdk.images.store import Progress, list_images, no_progress, sha256_of

FOLDER = ".cache"
SHA256 = re.compile(r"[0-9a-f]{64}")
MAXIMUM_SIZE = 64 << 30
"""Bytes of one download."""

BLOCK = 1 << 20
PATIENCE = 60.0
"""Seconds without a byte."""


@dataclass(frozen=True)
class Garbage:
    """A file of the cache that nobody needs.

    Attributes
    ----------
    path
        Where it is.
    size_bytes
        What removing it gives back.
    """

    path: Path
    size_bytes: int


def fetch(
    image_dir: Path, url: str, sha256: str, *, maximum_size: int = MAXIMUM_SIZE, progress: Progress = no_progress
) -> Path:
    """The file with that content: from the cache, or downloaded into it.

    A download that broke off is continued where it was, if the server can. Only what has the right hash is kept.

    Parameters
    ----------
    image_dir
        The image directory, which has the cache.
    url
        http or https; a redirect may not lead from https to http.
    sha256
        64 hex digits.
    maximum_size
        Bytes.
    progress
        Told of the bytes.

    Raises
    ------
    ValidationError
        If the URL or the hash is none, the file is too large, or it is not the one with that hash.
    ProviderError
        If the server cannot be reached or refuses; what came is kept for the next try.
    """
    sha256 = _checked(url, sha256)
    folder = Path(image_dir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    whole, part = folder / sha256, folder / f"{sha256}.part"
    with _alone(part) as out:
        if whole.is_file():
            progress("checking the cache", 0, None)
            if sha256_of(whole) == sha256:
                part.unlink(missing_ok=True)
                return whole
            whole.unlink()
        _download(url, out, maximum_size, progress)
        out.flush()
        os.fsync(out.fileno())
        progress("checking", 0, None)
        found = sha256_of(part)
        if found != sha256:
            part.unlink()
            raise ValidationError(
                f"what came from {_shown(url)} has the hash {found}, not {sha256}; it was removed",
                context={"field": "sha256", "value": found, "allowed": sha256},
            )
        os.replace(part, whole)
    return whole


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """The file, for one process at a time: of two that want the same content the second finds it."""
    while True:
        with part.open("ab") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            # Who had it before may have renamed or removed it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(out.fileno()), part.stat()):
                    yield out
                    return


def garbage(image_dir: Path) -> list[Garbage]:
    """Files of the cache that no image was made from, and downloads that nobody works on."""
    folder = Path(image_dir) / FOLDER
    if not folder.is_dir():
        return []
    needed = {str(image.manifest.get("source", {}).get("sha256")) for image in list_images(image_dir)}
    found = []
    for path in sorted(folder.iterdir()):
        known = SHA256.fullmatch(path.name.removesuffix(".part"))
        if known and path.is_file() and not path.is_symlink() and path.name not in needed and not _in_use(path):
            found.append(Garbage(path, path.stat().st_size))
    return found


def collect(image_dir: Path) -> list[Garbage]:
    """Remove the garbage; returns what was removed."""
    removed = []
    for item in garbage(image_dir):
        with contextlib.suppress(FileNotFoundError), item.path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            item.path.unlink()
            removed.append(item)
    return removed


def _in_use(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _checked(url: str, sha256: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        allowed = "http://HOST/PATH or https://HOST/PATH"
        raise ValidationError(
            f"url: {url[:200]!r} is not allowed; {allowed}", context={"field": "url", "value": url, "allowed": allowed}
        )
    if not SHA256.fullmatch(sha256.lower()):
        raise ValidationError(
            f"sha256: {sha256[:80]!r} is not allowed; 64 hex digits, as the publisher of the file states them",
            context={"field": "sha256", "value": sha256, "allowed": "64 hex digits"},
        )
    return sha256.lower()


def _shown(url: str) -> str:
    """Without the password that may stand in it, and without a query, which may be a token."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://") and not (req.full_url.startswith("http://") and newurl[:7] == "http://"):
            raise urllib.error.HTTPError(req.full_url, code, "a redirect to an unsafe address", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _answer(url: str, start: int) -> Iterator[Any]:
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    opener = urllib.request.build_opener(_NoDowngrade)
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()
        raise ProviderError(
            f"{_shown(url)} answers {error.code} {error.reason}", context={"status": error.code}
        ) from None
    except (OSError, urllib.error.URLError) as error:
        if isinstance(error, ProviderError):
            raise
        why = getattr(error, "reason", None) or error
        raise ProviderError(f"{_shown(url)} cannot be read: {why}; what came is kept for the next try") from error


def _download(url: str, out: IO[bytes], maximum: int, progress: Progress) -> None:
    """Append to `out` what it has not got."""
    start = os.fstat(out.fileno()).st_size
    try:
        with _answer(url, start) as answer:
            _receive(url, answer, out, start, maximum, progress)
    except ProviderError as error:
        # Nothing is left to send: it is whole already, or it never was a part of that file. The hash will tell.
        if error.context.get("status") != 416:
            raise


def _receive(url: str, answer: Any, out: IO[bytes], start: int, maximum: int, progress: Progress) -> None:
    if start and answer.status != 206:
        # The server begins anew, and so does the file.
        out.truncate(0)
        start = 0
    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else None
    done = start
    while True:
        if max(done, total or 0) > maximum:
            out.truncate(0)
            raise ValidationError(
                f"{_shown(url)} is larger than {maximum} bytes",
                context={"field": "url", "value": str(max(done, total or 0)), "allowed": f"at most {maximum} bytes"},
            )
        progress("downloading", done, total)
        block = answer.read(BLOCK)
        if not block:
            break
        out.write(block)
        done += len(block)
    out.flush()
    if total is not None and done < total:
        raise ProviderError(f"{_shown(url)} broke off after {done} of {total} bytes; the next try continues there")
