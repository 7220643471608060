"""The command line: what it prints, and how it ends, for everything that can be asked without a virtual machine."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

import infrastructure_sdk as isdk
from infrastructure_sdk import exceptions, images
from infrastructure_sdk.cli import app, context
from infrastructure_sdk.cli.output import Format, harmless, show

NOBODY = "s-0000000000000000"
ESCAPE = "\x1b"
SECRET = "hunter2-canary"
FORMATS = ["table", "json", "yaml", "name"]


@dataclasses.dataclass
class Said:
    code: int
    out: str
    err: str

    def rows(self, output: str) -> list[Any]:
        """What was printed, whatever the format, as a list."""
        if output == "json":
            return list(json.loads(self.out))
        if output == "yaml":
            return list(yaml.safe_load(self.out))
        lines = self.out.splitlines()
        return lines[1:] if output == "table" else lines


Command = Callable[..., Said]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def environment(state_dir: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of every command here: nothing of the user's own, and no look for KVM."""
    for name in list(os.environ):
        if name.startswith("INFRA_SDK_") or name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS"):
            monkeypatch.delenv(name)
    ours = {
        "INFRA_SDK_STORE__STATE_DIRECTORY": str(state_dir),
        "INFRA_SDK_STORE__LOCK_TIMEOUT": "0s",
        "INFRA_SDK_VM__ACCELERATOR": "tcg",
        "INFRA_SDK_VM__IMAGE_DIRECTORY": str(store),
        "TERM": "xterm-256color",
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return ours


@pytest.fixture
def infra(environment: dict[str, str]) -> Command:
    """Runs a command inside this process."""

    def run(*words: str, **more: str) -> Said:
        result = CliRunner().invoke(app, list(words), env=more, prog_name="infra-sdk")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    return run


def in_a_process(*words: str | bytes, **more: str) -> Said:
    done = subprocess.run(
        [sys.executable, "-m", "infrastructure_sdk.cli", *words],
        capture_output=True,
        env={**os.environ, **more},
        timeout=120,
        check=False,
    )
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def on_a_terminal(*words: str, **more: str) -> Said:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "infrastructure_sdk.cli", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **more},
    )
    os.close(theirs)
    said = b""
    try:
        while block := os.read(ours, 65536):
            said += block
    except OSError:  # how Linux says that nobody has the other end any more
        pass
    finally:
        os.close(ours)
    return Said(process.wait(), said.decode(), "")


@pytest.fixture
def disk(tmp_path: Path, store: Path) -> images.Image:
    file = tmp_path / "disk.raw"
    file.write_bytes(b"\x55" * 1024)
    return images.import_image(store, file)


# ---- help and completion ---------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, ...]]:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        children = getattr(command, "commands", {})
        if not children:
            yield path
        for name, child in children.items():
            yield from walk(child, (*path, name))

    yield from walk(typer.main.get_command(app), ())


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...], infra: Command) -> None:
    said = infra(*path, "--help")
    assert said.code == 0
    unfolded = " ".join(said.out.split())
    assert f"Example: infra-sdk {' '.join(path)}" in unfolded.replace("infra-sdk --config site.yaml", "infra-sdk")
    assert said.out.startswith(f"Usage: infra-sdk {' '.join(path)}")


@pytest.mark.parametrize(
    "group",
    sorted({path[:-1] for path in commands()}),
    ids=" ".join,
)
def test_a_group_lists_its_commands_and_has_an_example(group: tuple[str, ...], infra: Command) -> None:
    said = infra(*group, "--help")
    assert said.code == 0
    assert f": infra-sdk {' '.join(group)}".rstrip() in " ".join(said.out.split())
    for path in commands():
        if path[: len(group)] == group:
            assert path[len(group)] in said.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell: str, environment: dict[str, str]) -> None:
    said = in_a_process("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert said.code == 0, said.err
    assert f"_INFRA_SDK_COMPLETE=complete_{shell}" in said.out


def test_completion_completes(environment: dict[str, str]) -> None:
    said = in_a_process(_INFRA_SDK_COMPLETE="complete_bash", COMP_WORDS="infra-sdk session sus", COMP_CWORD="2")
    assert said.out.split() == ["suspend"]


# ---- exit codes ------------------------------------------------------------------------------------------------------

CODES = {
    "NotFoundError": 3,
    "NotReadyError": 4,
    "OperationTimeoutError": 4,
    "AdmissionDeniedError": 5,
    "QuotaExceededError": 5,
    "BudgetExceededError": 5,
    "CapacityError": 5,
    "PolicyError": 5,
    "IsolationError": 6,
    "ProviderError": 7,
    "VMProvisioningError": 7,
    "ValidationError": 2,
    "ConfigurationError": 2,
}
KINDS = [kind for name, kind in vars(exceptions).items() if name in exceptions.__all__ and isinstance(kind, type)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_has_its_exit_code(
    kind: type[isdk.InfrastructureSDKError], infra: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(sdk: isdk.InfrastructureSDK) -> isdk.InfrastructureSDK:
        raise kind("a sentence that says what to do")

    monkeypatch.setattr(isdk.InfrastructureSDK, "open", refuse)
    said = infra("session", "list")
    assert said.code == CODES.get(kind.__name__, 1)
    assert (said.out, said.err) == ("", "error: a sentence that says what to do\n")
    assert infra("session", "exec", NOBODY, "true").code == 125


@pytest.mark.parametrize(
    "words",
    [
        ["show", NOBODY],
        ["suspend", NOBODY],
        ["resume", NOBODY],
        ["terminate", NOBODY],
        ["terminate", NOBODY, "--dry-run"],
        ["extend", NOBODY, "1h"],
        ["touch", NOBODY],
        ["events", NOBODY],
        ["screenshot", NOBODY, "never.png"],
        ["ls", NOBODY],
        ["console", NOBODY],
        ["forward", NOBODY, "22"],
        ["cp", f"{NOBODY}:/etc/passwd", "never"],
    ],
    ids=" ".join,
)
def test_an_unknown_session_is_exit_3(words: list[str], infra: Command) -> None:
    said = infra("session", *words)
    assert said.code == 3
    assert NOBODY in said.err
    assert "infra-sdk session list --all" in said.err
    assert not Path("never.png").exists() and not Path("never").exists()


def test_an_empty_id_is_no_session_and_not_the_only_one(infra: Command) -> None:
    said = infra("session", "console", "")
    assert (said.code, said.out) == (3, "")


def test_an_unknown_session_is_exit_3_for_a_check_and_125_for_exec(infra: Command) -> None:
    assert infra("isolation", "check", NOBODY).code == 3
    for options in ([], ["--follow"]):
        said = infra("session", "exec", *options, NOBODY, "--", "true")
        assert (said.code, said.out) == (125, "")
        assert NOBODY in said.err


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["create", "--user", "a", "--ttl", "soon"], "ttl"),
        (["create", "--user", "a", "--ttl", "-1s"], "ttl"),
        (["create", "--user", "a", "--ttl", "0s"], "ttl"),
        (["create", "--user", "a", "--ttl", "1000000h"], "ttl"),
        (["create", "--user", "a", "--timeout", "soon"], "timeout"),
        (["create", "--user", ""], "user_id"),
        (["create", "--user", "a\nb"], "user_id"),
        (["create", "--user", "a", "--cpu", "many"], "resources.cpu"),
        (["create", "--user", "a", "--memory", "0"], "resources.memory"),
        (["create", "--user", "a", "--disk-size", "1 GB"], "resources.disk_size"),
        (["create", "--user", "a", "--disk-iops", "0"], "resources.disk_iops"),
        (["create", "--user", "a", "--network", "internt"], "did you mean 'internet'?"),
        (["create", "--user", "a", "--network", "bridge"], "resources.network.bridge"),
        (["create", "--user", "a", "--network", "bridge:br0,fd=3"], "resources.network.bridge"),
        (["create", "--user", "a", "--network", "isolated:br0"], "resources.network.bridge"),
        (["create", "--user", "a", "--tag", "novalue"], "--tag"),
        (["suspend", NOBODY, "--timeout", "1"], "timeout"),
        (["resume", NOBODY, "--timeout", "-1s"], "timeout"),
        (["terminate", NOBODY, "--timeout", ""], "timeout"),
        (["list", "--state", "sleepy"], "state"),
        (["list", "--limit", "1001"], "limit"),
        (["extend", NOBODY, "soon"], "by"),
        (["console", NOBODY, "--valid-for", "soon"], "valid_for"),
        (["console"], "SESSION is needed unless just one session is active; active: none"),
        (["cp", "here", "there"], "SESSION:/absolute/path"),
        (["cp", "here", f"{NOBODY}:relative"], "SESSION:/absolute/path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_bad_value_is_exit_2_and_named(words: list[str], field: str, infra: Command) -> None:
    said = infra("session", *words)
    assert (said.code, said.out) == (2, "")
    assert field in said.err
    assert infra("session", "list", "--all", "-o", "json").rows("json") == []


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["session", "nonsense"],
        ["session", "suspend"],
        ["session", "create", "--user", "a", "--colour", "red"],
        ["session", "list", "-o", "xml"],
        ["session", "list", "--limit", "0"],
        ["session", "exec", NOBODY],
        ["session", "forward", NOBODY, "65536"],
        ["session", "forward", NOBODY, "0"],
        ["image", "build"],
    ],
    ids=" ".join,
)
def test_bad_usage_is_exit_2(words: list[str], infra: Command) -> None:
    said = infra(*words)
    assert (said.code, said.out) == (2, "")
    assert "Usage: infra-sdk" in said.err


def test_an_unknown_template_is_exit_3_with_a_guess(infra: Command) -> None:
    said = infra("session", "create", "--user", "a", "--template", "linux-tinny")
    assert said.code == 3
    assert "linux-tinny" in said.err
    assert "did you mean 'linux-tiny'?" in said.err


def test_a_missing_image_is_exit_3_and_names_the_command_that_builds_it(infra: Command, store: Path) -> None:
    said = infra("session", "create", "--user", "a")
    assert said.code == 3
    assert "`infra-sdk image build linux-tiny`" in said.err
    assert str(store) in said.err
    assert infra("session", "list", "--all", "-o", "name").out == ""


@pytest.mark.parametrize(("program", "package"), [("QEMU", "qemu-system-x86"), ("QEMU_IMG", "qemu-utils")])
def test_a_missing_program_is_exit_7_and_names_its_package(program: str, package: str, infra: Command) -> None:
    said = infra("session", "list", **{f"INFRA_SDK_PROVIDERS__{program}_BINARY": "/nowhere/at-all"})
    assert said.code == 7
    assert "/nowhere/at-all" in said.err
    assert f"apt-get install {package}" in said.err
    said = infra("doctor", **{f"INFRA_SDK_PROVIDERS__{program}_BINARY": "/nowhere/at-all"})
    assert said.code == 1
    assert f"apt-get install {package}" in said.out


def test_a_provider_of_another_build_is_named(infra: Command) -> None:
    said = infra("session", "list", INFRA_SDK_PROVIDERS__DEFAULT="kubevirt")
    assert said.code == 1
    assert "providers.default: 'kubevirt'" in said.err


def test_bytes_that_are_no_text_are_refused_politely(environment: dict[str, str]) -> None:
    for words in (
        ["session", "show", b"\xff"],
        ["session", "create", "--user", b"\xff"],
        ["image", "show", b"\xff"],
        ["--state-dir", b"\xff", "session", "list"],
        ["--config", b"\xff.yaml", "config", "show"],
    ):
        said = in_a_process(*words)
        assert said.code == 2, said.err
        assert said.err.startswith("error: ")
        assert "Traceback" not in said.err
    said = in_a_process("config", "show", INFRA_SDK_AWS__PROFILE=os.fsdecode(b"\xff"), INFRA_SDK_AWS__REGION=SECRET)
    assert (said.code, said.out) == (2, "")
    assert "INFRA_SDK_AWS__PROFILE" in said.err
    assert SECRET not in said.err


def test_a_reader_that_goes_away_is_no_accident(environment: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "infrastructure_sdk.cli", "config", "reference"],
            stdout=stream,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert b"Traceback" not in done.stderr


# ---- the state directory ---------------------------------------------------------------------------------------------


def test_a_state_directory_that_cannot_be_made_is_named(infra: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file/state", Path("/proc/infrastructure-sdk")):
        said = infra("--state-dir", str(place), "session", "list")
        assert (said.code, said.out) == (1, "")
        assert str(place) in said.err
        assert "store.state_directory" in said.err
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_is_named(infra: Command, tiny_disk: Callable[[str], Path]) -> None:
    place = tiny_disk("8k") / "state"
    said = infra("--state-dir", str(place), "session", "list")
    assert (said.code, said.out) == (1, "")
    assert str(place) in said.err
    assert "full" in said.err


def test_a_living_owner_is_named(config: isdk.InfraSDKConfig, environment: dict[str, str], state_dir: Path) -> None:
    async def own() -> Said:
        async with isdk.InfrastructureSDK(config):
            return await asyncio.to_thread(in_a_process, "session", "list")

    said = asyncio.run(own())
    assert (said.code, said.out) == (1, "")
    assert f"is owned by process {os.getpid()} " in said.err
    assert str(state_dir) in said.err
    assert in_a_process("session", "list", "-o", "json").rows("json") == []


# ---- configuration and secrets ---------------------------------------------------------------------------------------


def test_every_fault_of_the_configuration_is_listed(infra: Command, tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("session:\n  default_tll: 2h\n  maximum_ttl: soon\nvm:\n  accelerator: warp\nsesion: {}\n")
    for words in (["session", "list"], ["config", "show"], ["image", "list"], ["doctor"]):
        said = infra("--config", str(file), *words)
        assert (said.code, said.out) == (2, "")
        for word in ("session.default_tll", "default_ttl", "session.maximum_ttl", "soon", "vm.accelerator", "kvm"):
            assert word in said.err
        assert f"{file}:2" in said.err
        assert "'session'" in said.err
    said = infra("config", "show", INFRA_SDK_VM__ACELERATOR="tcg")
    assert said.code == 2
    assert "INFRA_SDK_VM__ACCELERATOR" in said.err


@pytest.mark.parametrize("content", [None, "", "- a\n", "a: [", "\0"])
def test_a_configuration_file_that_is_none_is_named(content: str | None, infra: Command, tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    if content is not None:
        file.write_text(content)
    said = infra("--config", str(file), "config", "show")
    assert said.code == (0 if content == "" else 2), said.err
    assert content == "" or str(file) in said.err


@pytest.mark.parametrize("output", FORMATS)
def test_secrets_are_shown_nowhere(output: str, infra: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", SECRET)
    for value in ("env:CANARY", SECRET, f"file:/{SECRET}", f"exec:{SECRET}"):
        for words in (["config", "show"], ["session", "list"], ["doctor"]):
            said = infra(*words, "-o", output, INFRA_SDK_KUBERNETES__TOKEN=value, INFRA_SDK_LOGGING__LEVEL="debug")
            assert SECRET not in said.out + said.err
            assert said.code == (2 if value == SECRET or value.startswith("exec:") else 0), said.err


def test_config_show_in_every_format(infra: Command, environment: dict[str, str]) -> None:
    assert json.loads(infra("config", "show", "-o", "json").out)["vm"]["accelerator"] == "tcg"
    assert yaml.safe_load(infra("config", "show").out) == json.loads(infra("config", "show", "-o", "json").out)
    assert "accelerator=tcg" in infra("config", "show", "-o", "table").out
    names = infra("config", "show", "-o", "name").out.split()
    assert names == sorted(names, key=names.index)
    assert set(names) == {"store.state_directory", "store.lock_timeout", "vm.accelerator", "vm.image_directory"}


def test_schema_and_reference_are_printed(infra: Command) -> None:
    assert json.loads(infra("config", "schema").out) == isdk.InfraSDKConfig.schema()
    assert "INFRA_SDK_VM__ACCELERATOR" in infra("config", "reference").out


# ---- output ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", FORMATS)
@pytest.mark.parametrize(
    ("words", "names"),
    [
        (
            ["template", "list"],
            [
                "linux-desktop",
                "linux-server",
                "linux-tiny",
                "windows-10",
                "windows-11",
                "windows-server-2022",
                "windows-server-2025",
            ],
        ),
        (["image", "list"], ["disk"]),
        (["session", "list"], []),
        (["session", "list", "--all", "--user", "nobody", "--state", "active"], []),
        (
            ["doctor"],
            [
                "qemu",
                "qemu-img",
                "accelerator",
                "kvm-permission",
                "secure-boot",
                "state-directory",
                "image",
                "uid-separation",
                "cgroups",
                "user-namespaces",
                "ksm",
                "swap",
                "memory",
                "clock",
                "gpu",
                "network",
            ],
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_every_listing_has_every_format(
    words: list[str], names: list[str], output: str, infra: Command, disk: images.Image
) -> None:
    said = infra(*words, "-o", output)
    assert (said.code, said.err) == (0, "")
    rows = said.rows(output)
    assert [row["name"] if isinstance(row, dict) else row.split()[0] for row in rows] == names
    assert ESCAPE not in said.out


@pytest.mark.parametrize("output", FORMATS)
def test_one_thing_has_every_format(output: str, infra: Command, disk: images.Image) -> None:
    assert isdk.__version__ in infra("version", "-o", output).out
    said = infra("image", "show", "disk", "-o", output)
    assert (said.code, said.err) == (0, "")
    assert "disk" in said.out
    if output in ("json", "yaml"):
        assert yaml.safe_load(said.out) == disk.to_dict()
    if output == "name":
        assert said.out == "disk\n"


def test_lines_for_programs_are_not_folded(infra: Command) -> None:
    said = infra("doctor", COLUMNS="20")
    assert len(said.out.splitlines()) == 1 + len(infra("doctor", "-o", "name").out.split())


@pytest.mark.parametrize("words", [["template", "list"], ["session", "show", NOBODY], ["--help"], ["nonsense"]])
def test_colour_is_for_terminals_that_want_it(words: list[str], environment: dict[str, str]) -> None:
    for more in ({}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}):
        said = in_a_process(*words, **more)
        assert ESCAPE not in said.out + said.err
    assert ESCAPE not in on_a_terminal(*words, NO_COLOR="1").out
    assert ESCAPE not in on_a_terminal(*words, TERM="dumb").out


def test_a_terminal_gets_colour(environment: dict[str, str]) -> None:
    assert ESCAPE in on_a_terminal("template", "list").out
    assert ESCAPE in on_a_terminal("session", "show", NOBODY).out


def test_foreign_text_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "[/red] :skull: \x1b]0;title\x07 \x9b2J \u202e end"
    for output in Format:
        show([{"id": "s-1", "what": hostile, "more": {"inner": [hostile]}}], {"a": "what", "b": "more"}, output)
    said = capsys.readouterr().out
    assert not set(said) & set("\x1b\x07\x9b\u202e")
    assert "[/red] :skull: \\x1b]0;title\\x07" in said
    assert harmless("two\nlines\tand a tab \u00e4") == "two\nlines\tand a tab \u00e4"
    with pytest.raises(typer.Exit):
        context.fail(isdk.ProviderError(hostile))
    assert not set(capsys.readouterr().err) & set("\x1b\x07\x9b\u202e")


# ---- images ----------------------------------------------------------------------------------------------------------


def test_images_from_import_to_removal(infra: Command, tmp_path: Path, store: Path) -> None:
    file = tmp_path / "Debian.raw"
    file.write_bytes(b"\x55" * 1024)
    said = infra("image", "import", str(file), "-o", "json")
    assert (said.code, json.loads(said.out)["name"]) == (0, "debian")
    assert "checking" in said.err
    said = infra("image", "remove", "debian", "--dry-run")
    assert (said.code, said.out) == (0, "")
    assert str(store / "debian") in said.err
    assert infra("image", "list", "-o", "name").out == "debian\n"
    assert infra("image", "remove", "debian").code == 0
    assert list(store.iterdir()) == []
    for words in (["remove", "debian"], ["remove", "debian", "--dry-run"], ["show", "debian"]):
        assert infra("image", *words).code == 3


def test_images_that_are_refused(infra: Command, tmp_path: Path, store: Path, disk: images.Image) -> None:
    (tmp_path / "text").write_text("no image")
    for words, code, word in (
        (["import", str(tmp_path / "text")], 2, "no disk image"),
        (["import", str(tmp_path / "nothing")], 3, "there is no file"),
        (["import", str(tmp_path / "disk.raw"), "--name", "../x"], 2, "a-z 0-9"),
        (["import", str(tmp_path / "disk.raw"), "--image-dir", str(tmp_path / "text")], 1, "--image-dir"),
        (["build", "windows"], 3, "known: linux-tiny"),
        (["show", "dsik"], 3, "did you mean 'disk'?"),
        (["remove", "dsik"], 3, "did you mean 'disk'?"),
        (["show", "../disk"], 2, "a-z 0-9"),
    ):
        said = infra("image", *words)
        assert (said.code, said.out) == (code, ""), said.err
        assert said.err.splitlines()[-1].startswith("error: ")
        assert word in said.err
    assert [entry.name for entry in store.iterdir()] == ["disk"]


# ---- a session -------------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_every_view_of_a_session_in_every_format(
    infra: Command, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_SDK_VM__IMAGE_DIRECTORY", str(image_dir))

    def loaded(*words: str) -> Any:
        said = infra(*words, "-o", "json")
        assert said.code == 0, said.err
        return json.loads(said.out)

    def the_same_in_yaml(*words: str) -> None:
        ours, theirs = loaded(*words), yaml.safe_load(infra(*words, "-o", "yaml").out)
        assert type(ours) is type(theirs)
        assert len(ours) == len(theirs)

    said = infra("session", "create", "--user", "alice [b]", "--tag", "team=red", "--ttl", "1h", "-o", "name")
    assert said.code == 0, said.err
    name = said.out.strip()
    for words in (["session", "list"], ["session", "list", "--state", "active", "--user", "alice [b]"]):
        assert [session["id"] for session in loaded(*words)] == [name]
        the_same_in_yaml(*words)
        assert infra(*words, "-o", "name").out == f"{name}\n"
        header, row = infra(*words).out.splitlines()
        assert header.split()[:2] == ["id", "user"]
        assert row.startswith(name) and "alice [b]" in row
    for words, key in (
        (["session", "show", name], name),
        (["session", "events", name], "session.lifecycle.ready"),
        (["isolation", "check", name], "CMP-01"),
    ):
        the_same_in_yaml(*words)
        table = infra(*words, "-o", "table").out
        assert key in table and " \n" not in table
        assert infra(*words, "-o", "name").code == 0
    assert loaded("session", "show", name)["tags"] == {"team": "red"}
    assert infra("session", "events", name, "-o", "name").out.split()[0] == "session.lifecycle.created"
    assert loaded("isolation", "check", name)["session_id"] == name
    assert infra("isolation", "check", name, "--require-isolated").code in (0, 6)

    before = loaded("session", "show", name)["expires_at"]
    assert loaded("session", "extend", name, "1h")["expires_at"] > before
    assert loaded("session", "touch", name)["id"] == name
    said = infra("session", "terminate", name, "--dry-run", "-o", "json")
    assert (said.code, json.loads(said.out)["state"]) == (0, "active")
    assert "nothing was changed" in said.err
    for words, code, word in (
        (["screenshot", name, str(tmp_path / "nowhere/x.png")], 1, "nowhere/x.png"),
        (["cp", str(tmp_path / "nothing"), f"{name}:/tmp/x"], 1, "nothing"),
        (["cp", f"{name}:/tmp/x", str(tmp_path / "x")], 3, "/tmp/x"),
        (["cp", f"{name}:/tmp", str(tmp_path / "x")], 7, "directory"),
        (["exec", "--timeout", "1s", name, "--", "sleep", "9999"], 125, "in time"),
        (["exec", "--timeout", "soon", name, "--", "true"], 125, "timeout"),
        (["exec", name, "--", "no-such-command"], 125, "no-such-command"),
    ):
        said = infra("session", *words)
        assert (said.code, said.out) == (code, ""), said.err
        assert word in said.err
    assert not (tmp_path / "x").exists()
    assert loaded("session", "suspend", name)["state"] == "suspended"
    assert infra("session", "exec", name, "--", "true").code == 125
    assert infra("session", "screenshot", name, str(tmp_path / "x.png")).code == 1
    assert loaded("session", "resume", name)["state"] == "active"
    assert infra("session", "exec", "-i", name, "--", "cat", "--", "/proc/sys/kernel/ostype").out == "Linux\n"
    assert infra("session", "exec", name, "printf", "%s", "-i").out == "-i"
    assert infra("session", "terminate", name, "-o", "name").out == f"{name}\n"
    assert "terminated already" in infra("session", "terminate", name, "--dry-run").err
    assert loaded("session", "list") == []
    assert [session["id"] for session in loaded("session", "list", "--all")] == [name]


def test_a_dry_run_of_create_checks_everything_and_changes_nothing(
    infra: Command, image_dir: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["session", "create", "--user", "alice", "--dry-run", "-o", "json"]
    said = infra(*words)
    assert said.code == 3
    assert "infra-sdk image build linux-tiny" in said.err
    monkeypatch.setenv("INFRA_SDK_VM__IMAGE_DIRECTORY", str(image_dir))
    said = infra(*words, "--memory", "256Mi", "--tag", "team=red", "--ttl", "1h")
    assert said.code == 0, said.err
    planned = json.loads(said.out)
    assert (planned["user_id"], planned["state"], planned["tags"]) == ("alice", "pending", {"team": "red"})
    assert (planned["resources"]["memory"], planned["template"]) == ("256Mi", "linux-tiny")
    assert "nothing was changed" in said.err
    for more, code in ((["--ttl", "9999h"], 2), (["--memory", "1Mi"], 2), (["--template", "linux-tinny"], 3)):
        assert infra(*words, *more).code == code
    assert list(state_dir.iterdir()) == []


def test_limits_refuse_what_does_not_fit_and_show_their_use(
    infra: Command, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits:\n  - {scope: user, subject: '*', sessions: 1}\n  - {scope: host, memory: 64Mi}\n")
    monkeypatch.setenv("INFRA_SDK_VM__IMAGE_DIRECTORY", str(image_dir))
    monkeypatch.setenv("INFRA_SDK_SESSION__LIMITS_FILE", str(limits))
    said = infra("session", "create", "--user", "alice")
    assert said.code == 5
    assert "64Mi" in said.err and "128Mi" in said.err
    said = infra("limits", "list", "-o", "json")
    assert said.code == 0, said.err
    lines = json.loads(said.out)
    assert [(line["limit"]["scope"], line["limit"]["resource"], line["holder_count"]) for line in lines] == [
        ("user", "sessions", 0),
        ("host", "memory", 0),
    ]
    assert json.loads(infra("limits", "-o", "json").out) == lines
    limits.write_text("limits:\n  - {scope: user, sesions: 1}\n")
    said = infra("limits", "list")
    assert said.code == 2
    assert "sessions" in said.err
    monkeypatch.setenv("INFRA_SDK_SESSION__LIMITS_FILE", str(tmp_path / "none.yaml"))
    said = infra("limits", "list")
    assert said.code == 2
    assert "session.limits_file" in said.err


def test_tenants_gpus_and_money_are_asked_for_counted_and_refused(
    infra: Command, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text(
        "limits:\n"
        "  - {scope: tenant, subject: '*', sessions: 1, gpu: 2, money_per_hour: '0.20'}\n"
        "  - {scope: template, subject: dear, money_per_month: '1.00'}\n"
    )
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "dear.yaml").write_text("name: dear\nimage: linux-tiny\nmemory: 128Mi\nprice_per_hour: '0.25'\n")
    monkeypatch.setenv("INFRA_SDK_VM__IMAGE_DIRECTORY", str(image_dir))
    monkeypatch.setenv("INFRA_SDK_VM__TEMPLATE_DIRECTORY", str(templates))
    monkeypatch.setenv("INFRA_SDK_SESSION__LIMITS_FILE", str(limits))
    monkeypatch.setenv("INFRA_SDK_COST_OPTIMIZATION__CURRENCY", "EUR")
    monkeypatch.setenv("INFRA_SDK_COST_OPTIMIZATION__BUDGET_PER_MONTH", "40.00")
    create = ("session", "create", "--user", "alice")
    said = infra(*create, "--gpus", "1")
    assert said.code == 1
    assert "resources.gpu_count" in said.err and "no GPUs" in said.err
    for wrong, field in ((["--gpus", "65"], "resources.gpu_count"), (["--tenant", "a\nb"], "tenant")):
        said = infra(*create, *wrong)
        assert said.code == 2
        assert field in said.err
    said = infra(*create, "--template", "dear", "--tenant", "physics", "--ttl", "2h")
    assert said.code == 5
    assert "money_per_hour limit of tenant 'physics' (as of every tenant) is 0.20 EUR" in said.err
    said = infra(*create, "--template", "dear", "--ttl", "5h")
    assert said.code == 5
    assert "money_per_month limit of template 'dear' is 1.00 EUR" in said.err and "a shorter ttl" in said.err
    said = infra(*create, "--template", "dear", "--ttl", "4h", "--dry-run", "-o", "json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["cost"]["price_per_hour"] == "0.25"
    lines = json.loads(infra("limits", "-o", "json").out)
    assert [(line["limit"]["scope"], line["limit"]["resource"], line["limit"]["value"]) for line in lines] == [
        ("tenant", "sessions", 1),
        ("tenant", "gpu", 2),
        ("tenant", "money_per_hour", "0.20"),
        ("template", "money_per_month", "1.00"),
        ("host", "money_per_month", "40.00"),
    ]
    assert [line["currency"] for line in lines] == ["", "", "EUR", "EUR", "EUR"]
    table = infra("limits").out
    assert "money_per_month" in table and "EUR" in table and "spent" in table
    assert json.loads(infra("session", "list", "--tenant", "physics", "-o", "json").out) == []
    limits.write_text("limits:\n  - {scope: host, money_per_month: '1.00'}\n")
    said = infra("limits")
    assert said.code == 2
    assert "cost_optimization.budget_per_month" in said.err


# ---- logs ------------------------------------------------------------------------------------------------------------


def a_record(**fields: str) -> dict[str, Any]:
    return {
        "time": "2026-01-02T03:04:05.000000000Z",
        "level": "info",
        "logger": "session",
        "message": "session changed state",
        "correlation_id": "request-7",
        "fields": fields,
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_records_are_written_as_the_configuration_says(log_format: str, tmp_path: Path) -> None:
    file = tmp_path / "log"
    config = isdk.InfraSDKConfig.from_dict({"logging": {"level": "info", "format": log_format, "file": str(file)}})
    with isdk.logging.written(config.logging):
        isdk.logging.forward([a_record(session="s-1", detail="a\nforged line"), {**a_record(), "level": "debug"}])
    isdk.logging.forward([a_record()])
    (line,) = file.read_text().splitlines()
    assert file.stat().st_mode & 0o777 == 0o600
    if log_format == "json":
        document = json.loads(line)
        assert document["detail"] == "a\nforged line"
        assert (document["correlation_id"], document["severity_text"]) == ("request-7", "INFO")
    else:
        assert line.startswith("2026-01-02T03:04:05.000000000Z INFO ")
        assert line.endswith("correlation_id=request-7")
    assert logging.getLogger("infrastructure_sdk").handlers == []


def test_a_log_file_that_cannot_be_written_is_named(infra: Command, tmp_path: Path) -> None:
    said = infra("session", "list", INFRA_SDK_LOGGING__FILE=str(tmp_path))
    assert said.code == 2
    assert "logging.file" in said.err
    assert str(tmp_path) in said.err
