"""Keys of users: what wraps the keys of their memory files, encrypted disks and snapshots."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from infrastructure_sdk._bridge import Timeout

if TYPE_CHECKING:
    from infrastructure_sdk.sdk import InfrastructureSDK

__all__ = ["KeyRing"]


class KeyRing:
    """The keys of users. A key itself is never shown: only its id and its age."""

    def __init__(self, sdk: InfrastructureSDK) -> None:
        self._sdk = sdk

    async def list(self) -> builtins.list[dict[str, Any]]:
        """Who has keys: ``{"user_id": ..., "keys": [{"id": ..., "created_at": ...}]}``, by user.

        The last of a user's keys is the one in use; more than one is a rotation that was not finished. The user ``""``
        is the installation's own, for warm units that nobody has yet.
        """
        found: builtins.list[dict[str, Any]] = await self._sdk._call(lambda native: native.list_keys)
        return found

    async def rotate(self, user_id: str, *, timeout: Timeout = "10m") -> dict[str, Any]:
        """Give a user a new key and wrap by it what the older ones wrapped; then those are forgotten.

        Encrypted disks get a new passphrase too, also while their virtual machines run. Cut off, it is finished by
        asking again.

        Returns
        -------
        dict
            ``user_id``, ``key`` (the new one's id), and how many ``vms``, ``disks`` and ``snapshots`` there were.

        Raises
        ------
        NotFoundError
            If the user has no key.
        """
        return dict(await self._sdk._call(lambda native: native.rotate_keys, user_id, timeout=timeout))

    async def erase(self, user_id: str, *, timeout: Timeout = "5m") -> None:
        """Forget all keys of a user: what they wrapped is lost for good, in every copy and backup of it.

        Raises
        ------
        NotFoundError
            If the user has no key.
        ConflictError
            If the user still has sessions; the message names them.
        """
        await self._sdk._call(lambda native: native.erase_keys, user_id, timeout=timeout)
