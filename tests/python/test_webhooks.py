"""Webhooks: what a receiver checks, and events of real sessions on their way to a real server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import infrastructure_sdk as isdk
from infrastructure_sdk import exceptions
from infrastructure_sdk.cli import app

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()
# The published example of Standard Webhooks.
KNOWN_BODY = b'{"test": 2432232314}'
KNOWN_TIME = 1614265330
KNOWN = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(KNOWN_TIME),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
PATIENCE = 60


# ---- what a receiver checks ------------------------------------------------------------------------------------------


def test_the_published_example_is_accepted() -> None:
    assert isdk.verify_webhook(SECRET, KNOWN, KNOWN_BODY, now=KNOWN_TIME) == {"test": 2432232314}
    assert isdk.verify_webhook(SECRET, KNOWN, KNOWN_BODY.decode(), now=KNOWN_TIME) == {"test": 2432232314}
    upper = {name.title(): value for name, value in KNOWN.items()}
    assert isdk.verify_webhook(SECRET, upper, KNOWN_BODY, now=KNOWN_TIME)


@pytest.mark.parametrize("offset", [-300, 0, 300])
def test_an_attempt_within_the_tolerance_is_accepted(offset: int) -> None:
    assert isdk.verify_webhook(SECRET, KNOWN, KNOWN_BODY, now=KNOWN_TIME + offset)


@pytest.mark.parametrize(("offset", "word"), [(-301, "future"), (301, "too old")])
def test_an_attempt_outside_the_tolerance_is_refused(offset: int, word: str) -> None:
    with pytest.raises(exceptions.AuthenticationError, match=word):
        isdk.verify_webhook(SECRET, KNOWN, KNOWN_BODY, now=KNOWN_TIME + offset)
    assert isdk.verify_webhook(SECRET, KNOWN, KNOWN_BODY, now=KNOWN_TIME + offset, tolerance="10m")


def test_the_systems_clock_is_asked_by_default() -> None:
    with pytest.raises(exceptions.AuthenticationError, match="too old"):
        isdk.verify_webhook(SECRET, KNOWN, KNOWN_BODY)


@pytest.mark.parametrize("name", list(KNOWN))
@pytest.mark.parametrize("value", [None, "", "x", "1", "v1,", "v1,AAAA", "v1a," + KNOWN["webhook-signature"][3:], "ä"])
def test_headers_that_are_missing_or_changed_are_refused(name: str, value: str | None) -> None:
    headers = {**KNOWN, name: value or ""}
    if value is None:
        del headers[name]
    with pytest.raises(exceptions.AuthenticationError):
        isdk.verify_webhook(SECRET, headers, KNOWN_BODY, now=KNOWN_TIME)


def test_another_body_and_another_secret_are_refused() -> None:
    for secret, body in ((SECRET, KNOWN_BODY + b" "), (SECRET, b""), (OTHER, KNOWN_BODY)):
        with pytest.raises(exceptions.AuthenticationError, match="signature"):
            isdk.verify_webhook(secret, KNOWN, body, now=KNOWN_TIME)


def test_one_of_several_signatures_is_enough() -> None:
    right = KNOWN["webhook-signature"]
    for signatures in (f"v1,AAAA {right}", f"{right} v1,AAAA", f"v1a,xyz {right}", f"v2 {right}"):
        headers = {**KNOWN, "webhook-signature": signatures}
        assert isdk.verify_webhook(SECRET, headers, KNOWN_BODY, now=KNOWN_TIME)


@pytest.mark.parametrize("secret", ["", "hunter2", "whsec_", "whsec_hunter2!", "whsec_aHVudGVyMg==", SECRET[6:]])
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(exceptions.ValidationError) as caught:
        isdk.verify_webhook(secret, KNOWN, KNOWN_BODY, now=KNOWN_TIME)
    assert "hunter2" not in str(caught.value) + repr(caught.value.context)
    assert caught.value.context["field"] == "secret"


@pytest.mark.parametrize("body", [b"[]", b"not json", b"\xff", b"7"])
def test_a_signed_body_that_is_no_object_is_refused(body: bytes) -> None:
    key = base64.b64decode(SECRET[6:])
    signature = base64.b64encode(hmac.digest(key, b"msg_1.7." + body, "sha256")).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": "7", "webhook-signature": f"v1,{signature}"}
    with pytest.raises(exceptions.ValidationError):
        isdk.verify_webhook(SECRET, headers, body, now=7)


# ---- to a real server ------------------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """A server that checks what it gets and answers as told."""

    server: ThreadingHTTPServer
    url: str
    seen: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    answers: list[int] = field(default_factory=list)
    """The statuses of the first answers; 200 after them."""
    silent: threading.Event = field(default_factory=threading.Event)
    """While it is set, nobody is answered."""
    let_go: threading.Event = field(default_factory=threading.Event)

    def next(self) -> dict[str, Any]:
        return self.seen.get(timeout=PATIENCE)

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """What comes up to an event of that type."""
        found = []
        while not found or found[-1]["type"] != kind:
            found.append(await asyncio.to_thread(self.next))
        return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            event = isdk.verify_webhook(SECRET, dict(self.headers.items()), body)
            assert event["id"] == self.headers["webhook-id"]
            ours.seen.put(event)
            if ours.silent.is_set():
                ours.let_go.wait(PATIENCE)
            status = ours.answers.pop(0) if ours.answers else 200
            # A client that was killed does not listen.
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    ours = Receiver(server, f"http://127.0.0.1:{server.server_port}/hook?token=hunter2")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield ours
    ours.let_go.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hooks_file(tmp_path: Path, receiver: Receiver) -> Path:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    file = tmp_path / "webhooks.yaml"
    hook = {"name": "ops", "url": receiver.url, "secret": f"file:{secret}", "events": ["session.lifecycle.*"]}
    file.write_text(json.dumps({"webhooks": [hook]}))
    return file


@pytest.fixture
def settings(state_dir: Path, image_dir: Path, hooks_file: Path) -> dict[str, Any]:
    return {
        "store": {"state_directory": str(state_dir)},
        "vm": {"image_directory": str(image_dir)},
        "session": {"webhooks_file": str(hooks_file)},
    }


async def live_and_end(sdk: isdk.InfrastructureSDK) -> str:
    session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice", ttl="10m"))
    await session.terminate()
    return session.id


@pytest.mark.integration
async def test_the_life_of_a_session_arrives_signed(settings: dict[str, Any], receiver: Receiver) -> None:
    async with isdk.InfrastructureSDK(settings) as sdk:
        session_id = await live_and_end(sdk)
        got = await receiver.until("session.lifecycle.terminated")
        logged = await sdk.events.list()
        assert [event["sequence"] for event in got] == [event["sequence"] for event in logged]
        for event, line in zip(got, logged, strict=True):
            assert event["session_id"] == session_id
            assert event["version"] == 1
            assert (event["type"], event["timestamp"], event["data"]) == (line["type"], line["time"], line["data"])
        test = await sdk.webhooks.test("ops")
        assert test["state"] == "delivered"
        assert receiver.next()["type"] == "webhook.test"
        (status,) = await sdk.webhooks.list()
        assert status["name"] == "ops"
        assert status["state"] == "enabled"
        assert "hunter2" not in json.dumps(status)
        table = await sdk.webhooks.deliveries(webhook="ops", state="delivered")
        assert {line["sequence"] for line in table} >= {event["sequence"] for event in got[:-1]}
        assert await sdk.webhooks.deliveries(webhook="nobody") == []
        assert len(await sdk.webhooks.deliveries(limit=1)) == 1


@pytest.mark.integration
async def test_a_failure_is_tried_again(settings: dict[str, Any], receiver: Receiver) -> None:
    receiver.answers = [500]
    async with isdk.InfrastructureSDK(settings) as sdk:
        session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice", ttl="10m"))
        first = await asyncio.to_thread(receiver.next)
        others = []
        while (event := await asyncio.to_thread(receiver.next))["id"] != first["id"]:
            others.append(event)
        assert event == first
        await session.terminate()
    # Closing waited for what was under way.
    async with isdk.InfrastructureSDK(settings) as sdk:
        (delivery,) = [line for line in await sdk.webhooks.deliveries() if line["id"] == first["id"]]
        assert (delivery["state"], delivery["attempts"]) == ("delivered", 2)


@pytest.mark.integration
async def test_a_delivery_may_be_sent_again_by_hand(settings: dict[str, Any], receiver: Receiver) -> None:
    async with isdk.InfrastructureSDK(settings) as sdk:
        await live_and_end(sdk)
        got = await receiver.until("session.lifecycle.terminated")
        again = await sdk.webhooks.redeliver(got[0]["id"])
        assert again["id"] == got[0]["id"]
        assert await asyncio.to_thread(receiver.next) == got[0]
        with pytest.raises(exceptions.NotFoundError):
            await sdk.webhooks.redeliver("msg_none")
        with pytest.raises(exceptions.NotFoundError, match="did you mean 'ops'"):
            await sdk.webhooks.test("opps")
        with pytest.raises(exceptions.ValidationError, match="pending, delivered, dead"):
            await sdk.webhooks.deliveries(state="lost")


OWNER = """
import asyncio, json, sys
import infrastructure_sdk as isdk

async def main():
    async with isdk.InfrastructureSDK(json.loads(sys.argv[1])) as sdk:
        session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice", ttl="10m"))
        print(session.id, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.integration
async def test_nothing_is_lost_when_the_owner_is_killed(settings: dict[str, Any], receiver: Receiver) -> None:
    receiver.silent.set()
    owner = subprocess.Popen([sys.executable, "-c", OWNER, json.dumps(settings)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        session_id = (await asyncio.to_thread(owner.stdout.readline)).strip()
        unanswered = await asyncio.to_thread(receiver.next)
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdout.close()  # type: ignore[union-attr]
    receiver.silent.clear()
    receiver.let_go.set()
    async with isdk.InfrastructureSDK(settings) as sdk:
        await (await sdk.sessions.get(session_id)).terminate()
        got = await receiver.until("session.lifecycle.terminated")
        assert unanswered in got, "the one without a recorded answer comes again, under its id"
        logged = await sdk.events.list()
        assert {event["sequence"] for event in [unanswered, *got]} == {event["sequence"] for event in logged}


def test_over_tls_only_the_named_authority_is_trusted(
    settings: dict[str, Any], hooks_file: Path, receiver: Receiver, tmp_path: Path
) -> None:
    import infrastructure_sdk.sync as sync

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=receiver",
    ]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *made, *names, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    document = json.loads(hooks_file.read_text())
    (hook,) = document["webhooks"]
    hook["url"] = receiver.url.replace("http:", "https:")
    hooks_file.write_text(json.dumps({"webhooks": [hook, {**hook, "name": "trusting", "ca_file": str(certificate)}]}))
    with sync.InfrastructureSDK(settings) as sdk:
        refused = sdk.webhooks.test("ops")
        assert refused["state"] == "dead"
        assert "certificate" in refused["last_error"]
        assert sdk.webhooks.test("trusting")["state"] == "delivered"
    assert receiver.seen.qsize() == 1


def test_the_synchronous_twin_does_the_same(settings: dict[str, Any], receiver: Receiver) -> None:
    import infrastructure_sdk.sync as sync

    with sync.InfrastructureSDK(settings) as sdk:
        assert sdk.webhooks.test("ops")["state"] == "delivered"
        assert [line["event_type"] for line in sdk.webhooks.deliveries()] == ["webhook.test"]
        assert sdk.webhooks.list()[0]["delivered"] == 1
    assert receiver.next()["type"] == "webhook.test"


def test_a_document_that_is_wrong_fails_the_start(settings: dict[str, Any], hooks_file: Path) -> None:
    import infrastructure_sdk.sync as sync

    hooks_file.write_text("webhooks:\n- name: ops\n  url: ftp://x\n  secret: hunter2\n")
    with pytest.raises(exceptions.ValidationError) as caught:
        sync.InfrastructureSDK(settings).open()
    assert "url" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    hooks_file.unlink()
    with pytest.raises(exceptions.ConfigurationError, match=r"session\.webhooks_file"):
        sync.InfrastructureSDK(settings).open()


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def infra(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    for name in [name for name in os.environ if name.startswith("INFRA_SDK_")]:
        monkeypatch.delenv(name)
    for section, options in settings.items():
        for option, value in options.items():
            monkeypatch.setenv(f"INFRA_SDK_{section}__{option}".upper(), value)

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, list(words), prog_name="infra-sdk")

    return run


def test_the_command_line_lists_tests_and_redelivers(infra: Callable[..., Any], receiver: Receiver) -> None:
    receiver.answers = [503]
    failed = infra("webhook", "test", "ops")
    assert failed.exit_code == 1
    assert "HTTP 503" in failed.stderr
    assert "hunter2" not in failed.stdout + failed.stderr
    said = infra("webhook", "list", "-o", "json")
    (status,) = json.loads(said.stdout)
    assert (status["name"], status["dead"], status["last_error"]) == ("ops", 1, "HTTP 503")
    (dead,) = infra("webhook", "deliveries", "--state", "dead", "-o", "name").stdout.split()
    again = infra("webhook", "redeliver", dead, "-o", "json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)[0]["state"] == "pending"
    assert infra("webhook", "deliveries", "--state", "delivered", "-o", "name").stdout.split() == [dead]
    table = infra("webhook", "deliveries").stdout.splitlines()
    assert table[0].split()[:3] == ["id", "webhook", "event"]
    assert "webhook.test" in table[1]
    assert "hunter2" not in infra("webhook", "list").stdout


def test_the_command_line_names_what_is_not_there(infra: Callable[..., Any]) -> None:
    assert infra("webhook", "test", "opps").exit_code == 3
    assert infra("webhook", "redeliver", "msg_none").exit_code == 3
    assert infra("webhook", "deliveries", "--state", "lost").exit_code == 2
    assert infra("webhook", "test", "ops", "--timeout", "soon").exit_code == 2
