"""Make a Debian with cloud-init as clouds hand it out: a partitioned disk that boots itself by GRUB from its BIOS.

As root, with mmdebstrap, e2fsprogs and qemu-utils (about two minutes, 170 MB):

    python tests/python/cloud_image.py build/debian-12-cloud.qcow2

No loop device is used: mke2fs fills the file system at its place in the file.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from pathlib import Path

from infrastructure_sdk.images.commands import run
from infrastructure_sdk.images.debian import Overlay, install

SECTOR = 512
DISK_SIZE = 2 << 30
FIRST_SECTOR = 2048

PACKAGES = (
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "e2fsprogs",
    "iproute2",
    "netbase",
    "locales",
    "ca-certificates",
    "openssh-server",
    "sudo",
    "cloud-init",
    "cloud-guest-utils",
    "fdisk",
    "netplan.io",
    "qemu-guest-agent",
    "grub-pc-bin",
    "grub-common",
)

GRUB = """set timeout=0
linux /vmlinuz root=LABEL=root ro console=tty0 console=ttyS0,115200
initrd /initrd.img
boot
"""

OVERLAY = Overlay(
    files={
        "boot/grub/grub.cfg": GRUB,
        "etc/fstab": "LABEL=root / ext4 defaults,x-systemd.growfs 0 1\n",
        "etc/hostname": "localhost\n",
        "etc/machine-id": "",
        # Another locale is compiled at the first start, which takes minutes under emulation.
        "etc/cloud/cloud.cfg.d/90-locale.cfg": "locale: C.UTF-8\n",
        "etc/default/locale": "LANG=C.UTF-8\n",
    }
)

BOOT_LOADER = (
    'chroot "$1" grub-mkimage -O i386-pc -o /boot/core.img -p "(hd0,msdos1)/boot/grub" '
    "biosdisk part_msdos ext2 normal linux configfile"
)


def master_boot_record(boot_code: bytes) -> bytes:
    """GRUB's first sector with one partition, which is active."""
    anywhere = b"\xfe\xff\xff"
    sectors = DISK_SIZE // SECTOR - FIRST_SECTOR
    partition = struct.pack("<B3sB3sII", 0x80, anywhere, 0x83, anywhere, FIRST_SECTOR, sectors)
    return boot_code[:440] + struct.pack("<IH", 0x1D5C0DE, 0) + partition + bytes(48) + b"\x55\xaa"


def make_cloud_image(target: Path) -> None:
    """Make the image.

    Parameters
    ----------
    target
        The qcow2 file to make.

    Raises
    ------
    ProviderError
        If a tool or a package is missing.
    """
    with tempfile.TemporaryDirectory(prefix="cloud-image-") as name:
        scratch = Path(name)
        archive = install(PACKAGES, OVERLAY, (BOOT_LOADER,), scratch, print)
        root, raw = scratch / "root", scratch / "disk.raw"
        root.mkdir()
        run(["tar", "--extract", "--numeric-owner", "--file", str(archive), "--directory", str(root)], timeout=600)
        loader = (root / "boot/core.img").read_bytes()
        first = master_boot_record((root / "usr/lib/grub/i386-pc/boot.img").read_bytes())
        if len(first) + len(loader) > FIRST_SECTOR * SECTOR:
            raise ValueError(f"GRUB has {len(loader)} bytes, more than fit in front of the partition")
        with raw.open("wb") as disk:
            disk.truncate(DISK_SIZE)
        place = ["-E", f"offset={FIRST_SECTOR * SECTOR},lazy_itable_init=1", "-O", "^metadata_csum_seed"]
        size = f"{DISK_SIZE // 1024 - FIRST_SECTOR // 2}k"
        run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", str(root), *place, str(raw), size], timeout=600)
        with raw.open("r+b") as disk:
            disk.write(first + loader)
        run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(raw), str(target)], timeout=600)


if __name__ == "__main__":
    make_cloud_image(Path(sys.argv[1]))
