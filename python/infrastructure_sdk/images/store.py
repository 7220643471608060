"""The image directory: one folder and one manifest an image, replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from infrastructure_sdk.exceptions import NotFoundError, ProviderError, ValidationError

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
SCHEMA = 1


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
    manifest: Mapping[str, Any]

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
    directory = Path(image_dir) / check_name(name)
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
    except FileNotFoundError:
        known = ", ".join(image.name for image in list_images(image_dir)) or "none"
        raise NotFoundError(
            f"there is no image {name!r} in {image_dir} (there: {known}); "
            f"make it with `infra-sdk image build {name}` or `infra-sdk image import FILE --name {name}`",
            context={"field": "image", "value": name},
        ) from None
    except (ValueError, OSError) as error:
        raise ValidationError(f"the manifest of image {name!r} cannot be read: {error}") from error
    if (
        not isinstance(manifest, dict)
        or manifest.get("schema") != SCHEMA
        or not isinstance(manifest.get("files"), dict)
    ):
        raise ValidationError(f"the manifest of image {name!r} is not of schema {SCHEMA}; build or import it again")
    return Image(name, directory, manifest)


def list_images(image_dir: Path) -> list[Image]:
    """Every complete image, by name."""
    if not Path(image_dir).is_dir():
        return []
    found = []
    for entry in sorted(Path(image_dir).iterdir()):
        if (entry / "manifest.json").is_file():
            with contextlib.suppress(ValidationError):
                found.append(show_image(image_dir, entry.name))
    return found


def remove_image(image_dir: Path, name: str) -> None:
    """Remove an image and all its files.

    Raises
    ------
    NotFoundError
        If there is none.
    """
    image = show_image(image_dir, name)
    doomed = Path(tempfile.mkdtemp(prefix=".removed-", dir=image_dir))
    os.rename(image.directory, doomed / name)
    shutil.rmtree(doomed)


def verify_image(image_dir: Path, name: str) -> Image:
    """Hash every file again.

    Raises
    ------
    ValidationError
        If a file is missing or not what the manifest says.
    """
    image = show_image(image_dir, name)
    for part, entry in image.manifest["files"].items():
        path = image.directory / entry["path"]
        if not path.is_file() or path.stat().st_size != entry["size_bytes"] or sha256_of(path) != entry["sha256"]:
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
    ProviderError
        If the image directory cannot be written.
    """
    check_name(name)
    image_dir = Path(image_dir)
    try:
        image_dir.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=image_dir))
    except OSError as error:
        raise ProviderError(f"the image directory {image_dir} cannot be written: {error}") from error
    try:
        place = scratch / name
        place.mkdir()
        yield place
        for path in place.iterdir():
            path.chmod(0o644)
        place.chmod(0o755)
        target = image_dir / name
        if target.exists():
            os.rename(target, scratch / ".old")
        os.rename(place, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
