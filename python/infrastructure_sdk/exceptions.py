"""The exception tree. Everything that this package raises on its own account is an `InfrastructureSDKError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "AdmissionDeniedError",
    "AuthenticationError",
    "BudgetExceededError",
    "CancelledError",
    "CapacityError",
    "ConfigurationError",
    "ConflictError",
    "InfrastructureSDKError",
    "InvalidTransitionError",
    "IsolationError",
    "NotFoundError",
    "NotReadyError",
    "OperationTimeoutError",
    "PermissionDeniedError",
    "PolicyError",
    "ProviderError",
    "QuotaExceededError",
    "ResourceNotFoundError",
    "SessionCreationError",
    "StoreError",
    "UnsupportedError",
    "VMProvisioningError",
    "ValidationError",
    "from_code",
]


class InfrastructureSDKError(Exception):
    """Base of all errors.

    Parameters
    ----------
    message
        A sentence that says what to do.
    code
        Stable name of the error, the same in C++. Defaults to the class's own.
    retryable
        True when the same call may succeed later without a change by the caller.
    context
        More about it: ``field``, ``value`` (redacted), ``allowed``, ``session``, ``channel``, ...
    """

    default_code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool = False,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.retryable = retryable
        self.context: dict[str, Any] = dict(context or {})


class ConfigurationError(InfrastructureSDKError):
    """A configuration source is wrong; `problems` lists every fault."""

    default_code = "configuration"

    @property
    def problems(self) -> list[dict[str, str]]:
        """One dict a fault: path, value, allowed, origin, did_you_mean, message."""
        return list(self.context.get("problems", []))


class ValidationError(InfrastructureSDKError, ValueError):
    """An argument is wrong."""

    default_code = "validation"


class NotFoundError(InfrastructureSDKError, LookupError):
    """There is no such session, VM, template, image or file."""

    default_code = "not_found"


ResourceNotFoundError = NotFoundError


class ConflictError(InfrastructureSDKError):
    """A precondition (version, owner, uniqueness) does not hold."""

    default_code = "conflict"


class InvalidTransitionError(InfrastructureSDKError):
    """The verb is illegal in the present state."""

    default_code = "invalid_transition"


class AdmissionDeniedError(InfrastructureSDKError):
    """Refused by admission."""

    default_code = "admission_denied"


class QuotaExceededError(AdmissionDeniedError):
    """A limit of a user or tenant."""

    default_code = "quota_exceeded"


class BudgetExceededError(AdmissionDeniedError):
    """A money limit."""

    default_code = "budget_exceeded"


class CapacityError(AdmissionDeniedError):
    """The host or cluster is full."""

    default_code = "capacity"


class OperationTimeoutError(InfrastructureSDKError, TimeoutError):
    """A deadline passed."""

    default_code = "timeout"


class NotReadyError(InfrastructureSDKError):
    """A channel did not answer."""

    default_code = "not_ready"

    @property
    def channel(self) -> str | None:
        """The channel that did not answer."""
        return self.context.get("channel")


class ProviderError(InfrastructureSDKError):
    """The provider failed."""

    default_code = "provider"


class VMProvisioningError(ProviderError):
    """A VM could not be made or booted."""

    default_code = "vm_provisioning"


class SessionCreationError(InfrastructureSDKError):
    """A session could not be made."""

    default_code = "session_creation"


class UnsupportedError(InfrastructureSDKError):
    """The provider lacks a capability."""

    default_code = "unsupported"


class IsolationError(InfrastructureSDKError):
    """An isolation gate refused."""

    default_code = "isolation"


class PolicyError(InfrastructureSDKError):
    """A policy script failed."""

    default_code = "policy"


class AuthenticationError(InfrastructureSDKError):
    """Who is asking could not be established."""

    default_code = "authentication"


class PermissionDeniedError(InfrastructureSDKError):
    """Whoever asks may not."""

    default_code = "permission_denied"


class StoreError(InfrastructureSDKError):
    """The state or image directory could not be read or written."""

    default_code = "store"


class CancelledError(InfrastructureSDKError):
    """The operation was given up, e.g. because the SDK was closed."""

    default_code = "cancelled"


_BY_CODE: dict[str, type[InfrastructureSDKError]] = {
    kind.default_code: kind
    for kind in (
        ConfigurationError,
        ValidationError,
        NotFoundError,
        ConflictError,
        InvalidTransitionError,
        AdmissionDeniedError,
        QuotaExceededError,
        BudgetExceededError,
        CapacityError,
        OperationTimeoutError,
        NotReadyError,
        ProviderError,
        VMProvisioningError,
        SessionCreationError,
        UnsupportedError,
        IsolationError,
        PolicyError,
        AuthenticationError,
        PermissionDeniedError,
        StoreError,
        CancelledError,
        InfrastructureSDKError,
    )
}


def from_code(code: str, message: str, retryable: bool, context: Mapping[str, Any]) -> InfrastructureSDKError:
    """The exception for an error code of the native core."""
    kind = _BY_CODE.get(code, InfrastructureSDKError)
    return kind(message, code=code, retryable=retryable, context=context)
