"""Where images come from: downloads that break off, seeds for cloud-init, and hostile text in both."""

from __future__ import annotations

import hashlib
import http.server
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import infrastructure_sdk as isdk
from infrastructure_sdk import images
from infrastructure_sdk.images import cache, commands

CONTENT = random.Random(0).randbytes(3 << 20)  # the same in each process that runs tests
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKf9lQm0r1nq8b2x7v3yQmS0m4Jt1c7k9cB8m0Zr2T1a alice@example.org"


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT with ranges, and misbehaves as told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.asked: list[str | None] = []
        self.cut_after: int | None = None
        self.ignores_ranges = False
        self.redirect: str | None = None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/images/Debian-12.qcow2"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.path.startswith("/missing"):
            return self.send_error(404)
        if self.server.redirect:
            self.send_response(302)
            self.send_header("Location", self.server.redirect)
            self.end_headers()
            return None
        start = int(asked[6:-1]) if asked and not self.server.ignores_ranges else 0
        if start and start >= len(self.server.content):
            return self.send_error(416)
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut, self.server.cut_after = self.server.cut_after, None
        self.wfile.write(body if cut is None else body[:cut])
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_a_download_is_kept_by_its_content_and_made_once(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    path = images.fetch(tmp_path, server.url, SHA256.upper(), progress=lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT
    assert path.name == SHA256
    assert ("downloading", len(CONTENT), len(CONTENT)) in steps
    assert images.fetch(tmp_path, "http://127.0.0.1:1/elsewhere", SHA256) == path
    assert len(server.asked) == 1
    assert [entry.name for entry in path.parent.iterdir()] == [SHA256]


def test_a_download_that_breaks_off_is_continued(server: Server, tmp_path: Path) -> None:
    server.cut_after = 1 << 20
    with pytest.raises(isdk.ProviderError, match="broke off after 1048576 of 3145728 bytes"):
        images.fetch(tmp_path, server.url, SHA256)
    assert images.fetch(tmp_path, server.url, SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1048576-"]


def test_a_server_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.cut_after = 1000
    server.ignores_ranges = True
    with pytest.raises(isdk.ProviderError):
        images.fetch(tmp_path, server.url, SHA256)
    assert images.fetch(tmp_path, server.url, SHA256).read_bytes() == CONTENT


def test_a_download_that_was_whole_when_it_was_cut_off_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / cache.FOLDER).mkdir()
    (tmp_path / cache.FOLDER / f"{SHA256}.part").write_bytes(CONTENT)
    assert images.fetch(tmp_path, server.url, SHA256).read_bytes() == CONTENT


def test_what_has_another_hash_is_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(isdk.ValidationError, match="has the hash"):
        images.fetch(tmp_path, server.url, "0" * 64)
    assert list((tmp_path / cache.FOLDER).iterdir()) == []


def test_a_part_that_was_tampered_with_is_found_and_thrown_away(server: Server, tmp_path: Path) -> None:
    part = tmp_path / cache.FOLDER / f"{SHA256}.part"
    part.parent.mkdir()
    part.write_bytes(b"\0" * 1000)
    with pytest.raises(isdk.ValidationError, match="has the hash"):
        images.fetch(tmp_path, server.url, SHA256)
    assert images.fetch(tmp_path, server.url, SHA256).read_bytes() == CONTENT


def test_a_kept_file_that_was_changed_is_fetched_again(server: Server, tmp_path: Path) -> None:
    path = images.fetch(tmp_path, server.url, SHA256)
    path.write_bytes(b"changed")
    assert images.fetch(tmp_path, server.url, SHA256).read_bytes() == CONTENT


def test_an_endless_file_is_cut_off(server: Server, tmp_path: Path) -> None:
    with pytest.raises(isdk.ValidationError, match="larger than 1000 bytes"):
        images.fetch(tmp_path, server.url, SHA256, maximum_size=1000)


def test_a_server_that_refuses_or_is_not_there_is_named_without_secrets(server: Server, tmp_path: Path) -> None:
    port = server.server_address[1]
    with pytest.raises(isdk.ProviderError, match="/missing answers 404") as raised:
        images.fetch(tmp_path, f"http://127.0.0.1:{port}/missing?token=hush", SHA256)
    assert "hush" not in str(raised.value)
    with pytest.raises(isdk.ProviderError, match="cannot be read"):
        images.fetch(tmp_path, "http://user:hush@127.0.0.1:1/x", SHA256)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_out_of_http_is_refused(target: str, server: Server, tmp_path: Path) -> None:
    server.redirect = target
    with pytest.raises(isdk.ProviderError, match=r"unsafe|not allowed"):
        images.fetch(tmp_path, server.url, SHA256)


@pytest.mark.parametrize(
    ("url", "sha256"),
    [
        ("file:///etc/passwd", SHA256),
        ("/etc/passwd", SHA256),
        ("http:///x", SHA256),
        ("http://host/a b", SHA256),
        ("http://host/a\r\nX-Header: 1", SHA256),
        ("http://host/x", ""),
        ("http://host/x", "0" * 63),
        ("http://host/x", "../" + "0" * 61),
        ("http://host/x", "0" * 63 + "\n"),
    ],
)
def test_a_wrong_address_or_hash_is_refused_before_anything_is_made(url: str, sha256: str, tmp_path: Path) -> None:
    with pytest.raises(isdk.ValidationError):
        images.fetch(tmp_path, url, sha256)
    assert list(tmp_path.iterdir()) == []


def test_two_that_want_the_same_file_share_one_download(server: Server, tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(images.fetch(tmp_path, server.url, SHA256))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(server.asked) == 1


def disk_on(server: Server, tmp_path: Path) -> str:
    """Lets the server serve a disk image; returns its hash."""
    file = tmp_path / "served.qcow2"
    subprocess.run([commands.find_tool("qemu-img"), "create", "-q", "-f", "qcow2", file, "1M"], check=True)
    server.content = file.read_bytes()
    return hashlib.sha256(server.content).hexdigest()


def test_garbage_is_what_no_image_was_made_from(server: Server, tmp_path: Path) -> None:
    store = tmp_path / "images"
    sha256 = disk_on(server, tmp_path)
    image = images.import_url(store, server.url, sha256)
    assert image.name == "debian-12"
    assert image.manifest["source"] == {"imported_from": "Debian-12", "sha256": sha256}
    images.verify_image(store, "debian-12")
    folder = store / cache.FOLDER
    (folder / ("a" * 64)).write_bytes(b"old")
    (folder / ("b" * 64 + ".part")).write_bytes(b"half")
    (folder / "letters.txt").write_text("not ours")
    assert [item.path.name for item in images.garbage(store)] == ["a" * 64, "b" * 64 + ".part"]
    with (folder / ("b" * 64 + ".part")).open("rb") as busy:
        cache.fcntl.flock(busy, cache.fcntl.LOCK_EX)
        assert [item.size_bytes for item in images.collect(store)] == [3]
    images.remove_image(store, "debian-12")
    assert {item.path.name for item in images.collect(store)} == {sha256, "b" * 64 + ".part"}
    assert [entry.name for entry in folder.iterdir()] == ["letters.txt"]
    assert images.list_images(store) == []


# ---- cloud-init ------------------------------------------------------------------------------------------------------


def test_a_seed_says_what_it_was_told() -> None:
    seed = images.CloudInit("alice", (KEY,), ("htop", "g++"), "desk-1")
    text = seed.user_data()
    assert text.startswith(b"#cloud-config\n")
    document = yaml.safe_load(text)
    assert document["users"] == [
        {
            "name": "alice",
            "groups": ["sudo"],
            "shell": "/bin/bash",
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "lock_passwd": True,
            "ssh_authorized_keys": [KEY],
        }
    ]
    assert document["packages"] == ["htop", "g++"]
    assert document["ssh_pwauth"] is False
    assert yaml.safe_load(seed.meta_data()) == {"instance-id": "isdk-desk-1", "local-hostname": "desk-1"}


HOSTILE = [
    "",
    "root",
    "Alice",
    "alice\nroot",
    "alice: {sudo: x}",
    "alice #",
    "- alice",
    "&a alice",
    "*a",
    "!!python/object:os.system",
    "${jndi:x}",
    "$(reboot)",
    "`reboot`",
    "alice;reboot",
    "../alice",
    "alice\0",
    "al\x1b[31mice",
    "al\u2028ice",
    "älice",
    "a" * 33,
    "-alice",
    "{% if x %}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_reaches_no_seed(text: str) -> None:
    with pytest.raises(isdk.ValidationError) as raised:
        images.CloudInit(text)
    assert str(raised.value).isprintable()
    for package in (text,) if text not in ("root", "alice", "a" * 33) else ():
        with pytest.raises(isdk.ValidationError):
            images.CloudInit(packages=(package,))
    with pytest.raises(isdk.ValidationError):
        images.CloudInit(ssh_keys=(text,))


@pytest.mark.parametrize(
    "key",
    [
        KEY + "\nssh-rsa AAAA",
        'command="reboot" ' + KEY,
        KEY.replace("ssh-ed25519", "ssh-dss"),
        KEY.split(" ")[0],
        KEY + "\x07",
        KEY + " \u202e",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_what_is_no_public_key_is_refused(key: str) -> None:
    with pytest.raises(isdk.ValidationError, match="ssh_keys"):
        images.CloudInit(ssh_keys=(key,))


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_any_text_is_refused_or_comes_out_as_it_was(user: str, key: str, package: str) -> None:
    try:
        seed = images.CloudInit(user, (key,), (package,))
    except isdk.ValidationError:
        return
    document = yaml.safe_load(seed.user_data())
    assert document["users"][0]["name"] == user
    assert document["users"][0]["ssh_authorized_keys"] == [key]
    assert document["packages"] == [package]


@settings(deadline=None)
@given(
    st.from_regex(r"[a-z_][a-z0-9_-]{0,31}", fullmatch=True),
    st.from_regex(r"[\x21-\x7e][\x20-\x7e]{0,60}", fullmatch=True),
)
def test_every_name_and_comment_that_is_allowed_comes_out_as_it_was(user: str, comment: str) -> None:
    if user == "root":
        return
    key = " ".join(KEY.split(" ")[:2]) + " " + comment
    document = yaml.safe_load(images.CloudInit(user, (key,)).user_data())
    assert document["users"][0]["name"] == user
    assert document["users"][0]["ssh_authorized_keys"] == [key]


def test_keys_are_read_from_a_file() -> None:
    assert images.read_ssh_keys(f"# mine\n\n{KEY}\n  {KEY} \n") == (KEY, KEY)


def test_an_image_of_a_cloud_has_its_seed_as_a_disc(tmp_path: Path) -> None:
    disk = tmp_path / "cloud.raw"
    disk.write_bytes(b"\0" * 1024)
    seed = images.CloudInit("alice", (KEY,))
    image = images.import_image(tmp_path / "images", disk, cloud_init=seed)
    entry = image.manifest["files"]["disc"]
    disc = image.directory / entry["path"]
    images.verify_image(tmp_path / "images", "cloud")
    descriptor = disc.read_bytes()[0x8000:0x8800]
    assert descriptor[1:6] == b"CD001"
    assert descriptor[40:72].rstrip() == b"CIDATA", "the name by which cloud-init finds it"
    for name, content in (("user-data", seed.user_data()), ("meta-data", seed.meta_data())):
        subprocess.run(
            ["xorriso", "-osirrox", "on", "-indev", disc, "-extract", f"/{name}", tmp_path / name],
            check=True,
            capture_output=True,
        )
        assert (tmp_path / name).read_bytes() == content
