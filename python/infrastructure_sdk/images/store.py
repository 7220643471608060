"""The image directory: one folder and one manifest an image, replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from infrastructure_sdk.exceptions import InfrastructureSDKError, NotFoundError, StoreError, ValidationError

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
SCHEMA = 1

BUILT = ("linux-tiny", "linux-server", "linux-desktop")
INSTALLED = ("windows-11", "windows-10", "windows-server-2022", "windows-server-2025")


class Progress(Protocol):
    """Called as work goes on."""

    def __call__(self, step: str, done: int, total: int | None, /) -> None:
        """`done` of `total` (bytes or parts; None = unknown) of `step`."""


def no_progress(step: str, done: int, total: int | None) -> None:
    """The default: say nothing."""


@dataclass(frozen=True)
class Image:
    """A complete image.

    Attributes
    ----------
    name
        The folder's name.
    directory
        The folder.
    manifest
        The document beside the files.
    """

    name: str
    directory: Path
    manifest: Mapping[str, Any] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The manifest and where it is."""
        return {**self.manifest, "directory": str(self.directory)}


def check_name(name: str) -> str:
    """Return `name` if it is one.

    Raises
    ------
    ValidationError
        If it is not.
    """
    if not NAME_PATTERN.fullmatch(name) or ".." in name:
        allowed = "1 to 63 of a-z 0-9 . _ -, starting with a letter or digit, without '..'"
        raise ValidationError(
            f"image name: {name!r} is not allowed; {allowed}",
            context={"field": "name", "value": name, "allowed": allowed},
        )
    return name


def show_image(image_dir: Path, name: str) -> Image:
    """Read one image's manifest.

    Raises
    ------
    NotFoundError
        If there is none.
    ValidationError
        If the name or the manifest is wrong.
    """
    directory = _folder_of(image_dir, name)
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise _broken(name, f"cannot be read: {error}") from error
    if (
        not isinstance(manifest, dict)
        or manifest.get("schema") != SCHEMA
        or not isinstance(manifest.get("files"), dict)
    ):
        raise _broken(name, f"is not of schema {SCHEMA}")
    return Image(name, directory, manifest)


def _folder_of(image_dir: Path, name: str) -> Path:
    directory = Path(image_dir) / check_name(name)
    if (directory / "manifest.json").is_file():
        return directory
    known = [image.name for image in list_images(image_dir)]
    guess = next(iter(difflib.get_close_matches(name, known, 1)), "")
    make = f"import FILE --name {name}"
    if name in BUILT:
        make = f"build {name}"
    elif name in INSTALLED:
        make = f"install {name} --iso FILE --drivers FILE"
    raise NotFoundError(
        f"there is no image {name!r} in {image_dir} (there: {', '.join(known) or 'none'}); "
        + (f"did you mean {guess!r}? " if guess else "")
        + f"`infra-sdk image {make}` makes it",
        context={"field": "image", "value": name, "allowed": known, "did_you_mean": guess},
    )


def _broken(name: str, why: str) -> ValidationError:
    return ValidationError(
        f"the manifest of image {name!r} {why}; build or import it again, or remove it",
        context={"field": "manifest", "value": name},
    )


def list_images(image_dir: Path) -> list[Image]:
    """Every complete image, by name."""
    if not Path(image_dir).is_dir():
        return []
    found = []
    for entry in sorted(Path(image_dir).iterdir()):
        if (entry / "manifest.json").is_file():
            with contextlib.suppress(ValidationError, NotFoundError):
                found.append(show_image(image_dir, entry.name))
    return found


def remove_image(image_dir: Path, name: str) -> None:
    """Remove an image and all its files, also one whose manifest is broken.

    Raises
    ------
    NotFoundError
        If there is none.
    StoreError
        If the image directory cannot be written.
    """
    directory = _folder_of(image_dir, name)
    with _writing(Path(image_dir)), _scratch(Path(image_dir), ".removed-") as doomed:
        os.rename(directory, doomed / name)


def verify_image(image_dir: Path, name: str) -> Image:
    """Hash every file again.

    Raises
    ------
    ValidationError
        If a file is missing or not what the manifest says.
    """
    image = show_image(image_dir, name)
    for part, entry in image.manifest["files"].items():
        if not isinstance(entry, dict) or Path(str(entry.get("path"))).name != entry.get("path"):
            raise _broken(name, f"has no file name for {part}")
        path = image.directory / entry["path"]
        whole = path.is_file() and not path.is_symlink() and path.stat().st_size == entry.get("size_bytes")
        if not whole or sha256_of(path) != entry.get("sha256"):
            raise ValidationError(
                f"image {name!r}: {part} is not what was built; build or import it again",
                context={"field": part, "value": str(path)},
            )
    return image


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def new_image(image_dir: Path, name: str) -> Iterator[Path]:
    """A folder to fill; it takes the image's place when the block ends well, and vanishes otherwise.

    Raises
    ------
    StoreError
        If the image directory cannot be written or is full.
    """
    check_name(name)
    image_dir = Path(image_dir).absolute()
    with _writing(image_dir), _scratch(image_dir, ".new-") as scratch:
        place = scratch / name
        place.mkdir()
        yield place
        for path in place.iterdir():
            path.chmod(0o444)  # many VMs lie on it: nobody writes to it any more
        place.chmod(0o755)
        target = image_dir / name
        if target.exists():
            os.rename(target, scratch / ".old")
        os.rename(place, target)


@contextlib.contextmanager
def _writing(image_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, InfrastructureSDKError):  # our timeouts are OSErrors too
            raise
        raise StoreError(
            f"the image directory {image_dir} cannot be used: {error}; free some space, or choose another with "
            "vm.image_directory or --image-dir",
            context={"field": "vm.image_directory", "value": str(image_dir)},
        ) from error


@contextlib.contextmanager
def _scratch(image_dir: Path, prefix: str) -> Iterator[Path]:
    """A folder in the image directory that vanishes at the end; those of processes that were killed vanish first."""
    image_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as own:
        # Nobody may find the new folder before it is locked.
        with _locked(image_dir, wait=True):
            for old in [*image_dir.glob(".new-*"), *image_dir.glob(".removed-*")]:
                with contextlib.suppress(OSError), _locked(old, wait=False):
                    shutil.rmtree(old)
            scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=image_dir))
            own.callback(shutil.rmtree, scratch, ignore_errors=True)
            own.enter_context(_locked(scratch, wait=False))
        yield scratch


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def file_entry(path: Path, **more: Any) -> dict[str, Any]:
    """What a manifest says of one file."""
    return {"path": path.name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size, **more}


def write_manifest(place: Path, name: str, files: Mapping[str, Mapping[str, Any]], **more: Any) -> None:
    """Write `manifest.json`; the version is the hash of the files' hashes."""
    version = hashlib.sha256("".join(sorted(entry["sha256"] for entry in files.values())).encode()).hexdigest()[:16]
    manifest = {
        "schema": SCHEMA,
        "name": name,
        "version": version,
        "os": "linux",
        "architecture": "x86_64",
        "created_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "files": files,
        **more,
    }
    (place / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
