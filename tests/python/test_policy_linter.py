"""The linter finds what a policy must not do, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infrastructure_sdk.cli import app
from infrastructure_sdk.policy import lint_source
from infrastructure_sdk.policy.linter import ALLOWED_IMPORTS

HEAD = "from infrastructure_sdk.policy import *\nTABLE = {}\nLIST = []\n\n"


def rules(body: str) -> list[str]:
    return [finding.rule for finding in lint_source(HEAD + body)]


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("import time", "clock"),
        ("import random", "random"),
        ("from secrets import token_hex", "random"),
        ("import os.path", "io"),
        ("import socket", "io"),
        ("import threading", "threads"),
        ("import ctypes", "escape"),
        ("import numpy", "import"),
        ("from . import other", "import"),
        ("import infrastructure_sdk", "import"),
        ("from infrastructure_sdk.sdk import InfrastructureSDK", "import"),
        ("import datetime\nx = datetime.datetime.now()", "clock"),
        ("from datetime import date\nx = date.today()", "clock"),
        ("import datetime as dt\nx = dt.datetime.now()", "clock"),
        ("from datetime import datetime as d\nx = d.utcnow()", "clock"),
        ("x = " + "-" * 2500 + "1", "syntax"),
        ("open('x')", "io"),
        ("print('x')", "io"),
        ("eval('1')", "eval"),
        ("__import__('os')", "eval"),
        ("x = hash('a') % 2", "random"),
        ("x = ().__class__", "escape"),
        ("def f(request):\n    global TABLE", "state"),
        ("def f(request):\n    TABLE['a'] = 1", "state"),
        ("def f(request):\n    LIST.append(1)", "state"),
        ("def f(request):\n    f.calls = 1", "state"),
        ("def f(request, seen=[]):\n    pass", "state"),
        ("def f(request):\n    request.quiet_for = 1", "state"),
        ("class A(Policy):\n    def idle(self, request, state):\n        self.seen = 1", "state"),
        ("class A(Policy):\n    def idle(self, request, state):\n        self.seen['a'] = 1", "state"),
        ("async def f(request):\n    pass", "threads"),
        ("while True:\n    pass", "loop"),
        ("for x in {1, 2}:\n    pass", "order"),
        ("def f(:", "syntax"),
        ("x = '\\0' + '\0'", "syntax"),
    ],
)
def test_a_breach_is_found(body: str, rule: str) -> None:
    assert rules(body) == [rule]


@pytest.mark.parametrize(
    "body",
    [
        "import math, json\nfrom datetime import timedelta\nfrom collections.abc import Mapping",
        "def f(request):\n    table = {}\n    table['a'] = 1\n    table.update(b=2)\n    return table",
        "def f(request, LIST):\n    LIST.append(1)",
        "TABLE['a'] = 1\nLIST.append(1)",
        "class A(Policy):\n    def __init__(self):\n        self.limit = 3\n    def idle(self, request, state):\n"
        "        state['n'] = 1\n        return keep()",
        "while True:\n    break",
        "for x in sorted({1, 2}):\n    pass",
        "x = request = None\nnow = x",
        "def f(request):\n    return request.now.date()",
    ],
)
def test_good_code_is_left_alone(body: str) -> None:
    assert rules(body) == []


def test_a_finding_says_where_why_and_what_instead() -> None:
    (finding,) = lint_source("\nimport time\n")
    assert (finding.line, finding.severity) == (2, "error")
    assert "replay" in finding.message and finding.instead == "request.now"


def test_every_allowed_module_is_allowed() -> None:
    assert lint_source("\n".join(f"import {name}" for name in ALLOWED_IMPORTS if name != "__future__")) == []


def test_the_command_prints_findings_and_fails(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.py", tmp_path / "good.py"
    bad.write_text("import time\nprint(1)\n")
    good.write_text("import math\nprint(1)\n")

    def lint(*words: str) -> Any:
        return CliRunner().invoke(app, ["policy", "lint", *words])

    done = lint(str(bad), "-o", "json")
    assert done.exit_code == 1
    assert [(item["line"], item["rule"]) for item in json.loads(done.stdout)] == [(1, "clock"), (2, "io")]
    done = lint(str(good))
    assert done.exit_code == 0 and "print" in done.stdout
    assert lint(str(tmp_path / "none.py")).exit_code == 3
