"""The `infra-sdk` command."""

from infrastructure_sdk.cli.app import app, main

__all__ = ["app", "main"]
