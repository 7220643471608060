"""Images: taking over what strangers made, keeping it, and leaving nothing behind."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import infrastructure_sdk as isdk
from infrastructure_sdk import images
from infrastructure_sdk.images import commands, importer, linux_tiny
from processes import INTERRUPTIBLE

MEBIBYTE = 1 << 20


def qemu_img(*words: str | Path) -> None:
    subprocess.run([commands.find_tool("qemu-img"), *map(str, words)], check=True, capture_output=True)


def raw_disk(place: Path, name: str = "disk.raw") -> Path:
    """A megabyte with a boot sector's mark, noise, and a hole."""
    file = place / name
    file.write_bytes(b"\0" * 510 + b"\x55\xaa" + os.urandom(MEBIBYTE // 2))
    os.truncate(file, MEBIBYTE)
    return file


def converted(place: Path, disk_format: str, *options: str, name: str | None = None) -> Path:
    file = place / (name or f"disk.{disk_format}")
    qemu_img("convert", "-f", "raw", "-O", disk_format, *options, raw_disk(place, "source"), file)
    return file


def with_backing_file(place: Path) -> Path:
    file = place / "overlay.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", file, "1M")
    return file


def backing_file_in_disguise(place: Path) -> Path:
    return with_backing_file(place).rename(place / "disk.raw")


def with_data_file(place: Path) -> Path:
    file = place / "outside.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={place / 'data'},data_file_raw=on", file, "1M")
    return file


def vmdk_descriptor(place: Path) -> Path:
    """Only a text, which names another file and an address; padded, so that its size gives it away to nobody."""
    text = '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    text += 'RW 2048 FLAT "/etc/passwd" 0\nRW 2048 FLAT "nbd://127.0.0.1:1/x" 0\n'
    file = place / "disk.img"
    file.write_bytes(text.encode().ljust(1024, b"\n"))
    return file


def huge_virtual_size(place: Path) -> Path:
    file = place / "huge.qcow2"
    qemu_img("create", "-f", "qcow2", file, "2T")
    return file


def huge_file(place: Path) -> Path:
    file = place / "huge.raw"
    file.touch()
    os.truncate(file, 2 << 40)
    return file


def cut(keep: Callable[[int], int]) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        file = converted(place, "qcow2")
        os.truncate(file, keep(file.stat().st_size))
        return file

    return make


def patched(offset: int, value: bytes) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        file = converted(place, "qcow2")
        with file.open("r+b") as stream:
            stream.seek(offset)
            stream.write(value)
        return file

    return make


def holding(content: Callable[[], bytes], name: str = "disk.img") -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        (place / name).write_bytes(content())
        return place / name

    return make


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("disk.raw", b"\0" * 512)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("disk.raw"))
    return buffer.getvalue()


def linked(place: Path) -> Path:
    raw_disk(place, "real")
    (place / "link.raw").symlink_to("real")
    return place / "link.raw"


def folder(place: Path) -> Path:
    (place / "folder").mkdir()
    return place / "folder"


def pipe(place: Path) -> Path:
    os.mkfifo(place / "pipe")
    return place / "pipe"


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "backing file": (with_backing_file, "backing file"),
    "backing file, named raw": (backing_file_in_disguise, "backing file"),
    "external data file": (with_data_file, "external data file"),
    "vmdk": (lambda place: converted(place, "vmdk"), "VMDK"),
    "vmdk descriptor": (vmdk_descriptor, "VMDK"),
    "vdi": (lambda place: converted(place, "vdi"), "VDI"),
    "vhdx": (lambda place: converted(place, "vhdx"), "VHDX"),
    "dynamic vhd": (lambda place: converted(place, "vpc"), "VHD"),
    "fixed vhd": (lambda place: converted(place, "vpc", "-o", "subformat=fixed"), "VHD"),
    "qed": (lambda place: converted(place, "qed"), "QED"),
    "parallels": (lambda place: converted(place, "parallels"), "Parallels"),
    "qcow 1": (lambda place: converted(place, "qcow"), "version is 1"),
    "encrypted": (patched(32, b"\0\0\0\x02"), "encrypted"),
    "qcow 9": (patched(4, b"\0\0\0\x09"), "version is 9"),
    "gzip": (holding(lambda: gzip.compress(b"\0" * 512)), "compressed (gzip)"),
    "xz": (holding(lambda: lzma.compress(b"\0" * 512)), "compressed (xz)"),
    "bzip2": (holding(lambda: bz2.compress(b"\0" * 512)), "compressed (bzip2)"),
    "zip": (holding(zipped), "archive (zip)"),
    "tar": (holding(tarred, "appliance.ova"), "archive (tar or OVA)"),
    "huge virtual size": (huge_virtual_size, str(2 << 40)),
    "huge file": (huge_file, str(2 << 40)),
    "no size": (patched(24, b"\0" * 8), "virtual size is 0"),
    "empty": (holding(lambda: b""), "empty"),
    "a text": (holding(lambda: b"not an image\n"), "no disk image"),
    "cut in the header": (cut(lambda size: 50), "cut off"),
    "cut in the middle": (cut(lambda size: size // 2), "damaged or cut off"),
    "cut at the end": (cut(lambda size: size - 65536), "damaged or cut off"),
    "a table that is not there": (patched(40, b"\0\0\x7f" + b"\0" * 5), "damaged or cut off"),
    "marked corrupt": (patched(79, b"\x02"), "corrupt"),
    "symlink": (linked, "symbolic link"),
    "folder": (folder, "not a regular file"),
    "pipe": (pipe, "not a regular file"),
    "device": (lambda place: Path("/dev/zero"), "not a regular file"),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_a_stranger_feeds_is_refused_with_a_reason(kind: str, tmp_path: Path, store: Path) -> None:
    make, word = HOSTILE[kind]
    file = make(tmp_path)
    with pytest.raises(isdk.ValidationError) as caught:
        images.import_image(store, file, "stranger")
    assert word in str(caught.value)
    assert str(file) in str(caught.value)
    assert ".new-" not in str(caught.value)
    assert (caught.value.context["field"], caught.value.context["value"]) == ("file", str(file))
    assert caught.value.context["allowed"] in str(caught.value)
    assert not store.exists() or list(store.iterdir()) == []


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path, store: Path) -> None:
    with pytest.raises(isdk.NotFoundError) as caught:
        images.import_image(store, tmp_path / "nothing.qcow2")
    assert caught.value.context == {"field": "file", "value": str(tmp_path / "nothing.qcow2")}
    assert not store.exists()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patches=st.dictionaries(st.integers(min_value=4, max_value=111), st.integers(0, 255), min_size=1, max_size=6))
def test_a_header_of_noise_is_refused_or_harmless(tmp_path: Path, patches: dict[int, int]) -> None:
    good = tmp_path / "good.qcow2"
    if not good.exists():
        qemu_img("create", "-f", "qcow2", good, "1M")
    content = bytearray(good.read_bytes())
    for offset, value in patches.items():
        content[offset] = value
    file = tmp_path / "noise.qcow2"
    file.write_bytes(content)
    try:
        disk_format, size = importer.inspect(file)
    except isdk.ValidationError:
        return
    assert disk_format == "qcow2"
    assert 0 < size <= importer.MAXIMUM_VIRTUAL_SIZE
    assert content[8:16] == b"\0" * 8


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_a_good_image_is_taken_over(disk_format: str, tmp_path: Path, store: Path) -> None:
    file = raw_disk(tmp_path) if disk_format == "raw" else converted(tmp_path, "qcow2")
    steps: list[str] = []
    image = images.import_image(store, file, progress=lambda step, done, total: steps.append(step))
    entry = image.manifest["files"]["disk"]
    kept = image.directory / entry["path"]
    assert kept.read_bytes() == file.read_bytes()
    assert entry == {
        "path": f"disk.{disk_format}",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "size_bytes": file.stat().st_size,
        "format": disk_format,
        "virtual_size_bytes": MEBIBYTE,
    }
    assert (image.name, image.manifest["source"]) == ("disk", {"imported_from": file.name})
    assert set(steps) == {"copying", "checking"}
    assert "sha256" not in repr(image)
    assert [found.name for found in images.list_images(store)] == ["disk"]
    assert images.show_image(store, "disk").to_dict()["directory"] == str(store / "disk")
    assert images.verify_image(store, "disk") == image
    images.remove_image(store, "disk")
    assert list(store.iterdir()) == []
    assert images.list_images(store) == []


def test_a_file_name_may_be_any_bytes(tmp_path: Path, store: Path) -> None:
    file = raw_disk(tmp_path).rename(tmp_path / os.fsdecode(b"\xff.raw"))
    with pytest.raises(isdk.ValidationError):
        images.import_image(store, file)
    image = images.import_image(store, file, "disk")
    assert "\\ud" not in (image.directory / "manifest.json").read_text(), "other JSON readers refuse half characters"


def test_qcow2_that_is_named_raw_is_kept_as_what_it_is(tmp_path: Path, store: Path) -> None:
    image = images.import_image(store, converted(tmp_path, "qcow2", name="disk.raw"))
    assert image.manifest["files"]["disk"]["format"] == "qcow2"
    assert (image.directory / "disk.qcow2").is_file()


def test_nobody_writes_to_an_image_any_more(tmp_path: Path, store: Path) -> None:
    image = images.import_image(store, raw_disk(tmp_path))
    assert {path.stat().st_mode & 0o777 for path in image.directory.iterdir()} == {0o444}
    assert images.import_image(store, raw_disk(tmp_path)).name == image.name, "it may be replaced as a whole"
    images.remove_image(store, image.name)
    assert images.list_images(store) == []


def test_holes_stay_holes(tmp_path: Path, store: Path) -> None:
    file = tmp_path / "sparse.raw"
    file.write_bytes(b"\x55" * 4096)
    os.truncate(file, 64 * MEBIBYTE)
    kept = images.import_image(store, file).directory / "disk.raw"
    assert kept.stat().st_size == 64 * MEBIBYTE
    assert kept.stat().st_blocks <= file.stat().st_blocks + 64


def test_an_image_comes_from_another_file_system(store: Path) -> None:
    shared_memory = Path("/dev/shm")
    store.mkdir()
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == store.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shared_memory) as place:
        file = raw_disk(Path(place))
        assert images.import_image(store, file).manifest["files"]["disk"]["size_bytes"] == MEBIBYTE


NAMES = ["", ".", "..", "../x", "a/b", "/x", "a..b", ".x", "-x", "A", "a b", "x\n", "x\0", "x" * 64, "\u00e4", "$(id)"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_leads_nowhere_else(name: str, tmp_path: Path, store: Path) -> None:
    images.import_image(store, raw_disk(tmp_path), "kept")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/manifest.json").write_text("{}")
    for attempt in (
        lambda: images.import_image(store, tmp_path / "disk.raw", name),
        lambda: images.show_image(store, name),
        lambda: images.verify_image(store, name),
        lambda: images.remove_image(store, name),
    ):
        with pytest.raises(isdk.ValidationError) as caught:
            attempt()
        assert (caught.value.context["field"], caught.value.context["value"]) == ("name", name)
        assert "a-z 0-9" in caught.value.context["allowed"]
    assert sorted(entry.name for entry in store.iterdir()) == ["kept"]
    assert (tmp_path / "x/manifest.json").exists()


def test_an_unknown_image_is_met_with_suggestions(tmp_path: Path, store: Path) -> None:
    images.import_image(store, raw_disk(tmp_path), "debian-12")
    for attempt in (images.show_image, images.remove_image, images.verify_image):
        with pytest.raises(isdk.NotFoundError) as caught:
            attempt(store, "debain-12")
        assert "did you mean 'debian-12'?" in str(caught.value)
        assert "infra-sdk image import FILE --name debain-12" in str(caught.value)
        assert caught.value.context["allowed"] == ["debian-12"]
    with pytest.raises(isdk.NotFoundError, match="infra-sdk image build linux-tiny"):
        images.show_image(tmp_path / "elsewhere", "linux-tiny")


def test_an_image_of_the_same_name_is_replaced_as_a_whole(tmp_path: Path, store: Path) -> None:
    first = images.import_image(store, raw_disk(tmp_path), "disk")
    second = images.import_image(store, converted(tmp_path, "qcow2"), "disk")
    assert first.manifest["version"] != second.manifest["version"]
    assert sorted(entry.name for entry in (store / "disk").iterdir()) == ["disk.qcow2", "manifest.json"]
    assert [entry.name for entry in store.iterdir()] == ["disk"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 2}', '{"schema": 1}', "[" * 100_000, "\0"])
def test_a_broken_manifest_is_named_and_can_be_removed(content: str, tmp_path: Path, store: Path) -> None:
    images.import_image(store, raw_disk(tmp_path), "disk")
    (store / "disk/manifest.json").write_text(content)
    with pytest.raises(isdk.ValidationError, match="manifest of image 'disk'"):
        images.show_image(store, "disk")
    assert images.list_images(store) == []
    images.remove_image(store, "disk")
    assert list(store.iterdir()) == []


def test_verify_sees_every_change(tmp_path: Path, store: Path) -> None:
    image = images.import_image(store, raw_disk(tmp_path), "disk")
    disk, manifest = image.directory / "disk.raw", image.directory / "manifest.json"
    good, good_manifest = disk.read_bytes(), manifest.read_text()

    def refused() -> None:
        with pytest.raises(isdk.ValidationError, match="build or import it again"):
            images.verify_image(store, "disk")

    disk.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    refused()
    os.truncate(disk, 512)
    refused()
    disk.unlink()
    refused()
    disk.symlink_to(tmp_path / "disk.raw")
    refused()
    for entry in ({}, {"path": "../../disk.raw"}, {"path": "disk.raw"}, {"path": 7}, None):
        manifest.write_text(json.dumps({**json.loads(good_manifest), "files": {"disk": entry}}))
        refused()


def test_the_image_of_the_tests_is_what_was_built(image_dir: Path) -> None:
    assert images.verify_image(image_dir, "linux-tiny").manifest["channels"] == ["agent", "display"]


@pytest.mark.parametrize("place", ["file/images", "file"])
def test_a_place_that_cannot_be_written_is_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    file = raw_disk(tmp_path)
    with pytest.raises(isdk.StoreError) as caught:
        images.import_image(tmp_path / place, file, "disk")
    assert caught.value.context == {"field": "vm.image_directory", "value": str(tmp_path / place)}
    assert "--image-dir" in str(caught.value)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_leaves_the_old_image(tmp_path: Path, tiny_disk: Callable[[str], Path]) -> None:
    store = tiny_disk("2m")
    old = images.import_image(store, raw_disk(tmp_path), "disk")
    big = tmp_path / "big.raw"
    big.write_bytes(os.urandom(4 * MEBIBYTE))
    with pytest.raises(isdk.StoreError, match="No space left"):
        images.import_image(store, big, "disk")
    assert images.verify_image(store, "disk") == old
    assert [entry.name for entry in store.iterdir()] == ["disk"]


def test_an_import_that_is_interrupted_leaves_the_old_image(tmp_path: Path, store: Path) -> None:
    old = images.import_image(store, raw_disk(tmp_path), "disk")

    def interrupt(step: str, done: int, total: int | None) -> None:
        if step == "checking":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.import_image(store, converted(tmp_path, "qcow2"), "disk", progress=interrupt)
    assert images.show_image(store, "disk") == old
    assert [entry.name for entry in store.iterdir()] == ["disk"]


@pytest.mark.parametrize("step", ["downloading packages", "copying the kernel", "making the initial RAM disk"])
def test_a_build_that_is_interrupted_leaves_nothing(
    step: str, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    tree = tmp_path / "tree"
    (tree / "boot").mkdir(parents=True)
    (tree / "boot/vmlinuz-6.1").write_bytes(b"a kernel")
    monkeypatch.setattr(linux_tiny, "kernel_package", lambda meta: "linux-image-6.1")
    monkeypatch.setattr(linux_tiny, "unpack", lambda packages, scratch: tree)

    def interrupt(at: str, done: int, total: int | None) -> None:
        if at == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.build_linux_tiny(store, progress=interrupt)
    assert list(store.iterdir()) == []
    assert list((tmp_path / "scratch").iterdir()) == []


class Blocked:
    """`infra-sdk image build` that stands still at its first tool, until it is killed."""

    def __init__(self, place: Path, store: Path) -> None:
        tools, self.reached = place / "tools", place / "reached"
        tools.mkdir()
        (place / "scratch").mkdir()
        os.mkfifo(self.reached)
        tool = tools / "apt-cache"
        tool.write_text(f"#!/bin/sh\necho $$ >{self.reached}\nexec sleep 600\n")
        tool.chmod(0o755)
        command = [sys.executable, "-m", "infrastructure_sdk.cli", "image", "build", "linux-tiny"]
        self.process = subprocess.Popen(
            [*INTERRUPTIBLE, *command, "--image-dir", str(store)],
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "TMPDIR": str(place / "scratch")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.tool = int(self.reached.read_text())

    def end(self, number: int) -> str:
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            os.kill(self.tool, signal.SIGKILL)  # nobody else is left to do it
        return self.process.communicate(timeout=60)[1]


@pytest.fixture
def build(tmp_path: Path, store: Path) -> Iterator[Blocked]:
    blocked = Blocked(tmp_path, store)
    yield blocked
    if blocked.process.poll() is None:
        blocked.end(signal.SIGKILL)


def test_ctrl_c_ends_a_build_without_a_trace(build: Blocked, tmp_path: Path, store: Path) -> None:
    assert [entry.name[:5] for entry in store.iterdir()] == [".new-"]
    said = build.end(signal.SIGINT)
    assert build.process.returncode == 130, said
    assert "Traceback" not in said
    assert list(store.iterdir()) == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_a_killed_build_left_goes_with_the_next_image(build: Blocked, tmp_path: Path, store: Path) -> None:
    images.import_image(store, raw_disk(tmp_path), "disk")
    assert len(list(store.glob(".new-*"))) == 1, "a build that lives keeps its folder"
    build.end(signal.SIGKILL)
    assert len(list(store.glob(".new-*"))) == 1
    assert [image.name for image in images.list_images(store)] == ["disk"]
    images.import_image(store, tmp_path / "disk.raw", "disk")
    assert [entry.name for entry in store.iterdir()] == ["disk"]


def test_a_missing_tool_names_its_package(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    qcow2 = converted(tmp_path, "qcow2")
    monkeypatch.setattr(shutil, "which", lambda *arguments, **named: None)
    with pytest.raises(isdk.ProviderError, match="apt-get install qemu-utils"):
        images.import_image(store, qcow2, "disk")
    with pytest.raises(isdk.ProviderError, match="apt-get install apt"):
        images.build_linux_tiny(store)
    assert list(store.iterdir()) == []


def test_a_tool_that_fails_or_hangs_says_so(tmp_path: Path) -> None:
    with pytest.raises(isdk.ProviderError) as caught:
        commands.run(["sh", "-c", "printf '\\377' >&2; exit 3"])
    assert caught.value.context == {"command": "sh", "exit_code": 3}
    with pytest.raises(isdk.ProviderError, match="did not end"):
        commands.run(["sleep", "600"], timeout=0.01)
    with pytest.raises(isdk.ProviderError, match="failed"):
        commands.run(["sh", "-c", f"echo written >{tmp_path}/file"], confined=True)
    assert not (tmp_path / "file").exists() or (tmp_path / "file").read_bytes() == b""
