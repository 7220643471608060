"""Built-in policies from the configuration: what they deny, what is shown of them, who may be asked."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync
from infrastructure_sdk import exceptions
from infrastructure_sdk.cli import app

CLOSED = """
policies:
  - source: builtin:business-hours
    name: closed
    settings: {hours: ["DAY 08:00-18:00"], deny: true, tenants: [closed-tenant]}
  - {source: "builtin:keep-tagged", mode: shadow}
"""


@pytest.fixture
def policies_file(state_dir: Path) -> Path:
    path = state_dir / "policies.yaml"
    in_three_days = (datetime.now(timezone.utc) + timedelta(days=3)).strftime("%a").lower()
    path.write_text(CLOSED.replace("DAY", in_three_days))
    return path


@pytest.fixture
def config(config: isdk.InfraSDKConfig, policies_file: Path) -> isdk.InfraSDKConfig:
    policy = {"policy": {"policies_file": str(policies_file), "files": ["builtin:budget-guard"]}}
    return config.overlaid_with(isdk.InfraSDKConfig.from_dict(policy))


@pytest.mark.integration
async def test_policies_are_listed_reloaded_and_their_denial_is_told(
    sdk: isdk.InfrastructureSDK, policies_file: Path
) -> None:
    listed = await sdk.policies.list()
    assert [policy["name"] for policy in listed] == ["closed", "keep-tagged", "budget-guard"]
    closed, tagged, guard = listed
    assert (closed["points"], closed["mode"]) == (["schedule", "admit"], "enforce")
    assert (tagged["mode"], guard["points"], guard["enabled"]) == ("shadow", ["budget"], True)
    assert len(closed["sha256"]) == 64
    request = isdk.SessionRequest(user_id="alice", tenant="closed-tenant", template="linux-tiny")
    denial = await sdk.sessions.can_create(request)
    assert denial is not None
    assert (denial["policy"], denial["code"]) == ("closed", "admission_denied")
    with pytest.raises(exceptions.AdmissionDeniedError, match="business hours") as caught:
        await sdk.sessions.create(request)
    assert caught.value.context["policy"] == "closed"
    assert await sdk.sessions.list() == []
    assert (await sdk.policies.status("closed"))["decided"] == 1
    await sdk.policies.disable("closed")
    assert await sdk.sessions.can_create(request) is None
    assert (await sdk.policies.enable("closed"))["enabled"] is True
    with pytest.raises(exceptions.NotFoundError):
        await sdk.policies.status("nobody")
    policies_file.write_text("policies: [{source: 'builtin:no-such-rule'}]")
    with pytest.raises(exceptions.ConfigurationError, match="no-such-rule"):
        await sdk.policies.reload()
    policies_file.write_text("policies: []")
    assert [policy["name"] for policy in await sdk.policies.reload()] == ["budget-guard"]
    types = [event["type"] for event in await sdk.events.list()]
    assert [kind for kind in types if kind.startswith("policy.")] == [
        *["policy.loaded"] * 3,
        "policy.decided",
        "policy.disabled",
        "policy.enabled",
    ]


@pytest.mark.integration
def test_what_is_disabled_stays_so_and_the_command_line_shows_it(config: isdk.InfraSDKConfig, state_dir: Path) -> None:
    with sync.InfrastructureSDK(config) as opened:
        opened.policies.disable("closed")
    written = state_dir / "site.json"
    written.write_text(json.dumps({"policy": {"policies_file": str(state_dir / "policies.yaml")}}))
    words = ["--state-dir", str(state_dir), "--config", str(written), "policy"]
    listed = CliRunner().invoke(app, [*words, "list", "-o", "json"])
    assert listed.exit_code == 0, listed.output
    assert [(item["name"], item["enabled"]) for item in json.loads(listed.stdout)] == [
        ("closed", False),
        ("keep-tagged", True),
    ]
    enabled = CliRunner().invoke(app, [*words, "enable", "closed", "-o", "json"])
    assert json.loads(enabled.stdout)[0]["enabled"] is True, enabled.output
    shown = CliRunner().invoke(app, [*words, "show", "closed", "-o", "json"])
    assert json.loads(shown.stdout)["enabled"] is True
    assert CliRunner().invoke(app, [*words, "disable", "nobody"]).exit_code == 3


def test_the_rules_without_code_are_shown_with_their_settings() -> None:
    said = CliRunner().invoke(app, ["policy", "list", "--builtin", "-o", "json"])
    assert said.exit_code == 0
    assert "utc_offset" in json.loads(said.stdout)[0]["settings"]["properties"]


@pytest.mark.integration
async def test_a_policy_that_cannot_be_loaded_fails_the_start(config: isdk.InfraSDKConfig, policies_file: Path) -> None:
    policies_file.write_text("policies: [{source: 'builtin:keep-tagged', settings: {tag: 3}}]")
    with pytest.raises(exceptions.ConfigurationError, match=r"settings\.tag"):
        async with isdk.InfrastructureSDK(config):
            pass
    missing = isdk.InfraSDKConfig.from_dict({"policy": {"policies_file": str(policies_file.with_name("no"))}})
    with pytest.raises(exceptions.ConfigurationError, match=r"policy\.policies_file"):
        async with isdk.InfrastructureSDK(config.overlaid_with(missing)):
            pass
