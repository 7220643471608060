"""Try a policy before it touches anyone: the session engine on a virtual clock. No SDK needs to be open.

The same code as in production runs over a made-up fleet, a trace or a recorded event log. The same input and seed give
the same bytes.

>>> from infrastructure_sdk import simulation
>>> patient = simulation.run({"name": "patient", "idle_timeout": "2h"}, simulation.Fleet(users=3, days=2), seed=7)
>>> strict = simulation.run({"name": "strict", "idle_timeout": "10m"}, simulation.Fleet(users=3, days=2), seed=7)
>>> strict.hours_run < patient.hours_run
True
"""

from infrastructure_sdk.simulation.policies import PolicyInput
from infrastructure_sdk.simulation.results import Comparison, Decision, Outcome, PlannedSession, Result, Waits
from infrastructure_sdk.simulation.running import compare, replay, run
from infrastructure_sdk.simulation.workloads import Fleet, Workload, WorkloadInput

__all__ = [
    "Comparison",
    "Decision",
    "Fleet",
    "Outcome",
    "PlannedSession",
    "PolicyInput",
    "Result",
    "Waits",
    "Workload",
    "WorkloadInput",
    "compare",
    "replay",
    "run",
]
