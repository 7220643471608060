"""Runs simulations, on the caller's thread or beside an event loop."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from infrastructure_sdk import _core
from infrastructure_sdk.exceptions import ValidationError
from infrastructure_sdk.simulation.policies import PolicyInput, TriedPolicy, as_policy
from infrastructure_sdk.simulation.results import Comparison, Result
from infrastructure_sdk.simulation.workloads import WorkloadInput, as_workload, checked_seed

__all__ = ["compare", "replay", "run"]

Progress = Callable[[float], Any]


def run(
    policy: PolicyInput,
    workload: WorkloadInput,
    *,
    seed: int = 1,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Run the engine over a workload under a policy. Blocks, without Python's lock.

    Parameters
    ----------
    policy
        None or "builtin" for the engine's own rules (suspended after 30 minutes without use), settings such as
        ``{"idle_timeout": "10m"}``, a decorated function, a `Policy` class, or a file.
    workload
        A `Fleet`, a `Workload`, a file of a trace or an event log, or events.
    seed
        Of the fleet, the ids and the provider's slow moments. The same seed gives the same bytes.
    options
        ``came_back_within`` (a session that is wanted again so soon was wrongly suspended; "15m"), ``retry_after``
        (who was denied; "10m"), ``boot_time``, ``start_time``, ``suspend_time``, ``resume_time``, ``slow_share``,
        ``concurrent_boots``, ``currency``, ``templates`` (template documents), ``default_template``.
    progress
        Called with the share that is done, some hundred times; an exception of it stops the run.

    Raises
    ------
    ValidationError
        Naming the field, the value and what is allowed.
    """
    return _run(as_policy(policy), workload, checked_seed(seed), options, progress, threading.Event())


async def replay(
    policy: PolicyInput,
    workload: WorkloadInput,
    *,
    seed: int = 1,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Result:
    """The same as `run`, on a thread of its own. `progress` is called there. A cancelled call stops the run."""
    tried = as_policy(policy)
    stop = threading.Event()
    work = asyncio.get_running_loop().run_in_executor(
        None, _run, tried, workload, checked_seed(seed), options, progress, stop
    )
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([work])
        # Nobody else will look at how it ended.
        work.exception()
        raise


def _run(
    policy: TriedPolicy,
    workload: WorkloadInput,
    seed: int,
    options: Mapping[str, Any] | None,
    progress: Progress | None,
    stop: threading.Event,
) -> Result:
    def tell(done: float) -> bool:
        if progress is not None:
            progress(done)
        return not stop.is_set()

    planned = as_workload(workload, seed)
    document = json.dumps(dict(options or {}), default=str)
    return Result(_core.run_simulation(planned._native, policy.document, policy.texts, document, seed, tell))


def compare(before: Result, after: Result) -> Comparison:
    """What differs between two results of the same workload, session by session.

    Raises
    ------
    ValidationError
        When they are not of the same workload.
    """
    for name, value in (("before", before), ("after", after)):
        if not isinstance(value, Result):
            raise ValidationError(
                f"{name}: {type(value).__name__} is not allowed; a Result is needed", context={"field": name}
            )
    return Comparison(before, after, json.loads(_core.compare_simulations(before._native, after._native)))
