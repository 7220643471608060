"""Installing Windows from the user's own disc, unattended, into an image.

The machine is that of the templates; its firmware and TPM are thrown away at the end, since every VM gets its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infrastructure_sdk.exceptions import NotFoundError, ProviderError, ValidationError
from infrastructure_sdk.images.answer_file import EDITIONS, Answers, Edition, answer_file
from infrastructure_sdk.images.commands import find_tool, run
from infrastructure_sdk.images.discs import make_disc
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

FIRMWARE = Path("/usr/share/OVMF")
DISK_SIZE = 64 << 30
EXPECTED = 14 << 30
"""Bytes that an installation writes, about; for the progress."""

STARTED = 64 << 20
"""Bytes read from the disc, after which its question for a key is over."""

TIME_LIMIT = 24 * 3600.0
ENLIGHTENMENTS = (
    "relaxed vapic spinlocks vpindex runtime time synic stimer stimer-direct tlbflush ipi frequencies reenlightenment "
    "reset"
).split()


def answers_for(name: str, user: str, password: str, *, edition: str | None = None, product_key: str = "") -> Answers:
    """What Setup is told for one of the Windows images.

    Parameters
    ----------
    name
        The image's, one of `EDITIONS`.
    user, password
        Of the administrator's account that is made.
    edition
        Another image of the disc's install.wim, by name.
    product_key
        Empty = none.

    Raises
    ------
    NotFoundError
        If no Windows is known by that name.
    ValidationError
        If a value is not allowed.
    """
    known = EDITIONS.get(name)
    if known is None:
        raise NotFoundError(f"there is no Windows '{name}'; known: {', '.join(EDITIONS)}")
    return Answers(Edition(edition or known.image, known.drivers), user, password, product_key=product_key)


def check_disc(file: Path, field: str) -> Path:
    """The absolute path of an ISO 9660 or UDF image.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ValidationError
        If it is something else.
    """
    if not file.is_file():
        raise NotFoundError(f"there is no file {file}", context={"field": field, "value": str(file)})
    with file.open("rb") as stream:
        stream.seek(0x8001)
        mark = stream.read(5)
    if mark not in (b"CD001", b"BEA01"):
        allowed = "an ISO 9660 or UDF image"
        raise ValidationError(
            f"{field}: {file} is no disc; {allowed} is needed",
            context={"field": field, "value": str(file), "allowed": allowed},
        )
    if "," in str(file.absolute()) or not str(file).isprintable():
        raise ValidationError(f"{field}: the path {str(file)!r} holds a comma or a control character; rename it")
    return file.absolute()


def install_command(discs: Mapping[str, Path], accelerator: str, code: Path) -> list[str]:
    """QEMU's command line, for a folder that holds disk.qcow2, firmware.fd, and the sockets tpm.sock and qmp.sock.

    Parameters
    ----------
    discs
        Name and file of each disc, the first to start from.
    accelerator
        "kvm" or "tcg".
    code
        OVMF's code.
    """
    processor = "host" + "".join(f",hv-{name}={'0x1fff' if name == 'spinlocks' else 'on'}" for name in ENLIGHTENMENTS)
    command = ["qemu-system-x86_64", "-name", "windows-setup"]
    command += ["-machine", "pc-q35-7.2,hpet=off,smm=on,pflash0=firmware-code,pflash1=firmware-variables"]
    command += ["-accel", accelerator] if accelerator == "kvm" else ["-accel", "tcg,thread=multi,tb-size=256"]
    command += ["-cpu", processor if accelerator == "kvm" else "max", "-smp", "2", "-m", "4096"]
    command += ["-nodefaults", "-no-user-config", "-display", "none", "-vga", "std", "-vnc", "unix:vnc.sock"]
    command += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    command += ["-rtc", "base=localtime,driftfix=slew"]
    command += ["-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"]
    command += _file("firmware-code", code, "raw", read_only=True)
    command += _file("firmware-variables", Path("firmware.fd"), "raw", read_only=False)
    command += ["-chardev", "socket,id=tpm,path=tpm.sock", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
    command += ["-device", "tpm-crb,tpmdev=tpm0"]
    command += ["-chardev", "socket,id=qmp,path=qmp.sock,server=on,wait=off", "-mon", "chardev=qmp,mode=control"]
    command += _file("disk", Path("disk.qcow2"), "qcow2", read_only=False)
    command += ["-device", "virtio-blk-pci,drive=disk,bootindex=2"]
    for number, (name, file) in enumerate(discs.items()):
        command += _file(name, file, "raw", read_only=True)
        first = ",bootindex=1" if number == 0 else ""
        command += ["-device", f"ide-cd,id={name}-drive,drive={name},bus=ide.{number}{first}"]
    return command


def _file(node: str, path: Path, kind: str, *, read_only: bool) -> list[str]:
    file = {"driver": "file", "node-name": f"{node}-file", "filename": str(path), "read-only": read_only}
    layer = {"driver": kind, "node-name": node, "file": f"{node}-file", "read-only": read_only}
    return ["-blockdev", json.dumps(file), "-blockdev", json.dumps(layer)]


def install_windows(
    image_dir: Path,
    name: str,
    iso: Path,
    drivers: Path,
    answers: Answers,
    *,
    accelerator: str = "kvm",
    progress: Progress = no_progress,
) -> Image:
    """Install Windows into an image; ends when the new system has shut itself down.

    Parameters
    ----------
    image_dir
        The image directory; made if need be.
    name
        The image's name.
    iso
        The user's own installation disc.
    drivers
        The disc of virtio-win; it is kept in the image.
    answers
        What Setup would ask.
    accelerator
        "kvm" or "tcg"; the latter takes many hours.
    progress
        Told of the steps and of the bytes written.

    Raises
    ------
    ValidationError
        If a value or a disc is wrong.
    NotFoundError
        If a disc is missing.
    ProviderError
        If OVMF, swtpm, QEMU or xorriso is missing, or the machine ended without finishing.
    """
    check_name(name)
    if accelerator not in ("kvm", "tcg"):
        raise ValidationError(f"accelerator: {accelerator!r} is not allowed; kvm or tcg")
    iso, drivers = check_disc(Path(iso), "iso"), check_disc(Path(drivers), "drivers")
    code, variables = FIRMWARE / "OVMF_CODE_4M.ms.fd", FIRMWARE / "OVMF_VARS_4M.ms.fd"
    if not code.is_file() or not variables.is_file():
        raise ProviderError("OVMF is missing; install it: apt-get install ovmf")
    for tool in ("qemu-system-x86_64", "swtpm", "xorrisofs"):
        find_tool(tool)
    with tempfile.TemporaryDirectory(prefix="windows-") as scratch, new_image(image_dir, name) as place:
        folder = Path(scratch)
        progress("preparing", 0, None)
        make_disc({"autounattend.xml": answer_file(answers)}, "ANSWERS", folder, folder / "answers.iso")
        shutil.copyfile(variables, folder / "firmware.fd")
        run(["qemu-img", "create", "-q", "-f", "qcow2", str(folder / "disk.qcow2"), str(DISK_SIZE)])
        discs = {"setup": iso, "drivers": drivers, "answers": folder / "answers.iso"}
        _run_setup(folder, install_command(discs, accelerator, code), progress)
        progress("keeping the disk", 0, None)
        run(["qemu-img", "convert", "-O", "qcow2", str(folder / "disk.qcow2"), str(place / "disk.qcow2")], timeout=7200)
        shutil.copyfile(drivers, place / "drivers.iso")
        files = {
            "disk": file_entry(place / "disk.qcow2", format="qcow2", virtual_size_bytes=DISK_SIZE),
            "disc": file_entry(place / "drivers.iso"),
        }
        source = {"installed_from": iso.name.encode(errors="replace").decode(), "edition": answers.edition.image}
        write_manifest(
            place, name, files, os="windows", kernel_arguments="", channels=["agent", "display"], source=source
        )
    return show_image(image_dir, name)


def _run_setup(folder: Path, command: list[str], progress: Progress) -> None:
    (folder / "tpm").mkdir()
    tpm = ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=tpm", "--ctrl", "type=unixio,path=tpm.sock", "--terminate"]
    with contextlib.ExitStack() as own:
        emulator = own.enter_context(_process(tpm, folder))
        while not (folder / "tpm.sock").exists():
            if emulator.poll() is not None:
                raise ProviderError(f"swtpm ended: {(folder / 'output').read_text(errors='replace')[-1000:]}")
            time.sleep(0.05)
        machine = own.enter_context(_process(command, folder))
        setup = _Setup(folder / "qmp.sock")
        own.callback(setup.socket.close)
        limit = time.monotonic() + TIME_LIMIT
        while machine.poll() is None:
            if time.monotonic() > limit:
                raise ProviderError(f"Windows was not installed within {TIME_LIMIT / 3600:.0f} hours")
            setup.look(progress)
            with contextlib.suppress(subprocess.TimeoutExpired):
                machine.wait(timeout=1)
        if machine.returncode != 0 or not setup.started:
            said = (folder / "output").read_text(errors="replace")[-1000:]
            raise ProviderError(f"the machine ended ({machine.returncode}) before Windows was installed: {said}")


class _Setup:
    """Watches an installation over QMP, and presses the key that the disc asks for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = False
        self.lines: Any = None
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)

    def look(self, progress: Progress) -> None:
        try:
            if self.lines is None:
                self.socket.connect(str(self.path))
                self.lines = self.socket.makefile("rwb")
                self.lines.readline()
                self.ask("qmp_capabilities")
            counts = {
                row.get("node-name"): row["stats"] for row in self.ask("query-blockstats", **{"query-nodes": True})
            }
            self.started = self.started or counts["setup"]["rd_bytes"] > STARTED
            if not self.started:
                self.ask("send-key", keys=[{"type": "qcode", "data": "ret"}])
            step = "installing" if self.started else "starting the disc"
            progress(step, min(counts["disk"]["wr_bytes"], EXPECTED), EXPECTED)
        except (OSError, ValueError):
            # Not up yet, or gone already: the process tells.
            return

    def ask(self, command: str, **arguments: Any) -> Any:
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "return" in answer or "error" in answer:
                return answer.get("return")


@contextlib.contextmanager
def _process(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is gone at the end of the block."""
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(
            [find_tool(command[0]), *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
