"""GPU fairness: plenty for everybody while cards are free, one each when they are scarce, none for those who sleep.

At night and on weekends a user may hold as many as are left. A session with cards that was quiet for twenty minutes in
working hours is suspended, so that somebody else gets them; one without cards is left to the engine.
"""

from __future__ import annotations

from infrastructure_sdk.policy import (
    AdmitDecision,
    AdmitRequest,
    IdleRequest,
    ScheduleRequest,
    SessionDecision,
    admit,
    deny,
    is_between,
    policy,
    standard,
    suspend,
)

CARDS = 8  # that there are
PLENTY = 4  # what one user may hold while more than a quarter is free
SCARCE = 1
ZONE, OPENS, CLOSES, DAYS = "Europe/Berlin", "08:00", "20:00", "mon-fri"
QUIET = 20 * 60  # seconds


def is_busy_time(request: AdmitRequest | ScheduleRequest) -> bool:
    return is_between(request, OPENS, CLOSES, zone=ZONE, days=DAYS)


@policy("admit", name="gpu-fairness", version="1", author="examples")
def fair_share(request: AdmitRequest) -> AdmitDecision:
    wanted, usage = request.session.gpu_count, request.usage
    if wanted == 0 or not is_busy_time(request):
        return admit()
    share = PLENTY if usage.gpus + wanted <= CARDS * 3 // 4 else SCARCE
    if usage.gpus_of_user + wanted > share:
        have = f"you hold {usage.gpus_of_user}, ask for {wanted}"
        return deny(f"{CARDS - usage.gpus} of {CARDS} cards are free: {share} for each user now; {have}")
    return admit()


@policy("idle")
def give_back(request: IdleRequest) -> SessionDecision:
    return suspend("idle with a card") if request.session.gpu_count else standard(request)


@policy("schedule")
def give_back_sooner(request: ScheduleRequest) -> SessionDecision:
    quiet = request.quiet_for is not None and request.quiet_for >= QUIET
    if request.session.gpu_count and quiet and is_busy_time(request):
        return suspend("its cards were not used for twenty minutes")
    return standard(request)
