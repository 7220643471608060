"""Recipes of images: their pure parts always, the built images where they are."""

from __future__ import annotations

import io
import lzma
import os
import select
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infrastructure_sdk as isdk
from infrastructure_sdk import images
from infrastructure_sdk.images import commands, debian, initrd, linux_desktop, linux_server, packages

RECIPES = [linux_server.RECIPE, linux_desktop.RECIPE]


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: member for member in opened.getmembers()}


def test_an_overlay_belongs_to_root_and_is_the_same_twice() -> None:
    overlay = debian.Overlay({"etc/a": "text"}, {"usr/bin/b": b"#!/bin/sh\n"}, {"etc/c": "/dev/null"})
    archive = overlay.to_tar()
    assert archive == overlay.to_tar()
    found = members(archive)
    assert {name: (member.mode, member.uid, member.gid, member.mtime) for name, member in found.items()} == {
        "etc/a": (0o644, 0, 0, 0),
        "usr/bin/b": (0o755, 0, 0, 0),
        "etc/c": (0o644, 0, 0, 0),
    }
    assert found["etc/c"].linkname == "/dev/null"


def test_the_later_overlay_wins() -> None:
    both = debian.Overlay({"a": "1", "b": "1"}) | debian.Overlay({"b": "2"})
    assert both.files == {"a": "1", "b": "2"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_holds_no_identity_and_no_absolute_path(recipe: debian.Recipe) -> None:
    found = members(recipe.overlay.to_tar())
    assert found["etc/machine-id"].size == 0
    assert not [name for name in found if name.startswith("/") or ".." in name or "ssh_host" in name]
    assert "qemu-guest-agent" in recipe.packages
    assert len(set(recipe.packages)) == len(recipe.packages)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_programs_of_a_recipe_are_shell_that_parses(recipe: debian.Recipe) -> None:
    for program in recipe.overlay.programs.values():
        text = program if isinstance(program, str) else program.decode()
        subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_the_initial_ram_disk_is_shell_that_parses() -> None:
    subprocess.run(["sh", "-n"], input=initrd.DISK_INIT.replace("@modules@", "a.ko b.ko"), text=True, check=True)


def test_the_sources_are_those_of_the_host() -> None:
    listing = (
        "http://mirror/debian bookworm bookworm main\n"
        "http://mirror/debian bookworm bookworm main\n"
        "http://mirror/debian-security bookworm-security bookworm-security main\n"
        "a line of another shape\n"
    )
    assert debian.sources(listing) == (
        "bookworm",
        ["deb http://mirror/debian bookworm main", "deb http://mirror/debian-security bookworm-security main"],
    )


@pytest.mark.parametrize("listing", ["", "\n", "one two three\n"])
def test_a_host_without_sources_is_told_what_to_do(listing: str) -> None:
    with pytest.raises(isdk.ProviderError, match="apt-get update"):
        debian.sources(listing)


def test_the_command_of_mmdebstrap_is_exactly_this() -> None:
    command = debian.debootstrap_command(
        ["a", "b"], Path("/scratch/it's/overlay.tar"), ['chroot "$1" true'], Path("/r.tar"), "bookworm", ["deb x y z"]
    )
    assert command == [
        "mmdebstrap",
        "--variant=minbase",
        "--mode=auto",
        "--format=tar",
        "--aptopt=Acquire::Languages none",
        "--aptopt=APT::Install-Recommends false",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/info/*",
        "--dpkgopt=path-exclude=/usr/share/help/*",
        "--include=a,b",
        "--customize-hook=tar-in '/scratch/it'\"'\"'s/overlay.tar' /",
        '--customize-hook=chroot "$1" true',
        '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/var/lib/systemd/random-seed',
        "bookworm",
        "/r.tar",
        "deb x y z",
    ]


def module(*lines: str) -> bytes:
    return b"\x7fELF code\0" + b"".join(line.encode() + b"\0" for line in lines)


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/ext4.ko").write_bytes(module("depends=jbd2,mbcache", "softdep=pre: crc32c", "name=ext4"))
    (tmp_path / "fs/jbd2.ko").write_bytes(module("depends="))
    (tmp_path / "mbcache.ko").write_bytes(module("depends="))
    (tmp_path / "virtio-rng.ko").write_bytes(module("depends=rng-core"))
    found = packages.module_closure(tmp_path, ["ext4", "virtio_rng", "jbd2", "built_in"])
    assert [path.stem for path in found] == ["jbd2", "mbcache", "ext4", "virtio-rng"]


def test_modules_that_need_each_other_do_not_hang(tmp_path: Path) -> None:
    (tmp_path / "a.ko").write_bytes(module("depends=b"))
    (tmp_path / "b.ko").write_bytes(module("depends=a"))
    assert {path.stem for path in packages.module_closure(tmp_path, ["a"])} == {"a", "b"}


def test_what_a_module_needs_is_read_with_its_soft_needs() -> None:
    assert packages.module_needs(module("depends=a,b", "softdep=pre: c d post: e")) == ["a", "b", "c", "d"]
    assert packages.module_needs(module("softdep=post: e")) == []
    assert packages.module_needs(b"") == []


def test_a_packed_kernel_is_unpacked() -> None:
    elf = b"\x7fELF" + os.urandom(5000)
    packed = b"MZ" + b"\xfd7zXZ\x00 no archive" + lzma.compress(elf) + b"trailing"
    assert packages.kernel_elf(packed) == elf


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_a_kernel_that_is_not_packed_with_xz_is_left_alone(noise: bytes) -> None:
    assert packages.kernel_elf(noise) is None
    assert packages.kernel_elf(noise + lzma.compress(b"no ELF " + noise)) is None


def test_a_tool_that_is_watched_tells_each_line() -> None:
    lines: list[str] = []
    commands.run_watched(["sh", "-c", "echo one; echo two >&2"], lines.append, timeout=60)
    assert lines == ["one", "two"]


def test_a_watched_tool_that_fails_or_hangs_says_so_and_is_ended() -> None:
    with pytest.raises(isdk.ProviderError, match=r"sh failed \(3\): why"):
        commands.run_watched(["sh", "-c", "echo why; exit 3"], lambda line: None, timeout=60)
    with pytest.raises(isdk.ProviderError, match="did not end within 0 s"):
        commands.run_watched(["sh", "-c", "sleep 600 & wait"], lambda line: None, timeout=0.1)


def test_an_interrupt_ends_what_a_watched_tool_started() -> None:
    children: list[int] = []

    def interrupt(line: str) -> None:
        children.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commands.run_watched(["sh", "-c", "sleep 600 & echo $!; wait"], interrupt, timeout=60)
    assert is_gone(children[0])


def is_gone(pid: int) -> bool:
    """Waits for the end of a process, which its pidfd tells."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(10_000))
    finally:
        os.close(descriptor)


def test_the_recipes_are_known_by_name() -> None:
    assert list(images.RECIPES) == ["linux-tiny", "linux-server", "linux-desktop"]
    done = subprocess.run(
        [sys.executable, "-m", "infrastructure_sdk.cli", "image", "build", "linux-dekstop"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "linux-tiny, linux-server, linux-desktop" in done.stderr


# ---- the built images ------------------------------------------------------------------------------------------------


def need_image(image_dir: Path, name: str) -> None:
    if not (image_dir / name / "manifest.json").is_file():
        pytest.skip(f"image {name} is not built: infra-sdk image build {name} --image-dir {image_dir}")


@pytest.mark.integration
async def test_a_desktop_is_on_the_screen_when_its_session_is_active(
    sdk: isdk.InfrastructureSDK, image_dir: Path
) -> None:
    need_image(image_dir, "linux-desktop")
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice", template="linux-desktop"))
    await session.wait_until_active(timeout="15m")
    png = (await session.desktop.screenshot()).png
    # A black screen of that size is 2 KB, a desktop with its icons and its panel over 8.
    assert len(png) > 5000
    assert (await session.exec(["hostname"])).stdout.strip() == session.id
    running = (await session.exec("ps -eo user,comm")).stdout
    for program in ("openbox", "tint2", "pcmanfm"):
        assert f"user     {program}" in running
    failed = await session.exec(["systemctl", "--failed", "--no-legend"])
    assert failed.stdout == ""


@pytest.mark.integration
async def test_a_server_answers_ssh_with_the_key_that_it_was_given(
    sdk: isdk.InfrastructureSDK, image_dir: Path
) -> None:
    need_image(image_dir, "linux-server")
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice", template="linux-server"))
    await session.wait_until_active(timeout="15m")
    script = 'exec 3<>/dev/tcp/127.0.0.1/22; read -r line <&3; echo "$line"; cat /etc/ssh/ssh_host_ed25519_key.pub'
    said = (await session.exec(["bash", "-c", script])).stdout
    assert said.startswith("SSH-2.0-OpenSSH")
    assert said.strip().endswith(session.id)
    assert (await session.exec(["systemctl", "--failed", "--no-legend"])).stdout == ""
