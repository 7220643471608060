"""Answers at every point, so that the record covers each kind of request and decision."""

from infrastructure_sdk.policy import (
    AdmitDecision,
    AdmitRequest,
    BudgetRequest,
    IdleRequest,
    InterruptionRequest,
    IsolationRequest,
    PlaceDecision,
    PlaceRequest,
    ScheduleRequest,
    SessionDecision,
    SizeDecision,
    SizeRequest,
    admit,
    deny,
    disconnect,
    is_between,
    keep,
    place,
    policy,
    resize,
    seconds_until,
    standard,
    suspend,
    terminate,
)


@policy("admit", name="recorded", version="1", author="ops@example.org")
def limit(request: AdmitRequest) -> AdmitDecision:
    if request.usage.sessions_of_user >= 3:
        return deny(f"{request.session.user_id} has {request.usage.sessions_of_user} sessions: öne is enough")
    return admit()


@policy("place")
def cheapest(request: PlaceRequest) -> PlaceDecision:
    best = min(request.candidates, key=lambda candidate: (candidate.price_per_hour, candidate.name))
    return place(best.name, f"{best.price_per_hour:.3f} an hour")


@policy("size")
def halve(request: SizeRequest) -> SizeDecision:
    return resize(cpu_cores=request.session.cpu_cores / 2, memory_bytes=request.session.memory_bytes // 2)


@policy("idle")
def patient(request: IdleRequest) -> SessionDecision:
    if request.session.tags.get("project") == "thesis" and request.quiet_for < 3 * 3600:
        return keep("a thesis runs", ask_again_after=600.25)
    return suspend(f"quiet for {request.quiet_for / 60:.1f} min")


@policy("schedule")
def nights(request: ScheduleRequest) -> SessionDecision:
    if is_between(request, "08:00", "18:00", zone="UTC", days="mon-fri"):
        return standard(request)
    left = seconds_until(request, "08:00", zone="UTC", days="mon-fri")
    return suspend(f"starts again in {left:.6f} s")


@policy("budget")
def money(request: BudgetRequest) -> SessionDecision:
    if request.limit_of_user is not None and request.spent_by_user > request.limit_of_user:
        return terminate(f"{request.spent_by_user} of {request.limit_of_user} {request.currency}")
    return keep()


@policy("isolation")
def strict(request: IsolationRequest) -> SessionDecision:
    return disconnect(", ".join(request.failed_checks)) if request.score_lower < 50 else standard(request)


@policy("interruption")
def save(request: InterruptionRequest) -> SessionDecision:
    in_time = request.deadline is None or (request.deadline - request.now).total_seconds() > 30
    return suspend(request.kind) if in_time else terminate(request.kind)
