"""Tenants, GPUs and money on real QEMU: what a session costs, who may spend it, and what the next owner knows of it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync

pytestmark = pytest.mark.integration

LIMITS = """
limits:
  - {scope: tenant, subject: "*", money_per_hour: "0.50"}
  - {scope: user, subject: alice, money_per_month: "2.00"}
"""


@pytest.fixture
def priced(config: isdk.InfraSDKConfig, tmp_path: Path) -> isdk.InfraSDKConfig:
    (tmp_path / "desk.yaml").write_text("name: desk\nimage: linux-tiny\nmemory: 128Mi\nprice_per_hour: '0.50'\n")
    limits = tmp_path / "limits.txt"
    limits.write_text(LIMITS)
    more = {"session": {"limits_file": str(limits)}, "vm": {"template_directory": str(tmp_path)}}
    return config.overlaid_with(isdk.InfraSDKConfig.from_dict(more))


async def month(sdk: isdk.InfrastructureSDK) -> tuple[Decimal, Decimal]:
    """In use by alice, and of it spent by sessions that have ended."""
    line = next(line for line in await sdk.limits.usage() if line["limit"]["resource"] == "money_per_month")
    return Decimal(line["in_use"]), Decimal(line["spent"])


async def test_what_a_session_has_cost_outlives_it_and_its_owner(priced: isdk.InfraSDKConfig) -> None:
    request = isdk.SessionRequest(user_id="alice", template="desk", tenant="physics", ttl="2h")
    async with isdk.InfrastructureSDK(priced) as sdk:
        session = await sdk.sessions.create(request)
        try:
            await session.wait_until_active()
            assert (session.tenant, session.gpu_count, session.gpu_type) == ("physics", 0, "")
            assert session.price_per_hour == Decimal("0.50")
            assert await month(sdk) == (Decimal("1.00"), 0)
            with pytest.raises(isdk.BudgetExceededError) as caught:
                await sdk.sessions.create(request)
            assert caught.value.context["scope"] == "tenant"
            assert caught.value.context["holders"] == session.id
            assert "suspend or end it" in str(caught.value)
            denial = await sdk.sessions.can_create(request)
            assert denial is not None
            assert (denial["currency"], denial["help"]) == ("USD", caught.value.context["help"])
            with pytest.raises(isdk.BudgetExceededError):
                await session.extend("3h")
            assert [s.id for s in await sdk.sessions.list(tenant="physics")] == [session.id]
            assert await sdk.sessions.list(tenant="art") == []
        finally:
            await session.terminate()
        await session.refresh()
        assert Decimal(0) < session.cost_this_month < Decimal("0.10")
        assert await month(sdk) == (session.cost_this_month, session.cost_this_month)
    async with isdk.InfrastructureSDK(priced) as sdk:
        assert await month(sdk) == (session.cost_this_month, session.cost_this_month)


def test_the_same_without_async_and_gpus_are_refused_at_once(config: isdk.InfraSDKConfig) -> None:
    with sync.InfrastructureSDK(config) as sdk:
        resources = isdk.ResourceSpec(gpu_count=1, gpu_type="a100")
        with pytest.raises(isdk.UnsupportedError) as caught:
            sdk.sessions.create(isdk.SessionRequest(user_id="alice", resources=resources))
        assert caught.value.context["field"] == "resources.gpu_count"
        assert sdk.sessions.list(tenant="physics") == []
