"""Windows images: the answer file and the machine that installs. No Windows: there is no disc of one here."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import infrastructure_sdk as isdk
from infrastructure_sdk import images
from infrastructure_sdk.images import windows
from infrastructure_sdk.images.answer_file import EDITIONS, Edition
from infrastructure_sdk.images.discs import make_disc

SPACES = {"u": "urn:schemas-microsoft-com:unattend"}


def tree_of(answers: images.Answers) -> ElementTree.Element:
    return ElementTree.fromstring(images.answer_file(answers))


def answers(**more: str) -> images.Answers:
    return images.answers_for("windows-11", **{"user": "alice", "password": "correct horse", **more})


def texts(root: ElementTree.Element, path: str) -> list[str | None]:
    return [element.text for element in root.findall(path, SPACES)]


@pytest.mark.parametrize("name", list(EDITIONS))
def test_the_answers_are_those_that_were_given(name: str) -> None:
    root = tree_of(images.answers_for(name, "alice", "correct horse"))
    assert [element.get("pass") for element in root] == ["windowsPE", "specialize", "oobeSystem"]
    assert texts(root, ".//u:OSImage/u:InstallFrom/u:MetaData/u:Value") == [EDITIONS[name].image]
    assert texts(root, ".//u:LocalAccount/u:Name") == ["alice"]
    assert texts(root, ".//u:fDenyTSConnections") == ["false"]
    assert texts(root, ".//u:FirewallGroup/u:Group") == ["@FirewallAPI.dll,-28752"]
    assert texts(root, ".//u:PreventDeviceEncryption") == ["true"]
    paths = texts(root, ".//u:DriverPaths/u:PathAndCredentials/u:Path")
    assert f"E:\\viostor\\{EDITIONS[name].drivers}\\amd64" in paths
    assert len(set(paths)) == len(paths) == 35
    commands = texts(root, ".//u:FirstLogonCommands/u:SynchronousCommand/u:CommandLine")
    assert any("qemu-ga-x86_64.msi" in (command or "") for command in commands)
    assert commands[-1] == "shutdown /s /t 10"


def test_the_disk_has_the_partitions_of_uefi() -> None:
    root = tree_of(answers())
    assert texts(root, ".//u:CreatePartition/u:Type") == ["EFI", "MSR", "Primary"]
    assert texts(root, ".//u:InstallTo/u:PartitionID") == ["3"]


def test_the_password_is_hidden_at_a_glance_and_never_shown() -> None:
    made = answers()
    assert "horse" not in repr(made)
    text = images.answer_file(made).decode()
    assert "horse" not in text
    (value, again) = texts(tree_of(made), ".//u:Password/u:Value")
    assert value == again
    assert base64.b64decode(value or "").decode("utf-16-le") == "correct horsePassword"


def test_a_product_key_is_optional() -> None:
    assert texts(tree_of(answers()), ".//u:ProductKey/u:Key") == []
    key = "AAAAA-BBBBB-CCCCC-DDDDD-11111"
    assert texts(tree_of(answers(product_key=key)), ".//u:ProductKey/u:Key") == [key]


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": ""},
        {"user": "Administrator"},
        {"user": "a" * 21},
        {"user": "a]]><x/>"},
        {"user": "alice&reboot"},
        {"user": "alice\x07"},
        {"user": "alice\n"},
        {"user": "ali/ce"},
        {"user": '"alice"'},
        {"password": "short"},
        {"password": "long enough\n"},
        {"password": "long enough\x00"},
        {"password": "p" * 128},
        {"edition": "Windows 11 & Co"},
        {"edition": "</Value>"},
        {"product_key": "AAAAA"},
    ],
)
def test_hostile_answers_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(isdk.ValidationError) as raised:
        answers(**wrong)
    assert str(raised.value).isprintable()
    assert wrong.get("password", "\0") not in str(raised.value)


def test_an_unknown_windows_is_not_found() -> None:
    with pytest.raises(isdk.NotFoundError, match="windows-server-2025"):
        images.answers_for("windows-95", "alice", "correct horse")


@settings(deadline=None)
@given(st.text(), st.text(min_size=8), st.text())
def test_any_text_is_refused_or_comes_out_as_it_was(user: str, password: str, edition: str) -> None:
    try:
        made = images.Answers(Edition(edition, "w11"), user, password)
    except isdk.ValidationError:
        return
    root = tree_of(made)
    assert texts(root, ".//u:LocalAccount/u:Name") == [user]
    assert texts(root, ".//u:MetaData/u:Value") == [edition]


def test_passwords_with_the_signs_of_xml_come_out_as_they_were() -> None:
    password = "<&>\"']]>--%PATH%$(x)"
    (value, _) = texts(tree_of(answers(password=password)), ".//u:Password/u:Value")
    assert base64.b64decode(value or "").decode("utf-16-le") == password + "Password"


def test_the_machine_that_installs_is_that_of_the_template() -> None:
    here = Path(__file__).parents[2] / "cpp/src/vm/templates/windows-11.yaml"
    template = yaml.safe_load(here.read_text())
    assert template["enlightenments"] == windows.ENLIGHTENMENTS
    line = windows.install_command({"setup": Path("/a.iso"), "drivers": Path("/b.iso")}, "kvm", Path("/code.fd"))
    assert line[line.index("-machine") + 1].startswith(template["machine"] + ",")
    processor = line[line.index("-cpu") + 1]
    for name in template["enlightenments"]:
        assert f",hv-{name}=" in processor
    assert "tpm-crb,tpmdev=tpm0" in line
    assert "base=localtime,driftfix=slew" in line
    assert [word for word in line if "bootindex=1" in word] == [
        "ide-cd,id=setup-drive,drive=setup,bus=ide.0,bootindex=1"
    ]
    assert not [word for word in line if "tcp" in word]
    emulated = windows.install_command({"setup": Path("/a.iso")}, "tcg", Path("/code.fd"))
    assert "max" in emulated
    assert not [word for word in emulated if "hv-" in word]


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A disc that nothing starts from."""
    (tmp_path / "making").mkdir()
    make_disc({"readme.txt": b"nothing"}, "EMPTY", tmp_path / "making", tmp_path / "empty.iso")
    return tmp_path / "empty.iso"


def test_what_is_no_disc_is_refused_before_anything_is_made(tmp_path: Path, disc: Path) -> None:
    text = tmp_path / "text.iso"
    text.write_text("no disc")
    store = tmp_path / "images"
    with pytest.raises(isdk.ValidationError, match=r"iso: .* is no disc"):
        images.install_windows(store, "windows-11", text, disc, answers())
    with pytest.raises(isdk.ValidationError, match=r"drivers: .* is no disc"):
        images.install_windows(store, "windows-11", disc, text, answers())
    with pytest.raises(isdk.NotFoundError):
        images.install_windows(store, "windows-11", tmp_path / "none.iso", disc, answers())
    with pytest.raises(isdk.ValidationError, match="accelerator"):
        images.install_windows(store, "windows-11", disc, disc, answers(), accelerator="hvf")
    comma = disc.rename(tmp_path / "a,readonly=off.iso")
    with pytest.raises(isdk.ValidationError, match="comma"):
        images.install_windows(store, "windows-11", comma, comma, answers())
    assert not store.exists()


@pytest.mark.integration
def test_an_installation_that_is_interrupted_leaves_nothing(
    tmp_path: Path, disc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not windows.FIRMWARE.is_dir() or shutil.which("swtpm") is None:
        pytest.skip("needs the packages ovmf and swtpm")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    steps: list[str] = []

    def interrupt(step: str, done: int, total: int | None) -> None:
        steps.append(step)
        if step == "starting the disc":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.install_windows(
            tmp_path / "images", "windows-11", disc, disc, answers(), accelerator="tcg", progress=interrupt
        )
    assert steps == ["preparing", "starting the disc"]
    assert list((tmp_path / "images").iterdir()) == []
    assert list((tmp_path / "scratch").iterdir()) == []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                assert not os.readlink(entry / "cwd").startswith(str(tmp_path))
