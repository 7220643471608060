"""QEMU without the SDK: the reference of the benchmarks of virtual machines. Blocking, and without any check."""

from __future__ import annotations

import array
import base64
import json
import os
import re
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds after which a socket that says nothing is an error."""

IGNORE_SHARED = [{"capability": "x-ignore-shared", "state": True}]


class Line:
    """JSON lines over a unix socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")

    def send(self, message: dict[str, Any], prefix: bytes = b"", descriptor: int | None = None) -> None:
        rights = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        self._socket.sendmsg([prefix + json.dumps(message).encode() + b"\n"], rights)

    def receive(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise ConnectionError("QEMU closed a control socket")
        message: dict[str, Any] = json.loads(line.lstrip(b"\xff"))
        return message

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Qmp(Line):
    """QEMU's monitor."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.receive()
        self.execute("qmp_capabilities")

    def execute(self, command: str, descriptor: int | None = None, **arguments: Any) -> Any:
        """The command's return value; events on the way are dropped."""
        self.send({"execute": command, "arguments": arguments}, descriptor=descriptor)
        while True:
            answer = self.receive()
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]


class HandVm:
    """A VM with the command line of an SDK's VM, another identity and a directory of its own.

    Parameters
    ----------
    record
        The `vm.json` of the VM whose command line is taken.
    directory
        Made here, with an empty disk in it; made again at each `make_disk`.
    """

    def __init__(self, record: Path, directory: Path) -> None:
        document = json.loads(record.read_text())
        image = document["spec"]["image"]
        own = str(uuid.uuid4())
        self._program: str = document["program"]
        self._arguments: list[str] = [word.replace(document["spec"]["id"], own) for word in document["arguments"]]
        self._files = {12: image["kernel"], 13: image["initrd"], 14: image["disk"]}
        self._disk_size: int = image["disk_size_bytes"]
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._agent: Line | None = None
        self._ram: list[str] = []
        self.directory = directory
        self.memory = directory / "memory.state"

    def make_disk(self) -> None:
        """An empty directory with an empty overlay."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(mode=0o700)
        disk = self.directory / "disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, str(self._disk_size)], check=True)

    def boot(self) -> None:
        """Start it; returns when the guest agent answers a ping."""
        self._start()
        # QEMU holds the bytes until the guest opens the port, so one ping is enough.
        self._agent = Line(self.directory / "agent.sock")
        self._agent.send({"execute": "guest-ping"})
        try:
            self._agent.receive()
        except TimeoutError:
            console = (self.directory / "serial.log").read_text(errors="replace")
            raise TimeoutError(f"the guest's agent did not answer; its console says: {console[-2000:]}") from None

    def suspend(self) -> None:
        """Memory to a file, then the end of the process."""
        qmp = self._monitor()
        # A new file each time: some file systems write a truncated one to disk when it is closed.
        self.memory.unlink(missing_ok=True)
        descriptor = os.open(self.memory, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # QEMU's own limit is 128 MiB/s, which would be all that is measured.
            qmp.execute("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            qmp.execute("stop")
            qmp.execute("getfd", descriptor, fdname="memory")
            qmp.execute("migrate", uri="fd:memory")
            while (status := qmp.execute("query-migrate")["status"]) != "completed":
                if status in ("failed", "cancelled"):
                    raise RuntimeError(f"migrate: {status}")
                time.sleep(0.001)
            qmp.execute("quit")
        finally:
            os.close(descriptor)
        assert self._process is not None
        self._process.wait(PATIENCE)
        self.end()

    def resume(self) -> None:
        """The same command line waits for the memory file; returns when the agent has set the clock."""
        self._load(self.memory)

    def _load(self, stream: Path) -> None:
        """A process that goes on from a stream of memory; returns when the agent has set the clock."""
        descriptor = os.open(stream, os.O_RDONLY)
        try:
            self._start("-incoming", "defer", memory=descriptor)
        finally:
            os.close(descriptor)
        qmp = self._monitor()
        if self._ram:
            qmp.execute("migrate-set-capabilities", capabilities=IGNORE_SHARED)
        qmp.execute("migrate-incoming", uri=f"fd:{descriptor}")
        while qmp.execute("query-status")["status"] == "inmigrate":
            time.sleep(0.001)
        qmp.execute("cont")
        self._agent = Line(self.directory / "agent.sock")
        self._agent.send({"execute": "guest-sync-delimited", "arguments": {"id": 1}}, prefix=b"\xff")
        while self._agent.receive().get("return") != 1:
            pass
        self._agent.send({"execute": "guest-set-time", "arguments": {"time": time.time_ns()}})
        self._agent.receive()

    def save_template(self, state: Path) -> None:
        """End a VM that was booted by `boot_in`; what is not RAM goes to `state`."""
        qmp = self._monitor()
        descriptor = os.open(state, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            qmp.execute("migrate-set-capabilities", capabilities=IGNORE_SHARED)
            qmp.execute("stop")
            qmp.execute("getfd", descriptor, fdname="state")
            qmp.execute("migrate", uri="fd:state")
            while qmp.execute("query-migrate")["status"] != "completed":
                time.sleep(0.001)
        finally:
            os.close(descriptor)
        self.end()

    def boot_in(self, ram: Path) -> None:
        """As `boot`, with all of its RAM in a file."""
        self._ram = ["share=on", str(ram)]
        self.boot()

    def clone(self, ram: Path, state: Path, disk: Path) -> None:
        """Start as a copy of a template; returns when the agent has set the clock. The directory is there."""
        shutil.copyfile(disk, self.directory / "disk.qcow2")
        self._ram = ["share=off", str(ram)]
        self._load(state)

    def monitor_command(self, command: str) -> None:
        """One QMP command."""
        self._monitor().execute(command)

    def run_command(self, words: list[str], text: str = "") -> None:
        """Through the agent, in step with it since `boot`; returns when the command has ended."""
        given = {"input-data": base64.b64encode(text.encode()).decode()} if text else {}
        pid = self._ask("guest-exec", path=words[0], arg=words[1:], **{"capture-output": True}, **given)["pid"]
        pause = 0.002
        while not self._ask("guest-exec-status", pid=pid)["exited"]:
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    def _ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        assert self._agent is not None
        self._agent.send({"execute": command, "arguments": arguments})
        answer: dict[str, Any] = self._agent.receive()["return"]
        return answer

    def connect(self) -> None:
        """To the monitor, ahead of a suspend: an SDK's session is connected all the time."""
        self._monitor()

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def end(self) -> None:
        """Kill what runs and close what is open; the files stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
        for line in (self._qmp, self._agent):
            if line is not None:
                line.close()
        self._process = self._qmp = self._agent = None

    def _monitor(self) -> Qmp:
        if self._qmp is None:
            self._qmp = Qmp(self.directory / "qmp.sock")
        return self._qmp

    def _start(self, *more: str, memory: int | None = None) -> None:
        """Descriptors keep the numbers that they have here, so the command line gets those."""
        given = {10: self._listen("qmp.sock"), 11: self._listen("agent.sock")}
        given |= {number: os.open(path, os.O_RDONLY) for number, path in self._files.items() if path}

        def own_number(match: re.Match[str]) -> str:
            return f"{match[1]}{given[int(match[2])]}"

        words = [re.sub(r"(\bfd=|/proc/self/fd/)(\d+)", own_number, word) for word in self._arguments]
        if self._ram:
            words[words.index("-machine") + 1] += ",memory-backend=ram0"
            size = f"{words[words.index('-m') + 1]}M"
            share, path = self._ram
            words += ["-object", f"memory-backend-file,id=ram0,size={size},mem-path={path},{share}"]
        inherited = [*given.values(), *([] if memory is None else [memory])]
        try:
            with open(self.directory / "qemu.log", "ab") as log:
                self._process = subprocess.Popen(
                    [self._program, *words, *more],
                    cwd=self.directory,
                    pass_fds=inherited,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        finally:
            for descriptor in given.values():
                os.close(descriptor)

    def _listen(self, name: str) -> int:
        path = self.directory / name
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen(1)
        return listening.detach()
