"""Pictures for notebooks. They need nothing beyond this package."""

from infrastructure_sdk.notebook.timeline import Timeline

__all__ = ["Timeline"]
