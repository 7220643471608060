"""Pictures for notebooks. They need nothing beyond this package; the live table is alive with the extra ``widget``."""

from infrastructure_sdk.notebook.fleet import FleetTimeline
from infrastructure_sdk.notebook.idle import IdleExplorer
from infrastructure_sdk.notebook.incident import Incident, replay
from infrastructure_sdk.notebook.live import LiveSessions
from infrastructure_sdk.notebook.recording import read_events, record, write_events
from infrastructure_sdk.notebook.timeline import Timeline

__all__ = [
    "FleetTimeline",
    "IdleExplorer",
    "Incident",
    "LiveSessions",
    "Timeline",
    "read_events",
    "record",
    "replay",
    "write_events",
]
