"""Idleness, holds, clocks and their explanation, on real QEMU; the timeline as a picture."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import infrastructure_sdk as isdk
from infrastructure_sdk import vm


@pytest.mark.integration
async def test_a_session_tells_why_it_lives_and_why_it_was_suspended(
    state_dir: Path, image_dir: Path, tmp_path: Path
) -> None:
    watched = isdk.InfraSDKConfig.from_dict(
        {
            "store": {"state_directory": str(state_dir)},
            "vm": {"image_directory": str(image_dir)},
            "session": {"idle_sample_interval": "1s", "idle_arming_delay": "1s"},
        }
    )
    async with isdk.InfrastructureSDK(watched) as sdk:
        request = isdk.SessionRequest(user_id="alice", idle_timeout="2s", retention="1h", on_expiry={"ttl": "suspend"})
        async with sdk.sessions.ephemeral(request) as session:
            await session.hold("demo", "1h", note="shown to a customer")
            assert [hold["name"] for hold in session.to_dict()["holds"]] == ["demo"]
            await session.ping()
            kept = await session.explain(what_if=["1s", "4h"])
            assert kept.verdict == "busy", str(kept)
            assert "hold" in str(kept) and "ttl suspends it" in str(kept)
            assert {signal["signal"] for signal in kept.signals} >= {"guest_cpu", "network", "disk", "users", "hold"}
            # A signal that a look missed is compared from the next one on.
            unseen: dict[str, str] = {}
            async with asyncio.timeout(60):
                while unseen.keys() != {"input"}:
                    looked = await session.explain()
                    unseen = {s["signal"]: s["detail"] for s in looked.signals if s["state"] == "unknown"}
            assert unseen == {"input": "nobody is connected"}, "everything else is read from QEMU and the guest"
            assert [answer["idle_timeout"] for answer in kept.what_ifs] == ["1s", "4h"]
            assert "<table>" in kept._repr_html_()
            await session.release("demo")
            async for event in session.watch():
                if event["type"] == "session.lifecycle.suspended":
                    assert event["data"]["cause"] == "idle"
                    break
            why = await session.explain()
            assert "reason: idle" in str(why) and "retention terminates it" in str(why)
            assert why.to_dict()["reproduced"] is True
            await session.resume()
            with pytest.raises(isdk.ValidationError, match="name"):
                await session.hold("", "1h")
            with pytest.raises(isdk.ValidationError, match="length"):
                await session.hold("demo", "soon")
            with pytest.raises(isdk.ValidationError, match="what_if"):
                await session.explain(what_if=["soon"])

            picture = (await session.timeline()).save(tmp_path / "timeline.svg")
            drawn = ElementTree.parse(picture).getroot()
            texts = " ".join(element.text or "" for element in drawn.iter() if element.tag.endswith("text"))
            for word in ("provisioning", "suspended", "(idle)", "hold", "idle: warned"):
                assert word in texts
        with pytest.raises(isdk.ValidationError, match="on_expiry"):
            await sdk.sessions.create(isdk.SessionRequest(user_id="alice", on_expiry={"ttl": "vanish"}))
        assert await sdk.sessions.list() == []


@pytest.mark.integration
async def test_scenario28_the_doctor_names_the_accelerator_and_timeouts_follow_it(
    sdk: isdk.InfrastructureSDK, config: isdk.InfraSDKConfig
) -> None:
    lines = {line["name"]: line for line in vm.doctor(config)}
    capabilities = sdk.vms.capabilities()
    accelerator = lines["accelerator"]
    assert accelerator["detail"].startswith(capabilities["accelerator"])
    if capabilities["accelerator"] == "kvm":
        assert capabilities["timeout_scale"] == 1 and accelerator["status"] == "ok"
    else:
        assert capabilities["timeout_scale"] > 1 and accelerator["status"] == "warning"
        assert "security boundary" in accelerator["meaning"] and accelerator["advice"]


def event(sequence: int, second: int, kind: str, **data: Any) -> dict[str, Any]:
    time = f"2026-03-02T09:{second // 60:02}:{second % 60:02}.123456789Z"
    return {"sequence": sequence, "time": time, "type": kind, "subject": "s-<1>", "data": data}


def test_a_timeline_keeps_order_and_shows_short_states() -> None:
    timeline = isdk.Timeline(
        [
            event(1, 0, "session.lifecycle.created"),
            event(2, 0, "session.lifecycle.starting", to="provisioning", cause="request"),
            event(3, 2, "session.lifecycle.ready", to="active"),
            event(4, 3000, "session.idle.armed", action="suspend"),
            event(5, 3060, "session.lifecycle.suspending", to="suspending", cause="idle"),
            event(6, 3061, "session.lifecycle.suspended", to="suspended", cause="idle"),
        ],
        now="2026-03-02T09:58:00Z",
    )
    assert [state for state, _, _ in timeline.bands()] == [
        "pending",
        "provisioning",
        "active",
        "suspending",
        "suspended",
    ]
    drawn = ElementTree.fromstring(timeline.to_svg())
    widths = [float(e.get("width", 0)) for e in drawn.iter() if e.tag.endswith("rect")][1:]
    assert len(widths) == 5 and min(widths) >= 14 and sum(widths) < 900
    assert "s-&lt;1&gt;" in timeline.to_svg()


def test_a_timeline_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="events"):
        isdk.Timeline([])
