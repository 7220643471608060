"""Words, configuration, exceptions, correlation ids: no virtual machine needed."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync
from infrastructure_sdk import _core, desktop, events, exceptions, files, session_manager, snapshot, vm, webhooks
from infrastructure_sdk import isolation as isolation_module


@given(st.integers(min_value=0, max_value=10**8), st.sampled_from(["ms", "s", "m"]))
def test_durations_are_exact(count: int, unit: str) -> None:
    factor = {"ms": 1e-3, "s": 1.0, "m": 60.0}[unit]
    assert _core.parse_duration(f"{count}{unit}") == pytest.approx(count * factor)


@pytest.mark.parametrize("text", ["", "-1s", "1", "1 s", "1x", "s", "1.5.5s", "1e3s", "99999999999999h", "\u0661s"])
def test_bad_durations_name_field_and_value(text: str) -> None:
    with pytest.raises(isdk.ValidationError) as caught:
        _core.parse_duration(text, "ttl")
    assert caught.value.context["field"] == "ttl"
    assert caught.value.context["value"] == text


@given(
    st.integers(min_value=0, max_value=10**6), st.sampled_from([("", 1), ("Ki", 2**10), ("Mi", 2**20), ("k", 10**3)])
)
def test_quantities_are_exact(count: int, unit: tuple[str, int]) -> None:
    assert _core.parse_quantity(f"{count}{unit[0]}") == count * unit[1] * 1000


@pytest.mark.parametrize("text", ["", "-1", "1 Gi", "Gi", "1ki", "0.0001", "1e99", "9" * 40, "1.2.3", "0x10"])
def test_bad_quantities_name_field_and_value(text: str) -> None:
    with pytest.raises(isdk.ValidationError) as caught:
        _core.parse_quantity(text, "memory")
    assert caught.value.context == {"field": "memory", "value": text, "allowed": caught.value.context["allowed"]}


def test_config_reports_every_fault_at_once() -> None:
    with pytest.raises(isdk.ConfigurationError) as caught:
        isdk.InfraSDKConfig.from_dict({"session": {"default_tll": "2h"}, "vm": {"accelerator": "warp"}})
    problems = {problem["path"]: problem for problem in caught.value.problems}
    assert problems["session.default_tll"]["did_you_mean"].endswith("default_ttl")
    assert "kvm" in problems["vm.accelerator"]["allowed"]


def test_config_layers_keep_their_origin(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[session]\ndefault_ttl = "2h"\n')
    layered = isdk.InfraSDKConfig.from_file(file).overlaid_with(
        isdk.InfraSDKConfig.from_environment({"INFRA_SDK_LOGGING__LEVEL": "debug"})
    )
    assert (layered.session.default_ttl, layered.logging.level) == ("2h", "debug")
    assert "config.toml" in layered.origin("session.default_ttl")
    assert "INFRA_SDK_LOGGING__LEVEL" in layered.origin("logging.level")


def test_config_refuses_what_json_has_not_without_quoting_it() -> None:
    for values in ({"vm": object()}, {"vm": {"image_directory": "\udcff"}}, {"vm": {"image_directory": float("nan")}}):
        with pytest.raises(isdk.ConfigurationError):
            isdk.InfraSDKConfig.from_dict(values)
    with pytest.raises(isdk.ConfigurationError) as caught:
        isdk.InfraSDKConfig.from_environment({"INFRA_SDK_AWS__PROFILE": "\udcff", "INFRA_SDK_AWS__REGION": "canary"})
    assert "INFRA_SDK_AWS__PROFILE" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_every_code_of_the_core_has_an_exception() -> None:
    for kind in vars(exceptions).values():
        if inspect.isclass(kind) and issubclass(kind, isdk.InfrastructureSDKError):
            made = exceptions.from_code(kind.default_code, "why", True, {"field": "x"})
            assert (made.code, made.message, made.retryable, made.context) == (
                kind.default_code,
                "why",
                True,
                {"field": "x"},
            )
    assert isinstance(exceptions.from_code("quota_exceeded", "", False, {}), isdk.AdmissionDeniedError)


def test_requests_refuse_what_they_do_not_know() -> None:
    with pytest.raises(TypeError):
        isdk.SessionRequest(user_id="alice", idle_timout="5m")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("mirror", "original"),
    [
        (sync.Session, isdk.Session),
        (sync.UserSessionManager, session_manager.UserSessionManager),
        (sync.FileClient, files.FileClient),
        (sync.ForkResult, snapshot.ForkResult),
        (sync.Snapshot, snapshot.Snapshot),
        (sync.SnapshotCatalogue, snapshot.SnapshotCatalogue),
        (sync.DesktopClient, desktop.DesktopClient),
        (sync.VMLifecycleController, vm.VMLifecycleController),
        (sync.LimitCatalogue, vm.LimitCatalogue),
        (sync.EventLog, events.EventLog),
        (sync.Webhooks, webhooks.Webhooks),
        (sync.IsolationEngine, isolation_module.IsolationEngine),
        (sync.InfrastructureSDK, isdk.InfrastructureSDK),
    ],
)
def test_the_sync_twin_has_the_same_signatures(mirror: type, original: type) -> None:
    public = [name for name in vars(original) if not name.startswith("_")]
    assert public
    for name in public:
        member = inspect.getattr_static(original, name)
        twin = inspect.getattr_static(mirror, name)
        assert isinstance(member, property) == isinstance(twin, property), name
        if not isinstance(member, property):
            ours, theirs = inspect.signature(twin), inspect.signature(member)
            assert list(ours.parameters) == list(theirs.parameters), name
            assert not inspect.iscoroutinefunction(twin), name


def test_correlation_ids_nest() -> None:
    with isdk.logging.correlation_id("outer"):
        with isdk.logging.correlation_id() as inner:
            assert isdk.logging.current_correlation_id() == inner != "outer"
        assert isdk.logging.current_correlation_id() == "outer"
    assert isdk.logging.current_correlation_id() == ""


@pytest.mark.parametrize(
    "name",
    [
        "",
        "config",
        "isolation",
        "logging",
        "webhooks",
        "_bridge",
        "policy.definition",
        "policy.helpers",
        "policy.linter",
        "policy.runner",
        "automation.clock",
        "automation.declare",
        "notebook.recording",
        "simulation.picture",
    ],
)
def test_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module("infrastructure_sdk" + (f".{name}" if name else ""))
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 0


async def test_an_empty_clipboard_is_told_from_one_that_cannot_be_read() -> None:
    class Answering:
        result = isdk.ExecResult(0, b"text", b"", False, False, 0.0)

        async def exec(self, *_words: object, **_options: object) -> isdk.ExecResult:
            return self.result

    guest = Answering()
    screen = desktop.DesktopClient(guest)  # type: ignore[arg-type]
    assert await screen.clipboard() == "text"
    guest.result = isdk.ExecResult(1, b"", b"Error: target UTF8_STRING not available\n", False, False, 0.0)
    assert await screen.clipboard() == ""
    guest.result = isdk.ExecResult(1, b"", b"Error: Can't open display: :0\n", False, False, 0.0)
    with pytest.raises(isdk.ProviderError) as caught:
        await screen.clipboard()
    assert "display" in caught.value.context["detail"]
