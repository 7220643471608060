"""From an incident to a test that fails until it cannot happen again.

`replay` finds in a session's recorded events what went wrong, has the session engine go through the same hours on the
virtual clock under the rules of then, and writes a pytest file that does the same. It fails; whoever changes the policy
has a test that says when it is enough.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from infrastructure_sdk import _bridge
from infrastructure_sdk.exceptions import NotFoundError, UnsupportedError, ValidationError
from infrastructure_sdk.notebook.recording import Event, read_events, time_of

__all__ = ["Incident", "replay"]

_BY_ITSELF = ("ttl", "idle", "idle_timeout", "disconnect_timeout", "disconnect", "retention", "policy")


@dataclass(frozen=True)
class Incident:
    """What went wrong with a session.

    Attributes
    ----------
    kind
        "wrongly_suspended": it was suspended and wanted again soon after. "lost": it was ended by a clock or a policy;
        if it was in use then, its user is taken to have wanted it for an hour longer.
    at, story
        When, and what happened, for people.
    policy
        The rules of then, as far as the log tells, or those given; for `infrastructure_sdk.simulation`.
    reproduced
        Whether the engine on the virtual clock does the same under these rules.
    source
        The text of the pytest file.
    """

    session_id: str
    kind: str
    at: datetime
    story: str
    policy: Mapping[str, Any] | str
    reproduced: bool
    source: str

    def save(self, path: str | Path) -> Path:
        """Write the pytest file and return its path."""
        target = Path(path)
        target.write_text(self.source, encoding="utf-8")
        return target

    def __str__(self) -> str:
        return self.story + ("" if self.reproduced else "; the replay does not do that")


def replay(
    session_id: str,
    events: Sequence[Event] | str | Path,
    *,
    policy: Mapping[str, Any] | str | Path | None = None,
    soon: str | float = "15m",
    pytest: str | Path | None = None,
) -> Incident:
    """What went wrong with a session, on the virtual clock, and a test of it.

    Parameters
    ----------
    session_id
        The session.
    events
        A recorded log, or its file. Other sessions in it do not count.
    policy
        Rules to try instead of those of then: settings, or a file, as in `infrastructure_sdk.simulation`.
    soon
        Who comes back within this time after a suspension was wrongly suspended; seconds or a duration.
    pytest
        Where the pytest file is written, if anywhere; not when the replay does not do the same.

    Raises
    ------
    NotFoundError
        If the log has no event of the session.
    UnsupportedError
        If nothing went wrong that a replay can show: a VM that failed is no decision of anybody.
    ValidationError
        If an argument is wrong.

    Examples
    --------
    ::

        incident = replay("s-0123456789abcdef", "events.jsonl", pytest="test_incident.py")
        print(incident)
    """
    log = read_events(events) if isinstance(events, str | Path) else list(events)
    life = [event for event in log if event["subject"] == session_id]
    if not life:
        raise NotFoundError(f"{session_id}: the log has no event of it", context={"session": session_id})
    if life[0]["type"] != "session.lifecycle.created":
        raise ValidationError(
            f"{session_id}: the log begins in the midst of it; events from session.lifecycle.created on are needed",
            context={"field": "events", "session": session_id},
        )
    limit = _bridge.seconds(soon)
    found = _suspended_wrongly(life, limit) or _lost(life)
    if found is None:
        raise UnsupportedError(
            f"{session_id}: nothing went wrong that a replay can show: no suspension after which its user was back "
            f"within {limit:g} s, and no end by a clock or policy",
            context={"session": session_id},
        )
    kind, at, what = found
    rules: Mapping[str, Any] | str
    rules = rules_of(life) if policy is None else dict(policy) if isinstance(policy, Mapping) else str(policy)
    options = _speed_of(life, limit)
    story = f"{session_id} {what}"
    if kind == "lost":
        life = _wanted_longer(life)
    source = _source(session_id, kind, story, life, rules, options)
    incident = Incident(session_id, kind, at, story, rules, _happens(kind, life, rules, options), source)
    # A test of what the replay does not do would pass from the start and guard nothing.
    if pytest is not None and incident.reproduced:
        incident.save(pytest)
    return incident


def rules_of(life: Sequence[Event]) -> dict[str, Any]:
    """The clocks that a session's events tell of, as settings of a simulation.

    From its idle warnings the timeout and the delay after a warning; what the events do not tell is off.
    """
    rules: dict[str, Any] = {"name": "recorded", "idle_timeout": "0s", "ttl": "0s", "retention": "0s"}
    armed: datetime | None = None
    for event in life:
        data = event.get("data") or {}
        if event["type"] == "session.idle.armed" and "quiet_since" in data:
            armed = time_of(event)
            waited = (armed - time_of(str(data["quiet_since"]))).total_seconds()
            rules["idle_timeout"] = f"{max(int(waited), 1)}s"
        elif data.get("to") == "suspending" and armed is not None:
            rules["arming_delay"] = f"{max(round((time_of(event) - armed).total_seconds()), 1)}s"
        elif data.get("to") == "terminating" and data.get("cause") == "ttl":
            rules["ttl"] = f"{max(round((time_of(event) - time_of(life[0])).total_seconds()), 1)}s"
    if rules["idle_timeout"] != "0s":
        # Looks further apart than 150 s are not allowed.
        rules["sample_interval"] = f"{min(60, max(int(rules['idle_timeout'][:-1]) // 30, 1))}s"
    return rules


def _suspended_wrongly(life: Sequence[Event], soon: float) -> tuple[str, datetime, str] | None:
    asleep: tuple[datetime, str] | None = None
    for event in life:
        data = event.get("data") or {}
        cause = str(data.get("cause") or data.get("reason") or "")
        if data.get("to") == "suspending":
            asleep = (time_of(event), cause) if cause.split(":")[0] in _BY_ITSELF else None
        elif data.get("to") == "resuming" and asleep is not None:
            at, why = asleep
            away = (time_of(event) - at).total_seconds()
            if away <= soon:
                return (
                    "wrongly_suspended",
                    at,
                    f"was suspended ({why}) at {at:%H:%M:%S} and wanted again {away:.0f} s later",
                )
            asleep = None
    return None


def _lost(life: Sequence[Event]) -> tuple[str, datetime, str] | None:
    for event in life:
        data = event.get("data") or {}
        cause = str(data.get("cause") or data.get("termination_reason") or "")
        if data.get("to") == "terminating" and cause.split(":")[0] in _BY_ITSELF:
            at = time_of(event)
            return "lost", at, f"was ended ({cause}) at {at:%H:%M:%S}, not by its user"
    return None


def _wanted_longer(life: Sequence[Event]) -> list[Event]:
    """The events without the end, and one that lets the log go on for an hour."""
    end = next(event for event in life if (event.get("data") or {}).get("to") == "terminating")
    before = [event for event in life if event["sequence"] < end["sequence"]]
    until = (time_of(end) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
    return [*before, {**end, "type": "session.replay.wanted", "time": until, "data": {}}]


def _speed_of(life: Sequence[Event], soon: float) -> dict[str, Any]:
    """How fast the host was, as options of a simulation: the first of each that the events tell."""
    begun: dict[str, datetime] = {"provisioning": time_of(life[0])}
    took: dict[str, float] = {}
    ends = {"active": ("provisioning", "boot_time"), "suspended": ("suspending", "suspend_time")}
    for event in life:
        state = str((event.get("data") or {}).get("to", ""))
        at = time_of(event)
        if state == "active" and "resuming" in begun:
            took.setdefault("resume_time", (at - begun.pop("resuming")).total_seconds())
        elif state in ends and ends[state][0] in begun:
            origin, name = ends[state]
            took.setdefault(name, (at - begun.pop(origin)).total_seconds())
        elif state:
            begun.setdefault(state, at)
    times = {name: f"{max(round(seconds * 1000), 1)}ms" for name, seconds in took.items()}
    return {"came_back_within": f"{max(round(soon), 1)}s", "slow_share": 0, **times}


def _happens(kind: str, life: Sequence[Event], rules: Any, options: Mapping[str, Any]) -> bool:
    from infrastructure_sdk import simulation

    result = simulation.run(rules, simulation.Workload.from_events(life), seed=1, options=options)
    (session,) = result.sessions
    return bool(getattr(session.outcome, kind))


_TEMPLATE = '''"""{story}.

Made from the recorded events of the session. The session engine goes through the same hours on the virtual clock,
under the rules in POLICY; the test fails while it does the same again. Change POLICY to the rules that should hold
(settings or a file of a policy) and keep the test.
"""

import json

from infrastructure_sdk import simulation

POLICY = {policy}

# As fast as the host was; who comes back within `came_back_within` was wrongly suspended.
OPTIONS = {options}

EVENTS = """
{events}
"""


def test_{name}() -> None:
    events = [json.loads(line) for line in EVENTS.splitlines() if line]
    result = simulation.run(POLICY, simulation.Workload.from_events(events), seed=1, options=OPTIONS)
    (session,) = result.sessions
    assert session.outcome.{kind} == 0, (
        f"{{session.outcome.{kind}}} times under {{result.policy}}: it was {story_short}"
    )
'''


def _source(
    session_id: str, kind: str, story: str, life: Sequence[Event], rules: Any, options: Mapping[str, Any]
) -> str:
    # In a Python text of three quotes a backslash of JSON must be written twice.
    lines = "\n".join(json.dumps(dict(event), sort_keys=True) for event in life)
    said = {"wrongly_suspended": "suspended and wanted again soon after", "lost": "ended under its user"}
    return _TEMPLATE.format(
        story=_one_line(story),
        story_short=said[kind],
        policy=_literal(rules),
        options=_literal(options),
        events=lines.replace("\\", "\\\\").replace('"""', '\\"\\"\\"'),
        name=f"{session_id.replace('-', '_')}_is_not_{kind}" if session_id.replace("-", "_").isidentifier() else kind,
        kind=kind,
    )


def _one_line(text: str) -> str:
    return " ".join(text.replace("\\", "/").replace('"', "'").split())


def _literal(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = "".join(f"    {_quoted(str(key))}: {_literal(item)},\n" for key, item in value.items())
        return "{\n" + inner + "}"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """In double quotes. JSON escapes as Python does, but for characters beyond 16 bits: they stay as they are."""
    return json.dumps(text, ensure_ascii=False)
