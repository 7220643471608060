"""How a wrong argument is refused: the field, its value and what is allowed."""

from __future__ import annotations

from infrastructure_sdk.exceptions import ValidationError

__all__ = ["refused"]


def refused(field: str, value: object, allowed: str) -> ValidationError:
    """The error for an argument."""
    return ValidationError(
        f"{field}: {value!r:.200} is not allowed; {allowed}",
        context={"field": field, "value": f"{value!r:.200}", "allowed": allowed},
    )
