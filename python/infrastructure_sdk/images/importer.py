"""Take over a disk image of a stranger, after making sure that it reaches nothing but itself."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infrastructure_sdk.exceptions import NotFoundError, ProviderError, ValidationError
from infrastructure_sdk.images.cache import fetch
from infrastructure_sdk.images.cloud_init import CloudInit
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

SECTOR = 512

FOREIGN: list[tuple[int, bytes, str]] = [
    (0, b"KDMV", "a VMDK image"),
    (0, b"COWD", "a VMDK image"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
    (64, b"\x7f\x10\xda\xbe", "a VDI image"),
    (0, b"vhdxfile", "a VHDX image"),
    (0, b"conectix", "a VHD image"),
    (-512, b"conectix", "a VHD image"),
    (-512, b"koly", "a DMG image"),
    (0, b"QED\0", "a QED image"),
    (0, b"WithoutFreeSpace", "a Parallels image"),
    (0, b"WithouFreSpacExt", "a Parallels image"),
    (0, b"Bochs Virtual HD Image", "a Bochs image"),
    (0, b"#!/bin/sh\n#V2.0 Format", "a cloop image"),
    (0, b"LUKS\xba\xbe", "a LUKS image, which is encrypted"),
    (0, b"\x1f\x8b", "compressed (gzip)"),
    (0, b"\xfd7zXZ\0", "compressed (xz)"),
    (0, b"\x28\xb5\x2f\xfd", "compressed (zstd)"),
    (0, b"BZh", "compressed (bzip2)"),
    (0, b"PK\x03\x04", "an archive (zip)"),
    (0, b"7z\xbc\xaf\x27\x1c", "an archive (7z)"),
    (257, b"ustar", "an archive (tar or OVA)"),
]
"""Offset (from the end if negative), bytes found there, and what that makes the file.

The signatures are those of QEMU's block drivers and of file(1). They are looked for here because some formats, VMDK
first, make qemu-img open other files and even network addresses as soon as it looks at them.
"""


def import_image(
    image_dir: Path,
    file: Path,
    name: str | None = None,
    *,
    maximum_virtual_size: int = MAXIMUM_VIRTUAL_SIZE,
    cloud_init: CloudInit | None = None,
    source: Mapping[str, str] | None = None,
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
        Bytes; also of the file itself.
    cloud_init
        For images of clouds: a seed is put beside the disk, and every VM finds it as a disc.
    source
        Where the file is from, for the manifest.
    progress
        Told of the steps.

    Raises
    ------
    ValidationError
        If the format is another one, or the image has a backing file, an external data file or encryption, is empty,
        damaged or too large, or the name is wrong.
    NotFoundError
        If the file is not there.
    ProviderError
        If qemu-img is missing.
    StoreError
        If the image directory cannot be written or is full.
    """
    file = Path(file)
    name = check_name(name if name is not None else file.stem.lower())
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {file}", context={"field": "file", "value": str(file)}) from None
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else f"it cannot be opened ({error.strerror})"
        raise _refused(file, why, "a readable regular file, no symlink") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _refused(file, "it is not a regular file", "a regular file")
        # What can be refused at once is, before it costs a copy.
        _format_of(descriptor, file, maximum_virtual_size)
        with new_image(image_dir, name) as place:
            copy = place / "disk.img"
            _copy(descriptor, copy, status.st_size, progress)
            # The copy is judged, not the original: nobody can exchange it between the look and the use.
            progress("checking", 0, None)
            disk_format, virtual_size = inspect(copy, shown_as=file, maximum_virtual_size=maximum_virtual_size)
            disk = copy.rename(place / f"disk.{disk_format}")
            entry = file_entry(disk, format=disk_format, virtual_size_bytes=virtual_size)
            files = {"disk": entry}
            if cloud_init is not None:
                progress("writing the cloud-init seed", 0, None)
                files["disc"] = _add_seed(cloud_init, place)
            origin = {"imported_from": file.name.encode(errors="replace").decode(), **(source or {})}
            write_manifest(place, name, files, kernel_arguments="", channels=[], source=origin)
    finally:
        os.close(descriptor)
    return show_image(image_dir, name)


def import_url(
    image_dir: Path,
    url: str,
    sha256: str,
    name: str | None = None,
    *,
    cloud_init: CloudInit | None = None,
    progress: Progress = no_progress,
) -> Image:
    """Download a disk image, or take it from the cache, and import it.

    Parameters
    ----------
    image_dir
        The image directory; made if need be.
    url
        http or https.
    sha256
        What its publisher states, 64 hex digits.
    name
        The image's name; the stem of the URL's last part in lower case if absent.
    cloud_init
        As for `import_image`.
    progress
        Told of the steps.

    Raises
    ------
    ValidationError
        As `import_image`; or if the URL or the hash is none, or what came has another hash.
    ProviderError
        If the server cannot be reached or refuses; the next try continues.
    """
    stem = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).stem
    name = check_name(name if name is not None else stem.lower())
    file = fetch(image_dir, url, sha256, progress=progress)
    source = {"imported_from": stem, "sha256": file.name}
    return import_image(image_dir, file, name, cloud_init=cloud_init, source=source, progress=progress)


def _add_seed(cloud_init: CloudInit, place: Path) -> dict[str, Any]:
    seed = place / "seed.iso"
    with tempfile.TemporaryDirectory(prefix="seed-") as scratch:
        cloud_init.write(Path(scratch), seed)
    return file_entry(seed)


def inspect(
    file: Path, *, shown_as: Path | None = None, maximum_virtual_size: int = MAXIMUM_VIRTUAL_SIZE
) -> tuple[str, int]:
    """Format ("qcow2" or "raw") and virtual size in bytes of a harmless and complete disk image.

    Raises
    ------
    ValidationError
        If it is not.
    ProviderError
        If qemu-img is missing.
    """
    file = Path(file).absolute()  # a relative "nbd:x" would be an address for qemu-img
    shown = shown_as or file
    with file.open("rb") as stream:
        disk_format = _format_of(stream.fileno(), shown, maximum_virtual_size)
    if disk_format == "raw":
        return "raw", file.stat().st_size
    found: dict[str, Any] = json.loads(_ask(["info", "--output=json", "-f", "qcow2", str(file)], file, shown))
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
    _ask(["check", "-q", "-f", "qcow2", str(file)], file, shown)
    return "qcow2", size


def _ask(arguments: list[str], file: Path, shown: Path) -> str:
    """What qemu-img says of an image; an image that it cannot read is the image's fault."""
    leaks = 3  # clusters that nothing refers to waste space and harm nobody
    try:
        return run(["qemu-img", *arguments], confined=True, timeout=120)
    except ProviderError as error:
        code = error.context.get("exit_code")
        if code is None:
            raise
        if code == leaks and arguments[0] == "check":
            return ""
        why = str(error).replace(str(file), str(shown))
        raise _refused(shown, f"it is damaged or cut off: {why}", "a sound qcow2 image") from error


def _format_of(descriptor: int, shown: Path, maximum: int) -> str:
    """The format by the bytes alone, before any tool opens what they name; refuses all but harmless qcow2 and raw."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        raise _refused(shown, "it is empty", "a qcow2 or raw disk image")
    if size > maximum:
        raise _refused(shown, f"its size is {size} bytes", f"1 to {maximum} bytes")
    head = os.pread(descriptor, SECTOR, 0)
    tail = os.pread(descriptor, SECTOR, max(0, size - SECTOR))
    if head.startswith(b"QFI\xfb"):
        _check_qcow2_header(head, shown, maximum)
        return "qcow2"
    for offset, signature, what in FOREIGN:
        if (head[offset:] if offset >= 0 else tail).startswith(signature):
            raise _refused(shown, f"it is {what}", "qcow2 or raw; convert or unpack it first")
    if size % SECTOR:
        raise _refused(
            shown, f"its size of {size} bytes is no multiple of {SECTOR}: it is no disk image", "qcow2 or raw"
        )
    # Raw is what is left. No guest can make it another format later: it is always named, never probed.
    return "raw"


def _check_qcow2_header(header: bytes, shown: Path, maximum: int) -> None:
    """See docs/interop/qcow2.txt of QEMU for the offsets."""
    if len(header) < 104:
        raise _refused(shown, "its qcow2 header is cut off", "a complete image")
    version = int.from_bytes(header[4:8], "big")
    if version not in (2, 3):
        raise _refused(shown, f"its qcow2 version is {version}", "version 2 or 3")
    if int.from_bytes(header[8:16], "big") != 0:
        raise _refused(shown, "it has a backing file", "an image without one")
    if int.from_bytes(header[32:36], "big") != 0:
        raise _refused(shown, "it is encrypted", "an image without encryption")
    if version == 3 and int.from_bytes(header[72:80], "big") & 0x4:
        raise _refused(shown, "it has an external data file", "an image without one")
    _check_size(shown, int.from_bytes(header[24:32], "big"), maximum)


def _check_size(shown: Path, size: int, maximum: int) -> None:
    if not 0 < size <= maximum:
        raise _refused(shown, f"its virtual size is {size} bytes", f"1 to {maximum} bytes")


def _refused(file: Path, why: str, allowed: str) -> ValidationError:
    return ValidationError(
        f"{file} cannot be imported: {why}; allowed: {allowed}",
        context={"field": "file", "value": str(file), "allowed": allowed},
    )


def _copy(source: int, target: Path, size: int, progress: Progress) -> None:
    """Holes stay holes. Not copy_file_range: it fails from one file system to another."""
    with target.open("xb") as out:
        out.truncate(size)
        done = 0
        while done < size:
            progress("copying", done, size)
            try:
                start = os.lseek(source, done, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nothing but a hole is left
                    raise
                break
            os.lseek(out.fileno(), start, os.SEEK_SET)
            end = min(size, os.lseek(source, start, os.SEEK_HOLE))
            count = os.sendfile(out.fileno(), source, start, min(64 << 20, end - start))
            if count == 0:
                break
            done = start + count
    progress("copying", size, size)
