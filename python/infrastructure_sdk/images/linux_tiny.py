"""linux-tiny: Debian's cloud kernel, busybox and the QEMU guest agent in an initial RAM disk, and a small data disk.

Built from Debian packages that are downloaded and unpacked, never installed; no root, no loop device, no KVM.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from infrastructure_sdk.images.commands import find_tool, run
from infrastructure_sdk.images.initrd import pack
from infrastructure_sdk.images.packages import copy_modules, kernel_package, the_one, unpack
from infrastructure_sdk.images.store import (
    Image,
    Progress,
    file_entry,
    new_image,
    no_progress,
    show_image,
    write_manifest,
)

NAME = "linux-tiny"
DISK_SIZE = "64M"
KERNEL_META_PACKAGE = "linux-image-cloud-amd64"

# The order is the order of loading. ext4 is built into the cloud kernel.
MODULES = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "virtio-rng",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_balloon",
]

# What costs time under emulation and protects the guest only against itself is off.
KERNEL_ARGUMENTS = (
    "console=ttyS0 console=tty0 quiet loglevel=1 reboot=t panic=-1 mitigations=off nokaslr cryptomgr.notests "
    "no_timer_check random.trust_cpu=on"
)

INIT = """#!/bin/sh
export PATH=/bin:/sbin HOME=/root TERM=linux
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts pts /dev/pts; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
ln -s /run /var/run 2>/dev/null
load() { for module in "$@"; do insmod /modules/$module.ko 2>/dev/null; done; }
load virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_console
# Without udev there is no /dev/virtio-ports: the port is found by its name.
agent() {
  for port in /sys/class/virtio-ports/*; do
    [ "$(cat $port/name)" = org.qemu.guest_agent.0 ] || continue
    while :; do qemu-ga -m virtio-serial -p /dev/${port##*/} -t /run; sleep 1; done
  done
}
load virtio_blk virtio-rng failover net_failover virtio_net virtio_balloon
ip link set lo up
for word in $(cat /proc/cmdline); do
  case $word in isdk.hostname=*) hostname "${word#isdk.hostname=}" ;; esac
done
[ -b /dev/vda ] && mount -t ext4 -o noatime /dev/vda /data 2>/dev/null
[ -d /sys/class/net/eth0 ] && { ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0;
  ip route add default via 10.0.2.2; echo nameserver 10.0.2.3 >/etc/resolv.conf; }
banner() {
  echo
  echo "  Infrastructure SDK - linux-tiny"
  echo "  Linux $(uname -r) on $(hostname)"
  echo "  $(free -m | awk '/Mem/ {print $2}') MiB of memory, data disk on /data"
  echo
}
banner >/dev/tty1; banner >/dev/ttyS0
# Last: who is answered finds disk, network and console ready.
agent >/dev/null 2>&1 &
while :; do setsid sh -c 'exec sh -l </dev/ttyS0 >/dev/ttyS0 2>&1'; sleep 1; done &
while :; do setsid cttyhack sh -l </dev/tty1 >/dev/tty1 2>&1; sleep 1; done
"""

# The agent sets the time only where it finds /sbin/hwclock, and waits for it. The emulated clock needs no setting, and
# a shell would take longer to start than all the rest.
HWCLOCK = "#!/bin/true\n"

# The agent's guest-shutdown runs /sbin/shutdown.
SHUTDOWN = """#!/bin/sh
export PATH=/bin:/sbin
sync; umount /data 2>/dev/null
case "$*" in *-r*) reboot -f ;; *) poweroff -f ;; esac
"""


def build_linux_tiny(image_dir: Path, progress: Progress = no_progress) -> Image:
    """Build the image `linux-tiny` (about 40 MB downloaded, 25 MB kept).

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
    steps = 5
    with tempfile.TemporaryDirectory(prefix="linux-tiny-") as scratch_name, new_image(image_dir, NAME) as place:
        scratch = Path(scratch_name)
        progress("downloading packages", 0, steps)
        package = kernel_package(KERNEL_META_PACKAGE)
        tree = unpack([package, "qemu-guest-agent"], scratch)
        progress("copying the kernel", 1, steps)
        kernel = the_one(tree, "boot/vmlinuz-*")
        release = kernel.name.removeprefix("vmlinuz-")
        shutil.copyfile(kernel, place / "kernel")
        progress("making the initial RAM disk", 2, steps)
        root = scratch / "root"
        _fill_root(root, tree, release)
        pack(root, place / "initrd")
        progress("making the disk", 3, steps)
        virtual_size = _make_disk(scratch, place / "disk.qcow2")
        progress("writing the manifest", 4, steps)
        files = {
            "kernel": file_entry(place / "kernel"),
            "initrd": file_entry(place / "initrd"),
            "disk": file_entry(place / "disk.qcow2", format="qcow2", virtual_size_bytes=virtual_size),
        }
        write_manifest(
            place,
            NAME,
            files,
            kernel_arguments=KERNEL_ARGUMENTS,
            channels=["agent", "display"],
            source={"kernel_package": package, "kernel_release": release},
        )
        progress("done", steps, steps)
    return show_image(image_dir, NAME)


def _fill_root(root: Path, tree: Path, release: str) -> None:
    for folder in ("bin", "sbin", "dev", "proc", "sys", "tmp", "run", "var", "etc", "root", "data", "modules"):
        (root / folder).mkdir(parents=True)
    busybox = root / "bin/busybox"
    shutil.copyfile(find_tool("busybox"), busybox)
    for applet in run(["busybox", "--list"]).split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    agent = tree / "usr/sbin/qemu-ga"
    shutil.copyfile(agent, root / "sbin/qemu-ga")
    for library in re.findall(r"(/lib\S+)", run(["ldd", str(agent)])):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library, target)
        target.chmod(0o755)
    by_name = {path.stem: path for path in (tree / "lib/modules" / release).rglob("*.ko")}
    copy_modules([by_name[module] for module in MODULES if module in by_name], root / "modules")
    for path, text in (("init", INIT), ("sbin/shutdown", SHUTDOWN), ("sbin/hwclock", HWCLOCK)):
        (root / path).write_text(text)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/profile").write_text('export PATH=/bin:/sbin PS1="\\\\h:\\\\w# "\n')
    for path in ("bin/busybox", "sbin/qemu-ga", "init", "sbin/shutdown", "sbin/hwclock"):
        (root / path).chmod(0o755)


def _make_disk(scratch: Path, target: Path) -> int:
    raw = scratch / "disk.raw"
    run(["mke2fs", "-q", "-t", "ext4", "-L", "data", "-m", "0", "-E", "lazy_itable_init=1", str(raw), DISK_SIZE])
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(target)])
    return raw.stat().st_size
