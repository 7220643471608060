"""A NoCloud seed: what cloud-init of a cloud image is told at its first start.

Source: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infrastructure_sdk.exceptions import ValidationError
from infrastructure_sdk.images.discs import make_disc

LABEL = "CIDATA"

USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,127}")
SSH_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|"
    r"sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/]{32,16000}={0,2}( [\x21-\x7e][\x20-\x7e]{0,255})?"
)


@dataclass(frozen=True)
class CloudInit:
    """What the seed says.

    Attributes
    ----------
    user
        The user to make; may use sudo without a password, and has none.
    ssh_keys
        Lines of an authorized_keys file, without options.
    packages
        Names of packages to install at the first start; that needs a network.
    hostname
        Until the host gives a session's name.
    """

    user: str = "user"
    ssh_keys: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    hostname: str = "guest"

    def __post_init__(self) -> None:
        _need(USER_NAME, "user", self.user, "1 to 32 of a-z 0-9 _ -, starting with a letter or _")
        if self.user == "root":
            raise _refused("user", self.user, "another name than root")
        for key in self.ssh_keys:
            _need(SSH_KEY, "ssh_keys", key, "one line of a public key: its type, its base64 and a comment")
        for package in self.packages:
            _need(PACKAGE_NAME, "packages", package, "names of packages: a-z 0-9 + . -")
        _need(re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"), "hostname", self.hostname, "a host name (RFC 1123)")

    def user_data(self) -> bytes:
        """The cloud-config document."""
        user: dict[str, Any] = {
            "name": self.user,
            "groups": ["sudo"],
            "shell": "/bin/bash",
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "lock_passwd": True,
            "ssh_authorized_keys": list(self.ssh_keys),
        }
        tree: dict[str, Any] = {
            "users": [user],
            "disable_root": True,
            "ssh_pwauth": False,
            # The host gives each guest its own.
            "ssh_deletekeys": True,
            "ssh_genkeytypes": ["ed25519"],
        }
        if self.packages:
            tree |= {"package_update": True, "packages": list(self.packages)}
        return b"#cloud-config\n" + _serialised(tree)

    def meta_data(self) -> bytes:
        """The instance's document; cloud-init works once for each instance id."""
        return _serialised({"instance-id": f"isdk-{self.hostname}", "local-hostname": self.hostname})

    def write(self, scratch: Path, target: Path) -> None:
        """Make the seed disc. `scratch` is a folder to work in."""
        files = {"user-data": self.user_data(), "meta-data": self.meta_data()}
        make_disc(files, LABEL, scratch, target)


def read_ssh_keys(text: str) -> tuple[str, ...]:
    """The keys of a .pub or an authorized_keys file; empty lines and comments are left out."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _serialised(tree: dict[str, Any]) -> bytes:
    # JSON is YAML, and has one way to write each text; all that is in the tree is ASCII.
    return json.dumps(tree, indent=1).encode("ascii") + b"\n"


def _need(pattern: re.Pattern[str], name: str, value: str, allowed: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _refused(name, value, allowed)


def _refused(name: str, value: str, allowed: str) -> ValidationError:
    shown = repr(value)[:100]
    return ValidationError(
        f"cloud-init {name}: {shown} is not allowed; {allowed}",
        context={"field": name, "value": shown, "allowed": allowed},
    )
