"""The process of a policy that is not trusted: lines of JSON in, lines of JSON out, and nothing else.

Run as a program, isolated from its environment, by the native core. It loads what policies may use, gives up what it
may do, and only then runs the policy's text.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import resource
import sys
import types
from typing import Any

SOCKET = 3
# Between quotes, and bounded, so that no text makes the search long.
ZONE_NAME = re.compile(r"""["']([A-Z][\w+-]{0,30}(?:/[\w+-]{1,30}){0,2})["']""", re.ASCII)
MOST_ZONE_NAMES = 200


class Lines:
    """Lines on the socket."""

    def __init__(self) -> None:
        self._rest = b""

    def read(self) -> str | None:
        """The next one; None at the end."""
        while b"\n" not in self._rest:
            more = os.read(SOCKET, 65536)
            if not more:
                return None
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def write(self, text: str) -> None:
        data = text.encode(errors="replace") + b"\n"
        while data:
            data = data[os.write(SOCKET, data) :]


def prepare_package() -> None:
    """The package without its own start, which loads what a policy has no use for."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    package = types.ModuleType("infrastructure_sdk")
    package.__path__ = [folder]
    sys.modules["infrastructure_sdk"] = package


def preload(source: str, allowed: frozenset[str]) -> list[object]:
    """What needs files later on: the modules for policies, and the time zones that the text names."""
    kept: list[object] = []
    for name in sorted(allowed):
        try:
            kept.append(importlib.import_module(name))
        except ImportError:
            continue
    from zoneinfo import ZoneInfo

    # Only searched: nothing reads the text of a stranger before the process has given up what it may do.
    names = {match.group(1) for match in ZONE_NAME.finditer(source)}
    for name in sorted(names, key=lambda name: ("/" not in name, name))[:MOST_ZONE_NAMES]:
        try:
            kept.append(ZoneInfo(name))
        except (KeyError, ValueError, OSError):
            continue
    return kept


def limit_memory(budget: int) -> list[str]:
    """At most so much beyond what is in use now, and no more descriptors. Returns what could not be had."""
    missing = []
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    for what, name, most in (
        (resource.RLIMIT_AS, "memory", used + budget),
        (resource.RLIMIT_NOFILE, "descriptors", 0),
    ):
        try:
            resource.setrlimit(what, (most, most))
        except (OSError, ValueError) as error:
            missing.append(f"{name}: {error}")
    return missing


def answer(definition: Any, question: dict[str, Any]) -> dict[str, Any]:
    """What the policy says to one question."""
    from infrastructure_sdk import _core
    from infrastructure_sdk.exceptions import InfrastructureSDKError
    from infrastructure_sdk.policy.loader import short_traceback

    try:
        request = _core.policy_request_from_json(question["request"])
        handler = definition.handlers[request.point]
        state = ""
        if definition.keeps_state:
            decision, state = handler(request, question["state"])
        else:
            decision = handler(request)
    except BaseException as error:
        return {"failed": short_traceback(error)}
    try:
        _core.check_decision(decision, request)
    except InfrastructureSDKError as error:
        return {"invalid": str(error)}
    return {"decision": json.loads(decision.to_json()), "state": state}


def main() -> None:
    """Serve until the other end closes."""
    lines = Lines()
    first = lines.read()
    if first is None:
        return
    setup = json.loads(first)
    prepare_package()
    from infrastructure_sdk import _core
    from infrastructure_sdk.policy.linter import ALLOWED_IMPORTS
    from infrastructure_sdk.policy.loader import dry_run, load_source, short_traceback

    kept = preload(setup["source"], ALLOWED_IMPORTS)
    gc.collect()
    try:
        missing = limit_memory(setup["memory_budget"])
        _core.enter_policy_sandbox(SOCKET)
    except Exception as error:
        lines.write(json.dumps({"unsupported": str(error)}))
        return
    try:
        definition = load_source(setup["source"], setup["origin"], lint=setup["lint"])
        dry_run(definition)
    except BaseException as error:
        lines.write(json.dumps({"error": short_traceback(error)}))
        return
    identity = definition.identity
    ready = {"name": identity.name, "version": identity.version, "author": identity.author}
    lines.write(json.dumps({**ready, "points": definition.points, "missing": missing}))
    while (line := lines.read()) is not None:
        question = json.loads(line)
        lines.write(json.dumps({"id": question["id"], **answer(definition, question)}))
    del kept


if __name__ == "__main__":
    main()
