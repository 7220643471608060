"""A budget guard: as the month's money runs low, first what nobody uses goes to sleep, then everything that may.

Looks at the tighter of the user's and the tenant's limit. From 80 % on, sessions without activity for ten minutes are
suspended; from 100 % on, all but those with the tag ``budget=essential``. Nothing is ever ended: what sleeps costs
nothing and can be resumed next month.
"""

from __future__ import annotations

from infrastructure_sdk.policy import BudgetRequest, SessionDecision, keep, policy, standard, suspend

CAREFUL, SPENT = 0.8, 1.0
QUIET = 10 * 60  # seconds


def share_spent(request: BudgetRequest) -> float:
    """Of the tighter limit; 0 without one."""
    shares = [
        spent / limit if limit else 1.0
        for spent, limit in (
            (request.spent_by_user, request.limit_of_user),
            (request.spent_by_tenant, request.limit_of_tenant),
        )
        if limit is not None
    ]
    return max(shares, default=0.0)


@policy("budget", name="budget-guard", version="1", author="examples")
def guard(request: BudgetRequest) -> SessionDecision:
    share = share_spent(request)
    if share < CAREFUL:
        return standard(request)
    told = f"{share:.0%} of the month's budget is spent"
    if request.session.tags.get("budget") == "essential":
        return keep(f"essential, although {told}", ask_again_after=3600)
    if share >= SPENT:
        return suspend(told)
    last = request.session.last_activity_at
    if last is not None and (request.now - last).total_seconds() >= QUIET:
        return suspend(f"{told} and it is not in use")
    return standard(request)
