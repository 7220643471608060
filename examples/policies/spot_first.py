"""Spot first: on the cheapest spot capacity where it may be, and asleep before that is taken away.

A session with the tag ``spot=never`` or with a graphics card goes to lasting capacity. When spot capacity is taken back
the session is suspended at once: its memory is saved and it can be resumed elsewhere.
"""

from __future__ import annotations

from infrastructure_sdk.policy import (
    InterruptionRequest,
    PlaceDecision,
    PlaceRequest,
    SessionDecision,
    place,
    policy,
    standard,
    suspend,
)

TAKEN_BACK = ("spot", "maintenance")


@policy("place", name="spot-first", version="1", author="examples")
def cheapest(request: PlaceRequest) -> PlaceDecision:
    may_move = request.session.tags.get("spot") != "never" and request.session.gpu_count == 0
    fitting = [candidate for candidate in request.candidates if candidate.spot == may_move]
    if not fitting:
        return standard(request)
    # By name where the price is the same, so that the answer is always the same.
    chosen = min(fitting, key=lambda candidate: (candidate.price_per_hour, candidate.name))
    return place(chosen.name, "the cheapest spot capacity" if may_move else "the cheapest lasting capacity")


@policy("interruption")
def save_in_time(request: InterruptionRequest) -> SessionDecision:
    if request.kind not in TAKEN_BACK:
        return standard(request)
    if request.deadline is None:
        return suspend(f"{request.kind}: it will be taken back")
    left = (request.deadline - request.now).total_seconds()
    return suspend(f"{request.kind}: taken back in {max(left, 0):.0f} s")
