"""Initial RAM disks: packing one, and the one that mounts a disk and hands over to its init."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from infrastructure_sdk.exceptions import ProviderError
from infrastructure_sdk.images.commands import find_tool
from infrastructure_sdk.images.packages import copy_modules

DISK_INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in @modules@; do insmod /modules/$module; done
tries=0
until [ -b /dev/vda ]; do
  tries=$((tries + 1))
  [ $tries -gt 100 ] && { echo "there is no disk /dev/vda"; exec sh; }
  sleep 0.1
done
mount -t ext4 -o noatime /dev/vda /root || { echo "/dev/vda cannot be mounted"; exec sh; }
for place in dev proc sys; do mount --move /$place /root/$place; done
exec switch_root /root /lib/systemd/systemd
"""
APPLETS = ("sh", "mount", "insmod", "sleep", "switch_root")


def disk_initrd(scratch: Path, modules: Sequence[Path], target: Path) -> None:
    """Make the initial RAM disk of a guest whose root is the ext4 file system on /dev/vda and whose init is systemd.

    Parameters
    ----------
    scratch
        A folder to work in.
    modules
        Loaded in this order.
    target
        The file to make.
    """
    root = scratch / "initrd"
    for folder in ("bin", "dev", "proc", "sys", "root", "modules"):
        (root / folder).mkdir(parents=True)
    shutil.copyfile(find_tool("busybox"), root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    copy_modules(modules, root / "modules")
    (root / "init").write_text(DISK_INIT.replace("@modules@", " ".join(module.name for module in modules)))
    for path in ("bin/busybox", "init"):
        (root / path).chmod(0o755)
    pack(root, target)


def pack(root: Path, target: Path) -> None:
    """An uncompressed newc archive: unpacking is what emulation pays for. The same input gives the same bytes."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    for name in names:
        os.utime(root / name, (0, 0), follow_symlinks=False)
    command = [find_tool("cpio"), "--create", "--format=newc", "--reproducible", "--null", "--quiet", "--owner=0:0"]
    with target.open("wb") as out:
        done = subprocess.run(
            command, cwd=root, input="\0".join(names).encode() + b"\0", stdout=out, stderr=subprocess.PIPE
        )
    if done.returncode != 0:
        raise ProviderError(f"cpio failed: {done.stderr.decode(errors='replace')[-500:]}")
