"""The commands that use a session: exec with its options, ls, console and forward, on one real guest."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync
from processes import INTERRUPTIBLE

pytestmark = pytest.mark.integration


class Guest:
    def __init__(self, state_dir: Path, image_dir: Path, session: str) -> None:
        self.session = session
        self._line = [sys.executable, "-m", "infrastructure_sdk.cli", "--state-dir", str(state_dir), "session"]
        self._environment = {**os.environ, "INFRA_SDK_VM__IMAGE_DIRECTORY": str(image_dir)}

    def run(self, verb: str, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        line = [*self._line, verb, *options, self.session, *words]
        return subprocess.run(line, capture_output=True, text=True, env=self._environment, timeout=120)

    def serve(self, verb: str, *words: str) -> subprocess.Popen[str]:
        line = [*INTERRUPTIBLE, *self._line, verb, *words]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment)


def test_what_a_user_does_from_the_shell(state_dir: Path, image_dir: Path, config: isdk.InfraSDKConfig) -> None:
    with sync.InfrastructureSDK(config) as sdk:
        session = sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
        session.wait_until_active()
        session.exec("(while true; do echo SECRET | nc -l -p 7000; done) >/dev/null 2>&1 &")
    guest = Guest(state_dir, image_dir, session.id)

    said = guest.run("exec", "--", "sh", "-c", "pwd; echo $WORD", options=("--cwd", "/tmp", "--env", "WORD=hi"))
    assert (said.returncode, said.stdout) == (0, "/tmp\nhi\n")
    said = guest.run("exec", "--", "sh", "-c", "echo out; echo err >&2; exit 7", options=("--follow",))
    assert (said.returncode, said.stdout, said.stderr) == (7, "out\n", "err\n")
    said = guest.run("exec", "true", options=("--follow", "--user", "nobody-here"))
    assert said.returncode == 125 and "no user" in said.stderr
    said = guest.run("ls", "/", "-o", "name")
    assert {"etc", "tmp", "data"} <= set(said.stdout.split())
    assert re.search(r"^0?1777 +directory .* tmp$", guest.run("ls", "/").stdout, re.MULTILINE)

    with guest.serve("console", "--valid-for", "1h") as served:  # of the only session
        assert served.stdout is not None
        first = served.stdout.readline().strip()
        address, token = first.split("#")
        origin = "/".join(address.split("/")[:3])
        how = {"origin": origin, "subprotocols": ["binary", f"isdk.token.{token}"], "proxy": None}
        with connect(address.replace("http", "ws", 1) + "/stream", **how) as stream:  # type: ignore[arg-type]
            assert stream.recv() == b"RFB 003.008\n"
        second = served.stdout.readline().strip()
        assert second != first and second.startswith(address), "another one when the viewer left"
        with pytest.raises(InvalidStatus):
            connect(address.replace("http", "ws", 1) + "/stream", **how)  # type: ignore[arg-type]
        served.send_signal(signal.SIGINT)
        _, errors = served.communicate(timeout=60)
        assert (served.returncode, errors) == (0, "")

    with guest.serve("forward", session.id, "7000") as served:
        assert served.stdout is not None
        host, port = served.stdout.readline().strip().split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            assert connection.recv(100) == b"SECRET\n"
        served.send_signal(signal.SIGTERM)
        _, errors = served.communicate(timeout=60)
        assert (served.returncode, errors) == (0, "")
    assert guest.run("terminate").returncode == 0
