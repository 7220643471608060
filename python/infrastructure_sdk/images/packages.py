"""Debian packages as raw material: downloaded and unpacked, never installed; and kernel modules found in them."""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from infrastructure_sdk.exceptions import ProviderError
from infrastructure_sdk.images.commands import run


def kernel_package(meta_package: str) -> str:
    """The newest versioned kernel package behind a meta package such as "linux-image-amd64".

    Raises
    ------
    ProviderError
        If apt does not know it.
    """
    listing = run(["apt-cache", "depends", "--no-recommends", "--no-suggests", meta_package])
    match = re.search(r"Depends:\s*(linux-image-\S+)", listing)
    if not match:
        raise ProviderError(f"apt knows no package {meta_package}; run: apt-get update")
    return match.group(1)


def unpack(packages: list[str], scratch: Path) -> Path:
    """Download packages and unpack all of them into one tree, which is returned."""
    downloads, tree = scratch / "debs", scratch / "tree"
    downloads.mkdir()
    # apt drops to a user of its own, who must be able to write here.
    scratch.chmod(0o755)
    downloads.chmod(0o777)
    run(["apt-get", "download", *packages], cwd=downloads, timeout=900)
    for package in sorted(downloads.glob("*.deb")):
        run(["dpkg", "-x", str(package), str(tree)])
    return tree


def the_one(tree: Path, pattern: str) -> Path:
    """The only file of that pattern.

    Raises
    ------
    ProviderError
        If there is none, or more than one.
    """
    found = sorted(tree.glob(pattern))
    if len(found) != 1:
        raise ProviderError(f"the packages have {len(found)} files {pattern}, one was expected")
    return found[0]


def module_closure(folder: Path, roots: Iterable[str]) -> list[Path]:
    """The named modules and all that they need, each after what it needs; names that are built in are left out.

    Parameters
    ----------
    folder
        Holds the `.ko` files, at any depth.
    roots
        Names of modules; `-` and `_` are the same, as for the kernel.
    """
    known = {path.stem.replace("-", "_"): path for path in folder.rglob("*.ko")}
    order: dict[str, Path] = {}
    seen: set[str] = set()

    def visit(name: str) -> None:
        name = name.replace("-", "_")
        path = known.get(name)
        if path is None or name in seen:
            return
        seen.add(name)
        for needed in module_needs(path.read_bytes()):
            visit(needed)
        order[name] = path

    for root in roots:
        visit(root)
    return list(order.values())


def module_needs(module: bytes) -> list[str]:
    """Names in the `depends` and the `softdep: pre` lines of a module's information section."""
    # The information section is text: one "key=value" after another, each ended by a zero.
    hard = [name for text in re.findall(rb"\0depends=([^\0]*)\0", module) for name in text.decode().split(",") if name]
    soft = [
        name
        for text in re.findall(rb"[\0]softdep=pre: ([^\0]*?)(?: post:[^\0]*)?\0", module)
        for name in text.decode().split()
    ]
    return hard + soft


def copy_modules(modules: Iterable[Path], target: Path) -> None:
    """Copy modules into one folder, without what only a debugger reads."""
    strip = shutil.which("strip")
    for module in modules:
        shutil.copyfile(module, target / module.name)
        if strip:
            subprocess.run([strip, "--strip-debug", str(target / module.name)], check=True)


def kernel_elf(image: bytes) -> bytes | None:
    """The ELF file inside an x86 kernel image that is packed with xz; None if there is none.

    An unpacked kernel starts sooner: unpacking is what emulation pays for.
    """
    start = image.find(b"\xfd7zXZ\x00")
    while start >= 0:
        unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
        try:
            elf = unpacker.decompress(image[start:])
        except lzma.LZMAError:
            elf = b""
        if elf.startswith(b"\x7fELF") and unpacker.eof:
            return elf
        start = image.find(b"\xfd7zXZ\x00", start + 1)
    return None
