"""linux-server: Debian with systemd, an SSH server and the QEMU guest agent; a text console on the screen."""

from __future__ import annotations

from pathlib import Path

from infrastructure_sdk.images.debian import Overlay, Recipe, base_overlay, build_debian
from infrastructure_sdk.images.store import Image, Progress, no_progress

SYSTEM = "etc/systemd/system"

OVERLAY = base_overlay() | Overlay(
    files={
        # Who sees the screen owns the machine.
        f"{SYSTEM}/getty@tty1.service.d/autologin.conf": (
            "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --noclear %I $TERM\n"
        ),
        "etc/ssh/sshd_config.d/keys-only.conf": "PasswordAuthentication no\nKbdInteractiveAuthentication no\n",
        "etc/issue": "Infrastructure SDK - linux-server on \\n \\l\n\n",
    },
)

RECIPE = Recipe(
    name="linux-server",
    kernel="linux-image-cloud-amd64",
    packages=(
        "systemd-sysv",
        "udev",
        "dbus",
        "kmod",
        "e2fsprogs",
        "iproute2",
        "iputils-ping",
        "procps",
        "less",
        "nano",
        "ca-certificates",
        "openssh-server",
        "qemu-guest-agent",
    ),
    overlay=OVERLAY,
    # A server that waits would need a host key before the host has given one: the first connection starts it.
    hooks=('chroot "$1" systemctl --quiet disable ssh.service', 'chroot "$1" systemctl --quiet enable ssh.socket'),
    early_modules=("virtio_pci", "virtio_console", "virtio_blk", "ext4"),
    modules=("virtio-rng", "virtio_net", "virtio_balloon", "overlay", "fuse", "qemu_fw_cfg", "isofs", "sr_mod", "ahci"),
    kernel_arguments=(
        "console=ttyS0 console=tty0 quiet loglevel=1 reboot=t panic=-1 mitigations=off nokaslr cryptomgr.notests "
        "no_timer_check random.trust_cpu=on net.ifnames=0"
    ),
    disk_size="4G",
)


def build_linux_server(image_dir: Path, progress: Progress = no_progress) -> Image:
    """Build the image `linux-server` (about 70 MB downloaded, 90 MB kept).

    Parameters
    ----------
    image_dir
        The image directory; made if need be.
    progress
        Told of the steps.

    Raises
    ------
    ProviderError
        If a tool or a package is missing; the message says what to install.
    """
    return build_debian(RECIPE, image_dir, progress)
