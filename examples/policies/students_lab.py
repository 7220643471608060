"""A students' lab: one small machine each, kept through the course's hours, cleared when it is old.

Who has a session gets no second one, graphics cards need the tag ``project=thesis``, and nobody gets more than the
lab's size. While the course is taught an idle session stays; after thirty days a quiet one is ended.
"""

from __future__ import annotations

from infrastructure_sdk.policy import (
    AdmitDecision,
    AdmitRequest,
    IdleRequest,
    ScheduleRequest,
    SessionDecision,
    SizeDecision,
    SizeRequest,
    admit,
    deny,
    is_between,
    keep,
    policy,
    resize,
    seconds_until,
    standard,
    suspend,
    terminate,
)

ZONE = "Europe/Berlin"
COURSE = ("10:00", "12:00", "tue,thu")
SESSIONS_EACH = 1
MOST_CPU_CORES = 2.0
MOST_MEMORY = 4 << 30  # bytes
OLD = 30 * 24 * 3600  # seconds since its creation


@policy("admit", name="students-lab", version="1", author="examples")
def one_each(request: AdmitRequest) -> AdmitDecision:
    if request.usage.sessions_of_user >= SESSIONS_EACH:
        return deny("you have a session already: resume it, or end it first")
    if request.session.gpu_count and request.session.tags.get("project") != "thesis":
        return deny("graphics cards are for theses: ask for one with the tag project=thesis")
    return admit()


@policy("size")
def small(request: SizeRequest) -> SizeDecision:
    session = request.session
    return resize(
        cpu_cores=min(session.cpu_cores, MOST_CPU_CORES),
        memory_bytes=min(session.memory_bytes, MOST_MEMORY),
        reason="the lab's size",
    )


@policy("idle")
def not_during_the_course(request: IdleRequest) -> SessionDecision:
    begin, end, days = COURSE
    if is_between(request, begin, end, zone=ZONE, days=days):
        return keep("the course is on", ask_again_after=seconds_until(request, end, zone=ZONE, days=days))
    return suspend("idle")


@policy("schedule")
def clear_up(request: ScheduleRequest) -> SessionDecision:
    age = (request.now - request.session.created_at).total_seconds()
    if age > OLD and request.quiet_for is not None and request.quiet_for > 3600:
        return terminate("older than thirty days and not in use")
    return standard(request)
