"""The classes of requests and decisions: what policies see is what was asked, whichever way it came."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infrastructure_sdk import policy as p
from infrastructure_sdk.exceptions import ValidationError

PLENTY = 60.0  # seconds: for answers that must come
WHOLE = 2**53  # what JSON's numbers hold exactly

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
whole = st.integers(0, WHOLE)
amounts = st.floats(0, 1e12)
seconds = st.integers(0, 10**9).map(lambda micros: micros / 1e6)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc))
maps = st.dictionaries(texts, texts, max_size=3)
actions = st.sampled_from(["standard", "keep", "disconnect", "suspend", "terminate"])

SESSION: dict[str, st.SearchStrategy[Any]] = {
    "id": texts,
    "user_id": texts,
    "created_at": moments,
    "tenant": texts,
    "template_name": texts,
    "session_type": texts,
    "state": texts,
    "cpu_cores": amounts,
    "memory_bytes": whole,
    "disk_bytes": whole,
    "gpu_count": whole,
    "gpu_type": texts,
    "tags": maps,
    "last_activity_at": st.none() | moments,
    "expires_at": st.none() | moments,
    "price_per_hour": amounts,
}
USAGE = dict.fromkeys(p.PolicyUsage.__match_args__, whole)
CANDIDATE: dict[str, st.SearchStrategy[Any]] = {
    "name": texts,
    "free_cpu_cores": amounts,
    "free_memory_bytes": whole,
    "spot": st.booleans(),
    "price_per_hour": amounts,
    "labels": maps,
}
sessions = st.builds(p.PolicySession, **SESSION)
ASKED: dict[str, st.SearchStrategy[Any]] = {"now": moments, "session": sessions}
REQUESTS: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    p.AdmitRequest: {**ASKED, "usage": st.builds(p.PolicyUsage, **USAGE)},
    p.PlaceRequest: {**ASKED, "candidates": st.lists(st.builds(p.PlaceCandidate, **CANDIDATE), max_size=3).map(tuple)},
    p.SizeRequest: ASKED,
    p.IdleRequest: {
        **ASKED,
        "quiet_for": seconds,
        "idle_timeout": seconds,
        "connections": whole,
        "use_fully_seen": st.booleans(),
        "standard": actions,
    },
    p.ScheduleRequest: {**ASKED, "quiet_for": st.none() | seconds},
    p.BudgetRequest: {
        **ASKED,
        "spent_by_session": amounts,
        "spent_by_user": amounts,
        "spent_by_tenant": amounts,
        "limit_of_user": st.none() | amounts,
        "limit_of_tenant": st.none() | amounts,
        "currency": texts,
    },
    p.IsolationRequest: {
        **ASKED,
        "verdict": texts,
        "score_lower": amounts,
        "score_upper": amounts,
        "failed_checks": st.lists(texts, max_size=3).map(tuple),
        "is_start": st.booleans(),
        "standard": actions,
    },
    p.InterruptionRequest: {**ASKED, "kind": texts, "deadline": st.none() | moments, "standard": actions},
}
DECISIONS: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    p.AdmitDecision: {"action": st.sampled_from(["standard", "deny"]), "reason": texts},
    p.PlaceDecision: {"candidate": texts, "reason": texts},
    p.SizeDecision: {"cpu_cores": st.none() | amounts, "memory_bytes": st.none() | whole, "reason": texts},
    p.SessionDecision: {"action": actions, "reason": texts, "ask_again_after": st.none() | seconds},
}
VALUES = {p.PolicySession: SESSION, p.PolicyUsage: USAGE, p.PlaceCandidate: CANDIDATE, **REQUESTS, **DECISIONS}


def described(kinds: dict[type, dict[str, st.SearchStrategy[Any]]]) -> st.SearchStrategy[tuple[type, dict[str, Any]]]:
    return st.sampled_from(list(kinds)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.fixed_dictionaries(kinds[kind]))
    )


def fields_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__match_args__}


@given(described(VALUES))
def test_every_field_is_what_it_was_made_with(made: tuple[type, dict[str, Any]]) -> None:
    kind, fields = made
    value = kind(**fields)
    assert fields_of(value) == fields
    assert value == kind(**fields)
    assert all(
        type(shown) is type(fields[name]) for name, shown in fields_of(value).items() if name not in ("tags", "labels")
    )
    assert (
        repr(value)
        == f"{kind.__name__}({', '.join(f'{name}={getattr(value, name)!r}' for name in kind.__match_args__)})"
    )


@given(described(REQUESTS))
def test_a_request_out_of_json_has_the_same_fields(made: tuple[type, dict[str, Any]]) -> None:
    kind, fields = made
    request = kind(**fields)
    read = p.policy_request_from_json(request.to_json())
    assert type(read) is kind and read == request
    assert fields_of(read) == fields and fields_of(read.session) == fields_of(fields["session"])
    assert repr(read) == repr(request)


@given(described(VALUES), st.data())
def test_values_with_another_field_differ(made: tuple[type, dict[str, Any]], data: st.DataObject) -> None:
    kind, fields = made
    name = data.draw(st.sampled_from(sorted(fields)))
    other = data.draw(VALUES[kind][name])
    assert (kind(**fields) == kind(**{**fields, name: other})) == (fields[name] == other)
    assert (kind(**fields) != kind(**{**fields, name: other})) == (fields[name] != other)


def hash_of(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


KEEPING = """
from hashlib import sha256
from infrastructure_sdk.policy import keep, policy
KEPT, TRIALS = [], 5

def hash_of(value):
    return sha256(repr(value).encode()).hexdigest()

@policy("idle", "schedule", "budget", "isolation", "interruption")
def f(request):
    KEPT.append((request, request.session))
    first, session = KEPT[min(TRIALS, len(KEPT) - 1)]
    return keep(",".join([hash_of(request), hash_of(first), hash_of(session)]))
"""
LIVING = {kind: REQUESTS[kind] for kind in list(REQUESTS)[3:]}


@settings(max_examples=20, deadline=None)
@given(st.lists(described(LIVING), min_size=1, max_size=8))
def test_a_policy_sees_what_was_asked_and_keeps_it(made: list[tuple[type, dict[str, Any]]]) -> None:
    requests = [kind(**fields) for kind, fields in made]

    async def ask() -> list[p.PolicyAnswer]:
        async with await p.PolicyRunner.open(source=KEEPING, lint=False, time_budget=PLENTY) as runner:
            await runner.decide(requests[0])
            return [await runner.decide(request) for request in requests]

    for request, answer in zip(requests, asyncio.run(ask()), strict=True):
        assert answer.outcome == "decided", answer.detail
        seen, first, first_session = answer.decision.reason.split(",")
        assert seen == hash_of(request)
        assert first == hash_of(requests[0]) and first_session == hash_of(requests[0].session)


def test_parts_stay_when_their_request_is_gone() -> None:
    request = p.sample_request("admit")
    session, usage = request.session, request.usage
    assert request.session is session
    before = repr(session), repr(usage)
    del request
    assert (repr(session), repr(usage)) == before


NOW = datetime(2026, 3, 2, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("kind", "arguments", "error"),
    [
        (p.SessionDecision, {"action": 3}, "action must be str, not int"),
        (p.SessionDecision, {"reason": None}, "reason must be str, not NoneType"),
        (p.SessionDecision, {"reason": "\ud800"}, "reason must be str, not one with lone surrogates"),
        (
            p.SessionDecision,
            {"ask_again_after": "soon"},
            "ask_again_after must be float | None, not str".replace("|", r"\|"),
        ),
        (p.SessionDecision, {"because": "x"}, "no argument 'because'"),
        (p.SizeDecision, {"memory_bytes": 1.5}, "memory_bytes must be int"),
        (p.SizeDecision, {"memory_bytes": 2**70}, "memory_bytes must be int"),
        (p.PolicySession, {"id": "a", "user_id": "b"}, "needs the argument created_at"),
        (p.PolicySession, {"id": "a", "user_id": "b", "created_at": 1.0}, "created_at must be datetime"),
        (p.PolicySession, {"id": "a", "user_id": "b", "created_at": NOW, "tags": {"a": 1}}, "tags must be"),
        (p.SizeRequest, {"now": NOW, "session": "s"}, "session must be PolicySession, not str"),
        (p.PlaceRequest, {"now": NOW, "session": p.sample_request("idle").session, "candidates": ["a"]}, "candidates"),
        (p.AdmitRequest, {}, "needs the argument now"),
    ],
)
def test_what_a_constructor_refuses(kind: type, arguments: dict[str, Any], error: str) -> None:
    for make in (lambda: kind(**arguments), lambda: kind.__new__(kind, **arguments)):
        with pytest.raises(TypeError, match=rf"{kind.__name__}\(\).*{error}"):
            make()
    with pytest.raises(TypeError, match="by name"):
        kind("positional")
    with pytest.raises(TypeError, match="by name"):
        kind.__new__(kind, "positional")


@pytest.mark.parametrize("kind", list(VALUES))
def test_no_trick_makes_an_object_that_is_not_whole(kind: type) -> None:
    for trick in (lambda: object.__new__(kind), lambda: type("Sub", (kind,), {}), lambda: setattr(kind, "x", 1)):
        with pytest.raises(TypeError):
            trick()
    with pytest.raises(TypeError):
        hash(p.keep())
    decision = p.keep("as it is")
    decision.__init__(action="suspend")  # type: ignore[misc]
    assert decision == p.keep("as it is")
    with pytest.raises(TypeError):
        decision.__class__ = p.AdmitDecision  # type: ignore[assignment]
    for name in kind.__match_args__:  # type: ignore[attr-defined]
        assert inspect.isdatadescriptor(vars(kind)[name]) and vars(kind)[name].__doc__
    assert list(inspect.signature(kind).parameters.keys()) and isinstance(
        p.sample_request("idle").session.tags, Mapping
    )


def test_what_a_time_and_a_span_may_be() -> None:
    session = p.sample_request("idle").session
    with pytest.raises(ValueError, match="time zone"):
        p.SizeRequest(now=datetime(2026, 1, 1), session=session)
    with pytest.raises(ValueError, match="1700"):
        p.SizeRequest(now=datetime(1, 1, 1, tzinfo=timezone.utc), session=session)
    with pytest.raises(ValidationError, match="quiet_for"):
        p.IdleRequest(now=NOW, session=session, quiet_for=-1)
    assert (
        p.SessionDecision(action="keep", ask_again_after=timedelta(minutes=1).total_seconds()).ask_again_after == 60.0
    )
