"""A Debian on a disk: packages by mmdebstrap, files of ours over them, an ext4 file system that nobody mounts."""

from __future__ import annotations

import io
import os
import shlex
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infrastructure_sdk.exceptions import ProviderError
from infrastructure_sdk.images.commands import run, run_watched
from infrastructure_sdk.images.initrd import disk_initrd
from infrastructure_sdk.images.packages import (
    copy_modules,
    kernel_elf,
    kernel_package,
    module_closure,
    the_one,
    unpack,
)
from infrastructure_sdk.images.store import (
    Image,
    Progress,
    file_entry,
    new_image,
    no_progress,
    show_image,
    write_manifest,
)

LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/help/*")

# Housekeeping that a session's VM does not live long enough for, and consoles that nobody sits at.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-pstore.service",
    "systemd-timesyncd.service",
    "systemd-networkd-wait-online.service",
    "serial-getty@ttyS0.service",
    # Each costs the start of a program, and nobody asks for them.
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-random-seed.service",
    "systemd-update-utmp.service",
)

# A cold start is as complete as a warm one: the host names the guest on the kernel's command line.
HOSTNAME_SERVICE = """[Unit]
Description=Take the hostname from the kernel's command line
DefaultDependencies=no
After=systemd-remount-fs.service
Before=sysinit.target

[Service]
Type=oneshot
ExecStart=/usr/local/lib/take-hostname

[Install]
WantedBy=sysinit.target
"""

TAKE_HOSTNAME = """#!/bin/sh
for word in $(cat /proc/cmdline); do
  case $word in
    isdk.hostname=*) for file in /etc/hostname /proc/sys/kernel/hostname; do echo "${word#*=}" >$file; done ;;
  esac
done
"""

GROW_SERVICE = """[Unit]
Description=Let the file system fill the disk

[Service]
Type=oneshot
ExecStart=/sbin/resize2fs /dev/vda

[Install]
WantedBy=multi-user.target
"""

NETWORK = """[Match]
Name=eth*

[Network]
DHCP=yes
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


@dataclass(frozen=True)
class Overlay:
    """Files that are put over an installed system; all belong to root.

    Attributes
    ----------
    files
        Path without a leading "/", and content.
    programs
        The same, executable.
    links
        Path without a leading "/", and where it points.
    """

    files: Mapping[str, str | bytes] = field(default_factory=dict)
    programs: Mapping[str, str | bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    def to_tar(self) -> bytes:
        """A tar archive; the same input gives the same bytes."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for entries, mode in ((self.files, 0o644), (self.programs, 0o755)):
                for path, content in sorted(entries.items()):
                    data = content.encode() if isinstance(content, str) else content
                    member = tarfile.TarInfo(path)
                    member.size, member.mode = len(data), mode
                    archive.addfile(member, io.BytesIO(data))
            for path, target in sorted(self.links.items()):
                member = tarfile.TarInfo(path)
                member.type, member.linkname = tarfile.SYMTYPE, target
                archive.addfile(member)
        return buffer.getvalue()

    def __or__(self, other: Overlay) -> Overlay:
        return Overlay(
            {**self.files, **other.files}, {**self.programs, **other.programs}, {**self.links, **other.links}
        )


def base_overlay(masked: Iterable[str] = ()) -> Overlay:
    """What every Debian guest of ours has: its disk, its network, a name from the host, no housekeeping."""
    system, shipped = "etc/systemd/system", "/lib/systemd/system"
    return Overlay(
        files={
            # The initial RAM disk mounts the disk for good; an entry would make systemd wait for its device.
            "etc/fstab": "",
            "etc/hostname": "guest\n",
            # Empty, not absent: the host gives each guest one of its own, and it is no first boot.
            "etc/machine-id": "",
            f"{system}/isdk-hostname.service": HOSTNAME_SERVICE,
            f"{system}/isdk-grow.service": GROW_SERVICE,
            "etc/systemd/network/10-eth.network": NETWORK,
            "etc/systemd/journald.conf.d/memory.conf": "[Journal]\nStorage=volatile\n",
        },
        programs={"usr/local/lib/take-hostname": TAKE_HOSTNAME},
        links={
            f"{system}/sysinit.target.wants/isdk-hostname.service": "../isdk-hostname.service",
            f"{system}/multi-user.target.wants/isdk-grow.service": "../isdk-grow.service",
            f"{system}/multi-user.target.wants/systemd-networkd.service": f"{shipped}/systemd-networkd.service",
            **{f"{system}/{unit}": "/dev/null" for unit in (*MASKED, *masked)},
        },
    )


def sources(listing: str) -> tuple[str, list[str]]:
    """Suite and one-line sources from what `apt-get indextargets` prints as "SITE RELEASE CODENAME COMPONENT" lines.

    Raises
    ------
    ProviderError
        If there are none.
    """
    rows = [line.split() for line in dict.fromkeys(listing.splitlines()) if len(line.split()) == 4]
    if not rows:
        raise ProviderError("apt knows no packages of Debian; run: apt-get update")
    main = next((row for row in rows if row[1] == row[2]), rows[0])
    return main[2], [f"deb {site} {release} {component}" for site, release, _, component in rows]


def debootstrap_command(
    packages: Sequence[str], overlay_file: Path, hooks: Sequence[str], target: Path, suite: str, mirrors: Sequence[str]
) -> list[str]:
    """The command that makes a tar archive of an installed Debian.

    Parameters
    ----------
    packages
        To install beside the smallest system.
    overlay_file
        A tar archive that is unpacked over it.
    hooks
        Shell commands that run after it; "$1" is the new system's folder.
    target
        The archive to make.
    suite, mirrors
        As from `sources`.
    """
    command = ["mmdebstrap", "--variant=minbase", "--mode=auto", "--format=tar"]
    command += ["--aptopt=Acquire::Languages none", "--aptopt=APT::Install-Recommends false"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += [f"--include={','.join(packages)}"]
    command += [f"--customize-hook=tar-in {shlex.quote(str(overlay_file))} /"]
    command += [f"--customize-hook={hook}" for hook in hooks]
    # What makes a machine this one machine is given by the host, to each its own.
    command += ['--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/var/lib/systemd/random-seed']
    return [*command, suite, str(target), *mirrors]


def install(
    packages: Sequence[str], overlay: Overlay, hooks: Sequence[str], scratch: Path, told: Callable[[str], None]
) -> Path:
    """Make the archive; returns it. `told` gets each step that mmdebstrap reports.

    Raises
    ------
    ProviderError
        If a tool or a package is missing.
    """
    listing = run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(SITE) $(RELEASE) $(CODENAME) $(COMPONENT)",
            "Created-By: Packages",
            "Origin: Debian",
        ]
    )
    suite, mirrors = sources(listing)
    overlay_file, target = scratch / "overlay.tar", scratch / "root.tar"
    overlay_file.write_bytes(overlay.to_tar())
    # Without root the work is done under other uids.
    scratch.chmod(0o777)
    target.touch()
    run_watched(debootstrap_command(packages, overlay_file, hooks, target, suite, mirrors), told, timeout=3600)
    return target


def make_disk(archive: Path, scratch: Path, target: Path, size: str) -> int:
    """An ext4 file system with the archive's content as a compressed qcow2 image; returns its virtual size in bytes.

    Parameters
    ----------
    archive
        A tar archive.
    scratch
        A folder to work in.
    target
        The image to make.
    size
        Of the file system, e.g. "4G".
    """
    root, raw = scratch / "root", scratch / "disk.raw"
    root.mkdir()
    # Owners and devices are root's to give; for others fakeroot keeps them in a file of its own.
    fake, state = os.geteuid() != 0, scratch / "fakeroot.state"
    state.touch()

    def as_root(command: list[str]) -> None:
        run(["fakeroot", "-i", str(state), "-s", str(state), "--", *command] if fake else command, timeout=1800)

    as_root(["tar", "--extract", "--numeric-owner", "--file", str(archive), "--directory", str(root)])
    features = ["-E", "lazy_itable_init=1", "-O", "^metadata_csum_seed"]
    as_root(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-m", "1", "-d", str(root), *features, str(raw), size])
    run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(raw), str(target)], timeout=1800)
    return raw.stat().st_size


@dataclass(frozen=True)
class Recipe:
    """What an image of Debian is made of.

    Attributes
    ----------
    name
        The image's.
    kernel
        The meta package of its kernel.
    packages
        Installed beside the smallest system.
    overlay
        Put over it.
    hooks
        Shell commands after that; "$1" is the system's folder.
    early_modules
        Loaded, with what they need, before the disk is mounted.
    modules
        Kept for later, with what they need.
    kernel_arguments
        Of the guest's kernel.
    disk_size
        Of the disk, e.g. "4G"; a VM's own may be larger.
    unpack_kernel
        Keep the kernel unpacked: it starts sooner, but writes no text to a VGA screen.
    """

    name: str
    kernel: str
    packages: tuple[str, ...]
    overlay: Overlay
    hooks: tuple[str, ...]
    early_modules: tuple[str, ...]
    modules: tuple[str, ...]
    kernel_arguments: str
    disk_size: str
    unpack_kernel: bool = False


def build_debian(recipe: Recipe, image_dir: Path, progress: Progress = no_progress) -> Image:
    """Build an image by its recipe: a kernel, an initial RAM disk and a disk.

    Parameters
    ----------
    recipe
        What it is made of.
    image_dir
        The image directory; made if need be.
    progress
        Told of the steps.

    Raises
    ------
    ProviderError
        If a tool or a package is missing; the message says what to install.
    """
    steps = 6
    with tempfile.TemporaryDirectory(prefix=f"{recipe.name}-") as name, new_image(image_dir, recipe.name) as place:
        scratch = Path(name)
        progress("downloading the kernel", 0, steps)
        package = kernel_package(recipe.kernel)
        tree = unpack([package], scratch)
        kernel = the_one(tree, "boot/vmlinuz-*")
        release = kernel.name.removeprefix("vmlinuz-")
        modules = tree / "lib/modules" / release
        packed = kernel.read_bytes()
        (place / "kernel").write_bytes((recipe.unpack_kernel and kernel_elf(packed)) or packed)
        progress("making the initial RAM disk", 1, steps)
        disk_initrd(scratch, module_closure(modules, recipe.early_modules), place / "initrd")
        progress("installing packages", 2, steps)
        kept = scratch / "modules"
        kept.mkdir()
        copy_modules(module_closure(modules, (*recipe.early_modules, *recipe.modules)), kept)
        overlay = recipe.overlay | module_overlay(kept, tree, release)
        hooks = (*recipe.hooks, f'chroot "$1" depmod {shlex.quote(release)}')

        def told(line: str) -> None:
            if line.startswith("I: "):
                progress(f"installing packages: {line.removeprefix('I: ')}", 2, steps)

        archive = install(recipe.packages, overlay, hooks, scratch, told)
        progress("making the disk", 4, steps)
        virtual_size = make_disk(archive, scratch, place / "disk.qcow2", recipe.disk_size)
        progress("writing the manifest", 5, steps)
        files = {
            "kernel": file_entry(place / "kernel"),
            "initrd": file_entry(place / "initrd"),
            "disk": file_entry(place / "disk.qcow2", format="qcow2", virtual_size_bytes=virtual_size),
        }
        write_manifest(
            place,
            recipe.name,
            files,
            kernel_arguments=recipe.kernel_arguments,
            channels=["agent", "display"],
            source={"kernel_package": package, "kernel_release": release, "packages": list(recipe.packages)},
        )
        progress("done", steps, steps)
    return show_image(image_dir, recipe.name)


def module_overlay(modules: Path, tree: Path, release: str) -> Overlay:
    """The modules of one folder, and the lists that depmod reads, where the guest looks for them."""
    place = f"usr/lib/modules/{release}"
    files: dict[str, str | bytes] = {f"{place}/kernel/{file.name}": file.read_bytes() for file in modules.iterdir()}
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        source = tree / "lib/modules" / release / name
        if source.is_file():
            files[f"{place}/{name}"] = source.read_bytes()
    return Overlay(files)
