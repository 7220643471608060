"""What to make: the request for a session and what its VM gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infrastructure_sdk.exceptions import ValidationError

__all__ = ["ResourceSpec", "SessionRequest"]


@dataclass(frozen=True)
class ResourceSpec:
    """What a session's VM gets; what is None comes from the template. Kubernetes quantities: "2", "4Gi", "50Gi".

    Parameters
    ----------
    cpu, memory, disk_size
        Quantities.
    disk_iops
        Reads and writes of the disk a second, 1 to 10M.
    disk_bandwidth, network_bandwidth
        Bytes a second, 64Ki (network: 1Ki) to 1Ti. A request may ask for less than its template allows, not for more.
        What holds a limit on this host is in ``limits`` of the session's VM and of the capabilities.
    gpu_count
        0 to 64; None = none, or one when a type is named.
    gpu_type
        One of the ``gpus`` of the provider's capabilities; may be None when the host has one type only.
    network
        "none", "isolated", "internet" or "bridge:NAME", or a mapping of "mode" and "bridge"; None = the template's.
        What this host can give, and why not, is in ``networks`` of the provider's capabilities.
    """

    cpu: str | None = None
    memory: str | None = None
    disk_size: str | None = None
    disk_iops: str | None = None
    disk_bandwidth: str | None = None
    network_bandwidth: str | None = None
    gpu_count: int | None = None
    gpu_type: str | None = None
    network: str | Mapping[str, str] | None = None

    def to_document(self) -> dict[str, Any]:
        """What the core reads."""
        document = dict(vars(self))
        if isinstance(self.network, str):
            mode, _, bridge = self.network.partition(":")
            document["network"] = {"mode": mode, "bridge": bridge}
        return document


@dataclass(frozen=True)
class SessionRequest:
    """What to make.

    Parameters
    ----------
    user_id
        Who owns it, 1 to 128 printable characters.
    template
        What VM.
    session_type
        "desktop" or "shell".
    resources
        Above the template's.
    ttl
        Lifetime from creation, e.g. "2h"; None = ``session.default_ttl``.
    idle_timeout
        How long it may go without activity, e.g. "30m"; None = ``session.idle_timeout``, "0s" = for ever.
    disconnect_timeout
        How long it may go on after its last client left; None = ``session.disconnect_timeout``, "0s" = for ever.
    retention
        How long it is kept while suspended; None = ``session.retention``, "0s" = until its ttl.
    on_expiry
        What a clock does when it runs out, by its name: "disconnect", "suspend" or "terminate", e.g.
        ``{"ttl": "suspend"}``. What is absent comes from the configuration.
    tags
        Texts to find it by.
    snapshot
        Begin as this snapshot, with its template and resources: from its disk or, if it has memory, from the instant
        at which it was taken; None = from the template's image.
    tenant
        The group whose limits it counts for, 1 to 128 printable characters; "" = none.
    encryption
        What the user's key encrypts at rest: "memory" (its memory while it is suspended), "all" (its disk and snapshots
        too) or "off"; None = the template's. Less than the template's is refused.
    """

    user_id: str
    template: str = "linux-tiny"
    session_type: str = "desktop"
    resources: ResourceSpec = field(default_factory=ResourceSpec)
    ttl: str | None = None
    idle_timeout: str | None = None
    disconnect_timeout: str | None = None
    retention: str | None = None
    on_expiry: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    snapshot: str | None = None
    tenant: str = ""
    encryption: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The document that the native core takes."""
        return {
            "user_id": self.user_id,
            "tenant": self.tenant,
            "template": self.template,
            "session_type": self.session_type,
            "resources": self.resources.to_document(),
            "ttl": self.ttl,
            "idle_timeout": self.idle_timeout,
            "disconnect_timeout": self.disconnect_timeout,
            "retention": self.retention,
            "on_expiry": dict(self.on_expiry),
            "tags": dict(self.tags),
            "snapshot": self.snapshot,
            "encryption": self.encryption,
        }


def request_text(request: SessionRequest) -> str:
    """The request as the JSON that the core reads."""
    if not isinstance(request, SessionRequest):
        raise ValidationError("create: a SessionRequest is needed", context={"field": "request"})
    if not isinstance(request.resources, ResourceSpec):
        why = f"resources: {request.resources!r} is not allowed; a ResourceSpec"
        raise ValidationError(
            why, context={"field": "resources", "value": repr(request.resources), "allowed": "a ResourceSpec"}
        )
    try:
        return json.dumps(request.to_dict())
    except (TypeError, ValueError) as error:
        why = f"create: the request cannot be written as JSON: {error}"
        raise ValidationError(why, context={"field": "request", "value": repr(request)}) from error
