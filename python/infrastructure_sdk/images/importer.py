"""Take over a disk image of a stranger, after making sure that it reaches nothing but itself."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from infrastructure_sdk.exceptions import NotFoundError, ValidationError
from infrastructure_sdk.images.commands import run
from infrastructure_sdk.images.store import (
    Image,
    Progress,
    check_name,
    file_entry,
    new_image,
    no_progress,
    show_image,
    write_manifest,
)

MAXIMUM_VIRTUAL_SIZE = 1 << 40
"""Bytes; what `import_image` accepts unless told otherwise."""


def import_image(
    image_dir: Path,
    file: Path,
    name: str | None = None,
    *,
    maximum_virtual_size: int = MAXIMUM_VIRTUAL_SIZE,
    progress: Progress = no_progress,
) -> Image:
    """Copy a qcow2 or raw disk image into the image directory.

    Parameters
    ----------
    image_dir
        The image directory; made if need be.
    file
        The disk image: a regular file, no symlink.
    name
        The image's name; the file's stem in lower case if absent.
    maximum_virtual_size
        Bytes.
    progress
        Told of the steps.

    Raises
    ------
    ValidationError
        If the format is another one, or the image has a backing file, an external data file or encryption, is empty or
        too large, or the name is wrong.
    NotFoundError
        If the file is not there.
    ProviderError
        If qemu-img is missing or fails.
    """
    file = Path(file)
    name = check_name(name if name is not None else file.stem.lower())
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {file}", context={"field": "file", "value": str(file)}) from None
    except OSError as error:
        raise _refused(
            file, f"it cannot be opened ({error.strerror})", "a readable regular file, no symlink"
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _refused(file, "it is not a regular file", "a regular file")
        if status.st_size == 0:
            raise _refused(file, "it is empty", "a qcow2 or raw disk image")
        with new_image(image_dir, name) as place:
            copy = place / "disk.img"
            _copy(descriptor, copy, status.st_size, progress)
            # The copy is judged, not the original: nobody can exchange it between the look and the use.
            progress("checking", 0, None)
            disk_format, virtual_size = inspect(copy, shown_as=file, maximum_virtual_size=maximum_virtual_size)
            disk = copy.rename(place / f"disk.{disk_format}")
            entry = file_entry(disk, format=disk_format, virtual_size_bytes=virtual_size)
            source = {"imported_from": file.name}
            write_manifest(place, name, {"disk": entry}, kernel_arguments="", channels=[], source=source)
    finally:
        os.close(descriptor)
    return show_image(image_dir, name)


def inspect(
    file: Path, *, shown_as: Path | None = None, maximum_virtual_size: int = MAXIMUM_VIRTUAL_SIZE
) -> tuple[str, int]:
    """Format ("qcow2" or "raw") and virtual size in bytes of a harmless disk image.

    Raises
    ------
    ValidationError
        If it is not harmless.
    """
    shown = shown_as or file
    with file.open("rb") as stream:
        magic = stream.read(4)
    # Probing a raw image by content would let a guest that wrote a header into it choose the format.
    if magic != b"QFI\xfb":
        found: dict[str, Any] = json.loads(
            run(["qemu-img", "info", "--output=json", str(file)], confined=True, timeout=120)
        )
        if found.get("format") != "raw":
            raise _refused(shown, f"its format is {found.get('format')}", "qcow2 or raw")
        size = int(found["virtual-size"])
        _check_size(shown, size, maximum_virtual_size)
        return "raw", size
    _check_qcow2_header(file, shown)
    found = json.loads(run(["qemu-img", "info", "--output=json", "-f", "qcow2", str(file)], confined=True, timeout=120))
    details = found.get("format-specific", {}).get("data", {})
    if found.get("backing-filename") or found.get("full-backing-filename"):
        raise _refused(shown, f"it has the backing file {found.get('backing-filename')!r}", "an image without one")
    if details.get("data-file"):
        raise _refused(shown, f"it has the external data file {details['data-file']!r}", "an image without one")
    if found.get("encrypted") or details.get("encrypt"):
        raise _refused(shown, "it is encrypted", "an image without encryption")
    if details.get("corrupt"):
        raise _refused(shown, "it is marked corrupt", "a sound image")
    size = int(found["virtual-size"])
    _check_size(shown, size, maximum_virtual_size)
    return "qcow2", size


def _check_qcow2_header(file: Path, shown: Path) -> None:
    """Refuse reaching outside by the header alone, before any tool opens what it names."""
    with file.open("rb") as stream:
        header = stream.read(104)
    if len(header) < 72:
        raise _refused(shown, "its qcow2 header is cut off", "a complete image")
    version = int.from_bytes(header[4:8], "big")
    backing_offset = int.from_bytes(header[8:16], "big")
    incompatible = int.from_bytes(header[72:80], "big") if version >= 3 and len(header) >= 80 else 0
    if version not in (2, 3):
        raise _refused(shown, f"its qcow2 version is {version}", "version 2 or 3")
    if backing_offset != 0:
        raise _refused(shown, "it has a backing file", "an image without one")
    if incompatible & 0x4:
        raise _refused(shown, "it has an external data file", "an image without one")
    if int.from_bytes(header[32:36], "big") != 0:
        raise _refused(shown, "it is encrypted", "an image without encryption")


def _check_size(shown: Path, size: int, maximum: int) -> None:
    if not 0 < size <= maximum:
        raise _refused(shown, f"its virtual size is {size} bytes", f"1 to {maximum} bytes")


def _refused(file: Path, why: str, allowed: str) -> ValidationError:
    return ValidationError(
        f"{file} cannot be imported: {why}; allowed: {allowed}",
        context={"field": "file", "value": str(file), "allowed": allowed},
    )


def _copy(source: int, target: Path, size: int, progress: Progress) -> None:
    done = 0
    with target.open("xb") as out:
        while done < size:
            progress("copying", done, size)
            count = os.copy_file_range(source, out.fileno(), min(64 << 20, size - done))
            if count == 0:
                break
            done += count
    progress("copying", done, size)
