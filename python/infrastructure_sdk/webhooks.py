"""Webhooks: events over HTTP, signed, at least once each; and how a receiver checks them."""

from __future__ import annotations

import base64
import binascii
import builtins
import hmac
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infrastructure_sdk import _bridge
from infrastructure_sdk.exceptions import AuthenticationError, ValidationError

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK

__all__ = ["Webhooks", "verify_webhook"]

PREFIX = "whsec_"


class Webhooks:
    """Who is told of events (``session.webhooks_file``), and what became of each delivery.

    Deliveries are sent while the SDK is open; what is left then is sent when the state directory is opened next.
    """

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    async def list(self) -> list[Mapping[str, Any]]:
        """Each webhook: ``name``, ``url`` (without its query), ``events``, ``state`` (enabled or disabled), ``cursor``,
        the numbers ``pending``, ``delivered`` and ``dead``, and the outcome of its last attempt.
        """
        found: list[Mapping[str, Any]] = await self._sdk._call(lambda native: native.webhooks)
        return found

    async def deliveries(
        self, *, webhook: str | None = None, state: str | None = None, limit: int = 100
    ) -> builtins.list[Mapping[str, Any]]:
        """The newest deliveries first.

        Finished ones are kept, the newest thousand for each webhook.

        Parameters
        ----------
        webhook
            Only of this one.
        state
            Only ``pending``, ``delivered`` or ``dead`` ones.
        limit
            At most so many.

        Raises
        ------
        ValidationError
            If there is no such state.
        """
        found: builtins.list[Mapping[str, Any]] = await self._sdk._call(
            lambda native: native.webhook_deliveries, webhook, state, limit
        )
        return found

    async def redeliver(self, delivery_id: str) -> Mapping[str, Any]:
        """Begin again with the first attempt of a delivery, at once and under the same id.

        Raises
        ------
        NotFoundError
            If there is no such delivery, or its webhook is configured no more.
        """
        delivery: Mapping[str, Any] = await self._sdk._call(lambda native: native.webhook_redeliver, delivery_id)
        return delivery

    async def test(self, name: str, *, timeout: str | float | None = "1m") -> Mapping[str, Any]:
        """Send one event of type ``webhook.test``, once, and wait for its outcome.

        Success enables a webhook that was disabled (by the answer 410 Gone).

        Returns
        -------
        Mapping
            The delivery: its ``state`` is ``delivered``, or ``dead`` and then ``last_error`` says why.

        Raises
        ------
        NotFoundError
            If there is no such webhook.
        """
        delivery: Mapping[str, Any] = await self._sdk._call(lambda native: native.webhook_test, name, timeout=timeout)
        return delivery


def _key(secret: str) -> bytes:
    try:
        if not secret.startswith(PREFIX):
            raise ValueError
        key = base64.b64decode(secret[len(PREFIX) :], validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValidationError(
            "secret: it must be whsec_ and the base64 of 24 to 64 bytes",
            context={"field": "secret", "value": "***", "allowed": "whsec_ and the base64 of 24 to 64 bytes"},
        )
    return key


def verify_webhook(
    secret: str,
    headers: Mapping[str, str],
    body: bytes | str,
    *,
    tolerance: str | float = "5m",
    now: float | None = None,
) -> dict[str, Any]:
    """Check that a request to your server is a webhook of ours, and give its event.

    Needs nothing but the standard library and works for every sender after Standard Webhooks (symmetric, ``v1``). A
    delivery may come more than once: drop those whose ``id`` was seen before.

    Parameters
    ----------
    secret
        The webhook's, ``whsec_...``.
    headers
        Of the request; their case does not matter.
    body
        The bytes as they came: not parsed and written again.
    tolerance
        How old, or how far in the future, the attempt may be; a duration text or seconds.
    now
        Seconds since 1970; by default the system's clock.

    Returns
    -------
    dict
        ``id``, ``type``, ``version``, ``timestamp``, ``session_id``, ``execution_id``, ``sequence``, ``data``.

    Raises
    ------
    AuthenticationError
        If a header is missing, the signature is wrong, or the attempt is too old or from the future. Answer 401 then.
    ValidationError
        If the secret is not one, or what was signed is not a JSON object.

    Examples
    --------
    >>> headers = {
    ...     "Webhook-Id": "msg_1",
    ...     "Webhook-Timestamp": "1614265330",
    ...     "Webhook-Signature": "v1,pjOmLr2PbSM5yNkqpzvc8BGN3GYSgVxj9+mcEiENcEE=",
    ... }
    >>> secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    >>> verify_webhook(secret, headers, b'{"type": "webhook.test"}', now=1614265331)["type"]
    'webhook.test'
    """
    key = _key(secret)
    found = {name.lower(): value for name, value in headers.items()}
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        if not found.get(name):
            raise AuthenticationError(f"the header {name} is missing", context={"field": name})
    raw = body.encode() if isinstance(body, str) else bytes(body)
    stamp = found["webhook-timestamp"]
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise AuthenticationError(
            "webhook-timestamp is not a number of seconds", context={"field": "webhook-timestamp"}
        )
    content = f"{found['webhook-id']}.{stamp}.".encode() + raw
    expected = base64.b64encode(hmac.digest(key, content, "sha256"))
    good = False
    for signature in found["webhook-signature"].split(" "):
        version, _, value = signature.partition(",")
        same = hmac.compare_digest(value.encode(), expected)
        good = good or (version == "v1" and same)
    if not good:
        raise AuthenticationError("no signature is right", context={"field": "webhook-signature"})
    age = (time.time() if now is None else now) - int(stamp)
    if abs(age) > _bridge.seconds(tolerance):
        raise AuthenticationError(
            f"the attempt is {'too old' if age > 0 else 'from the future'}: {abs(age):.0f} s",
            context={"field": "webhook-timestamp"},
        )
    try:
        event = json.loads(raw)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise ValidationError("body: it is not a JSON object", context={"field": "body"})
    return event
