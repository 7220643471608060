"""The checked-in stub of the native module says what the module is."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import infrastructure_sdk
from infrastructure_sdk import _core

PACKAGE = Path(infrastructure_sdk.__file__).parent
STUB = PACKAGE / "_core.pyi"

# pybind11's own: its metaclass, and the constructor of a class that has none.
ALLOWED = r"""
infrastructure_sdk\._core\.(CompletionQueue|Config|Runtime|Sdk|SimulationResult|Workload|Policy\w+|\w+Request|\w+Decision|PlaceCandidate)
infrastructure_sdk\._core\.(PolicyHost|Sdk|SimulationResult|Workload)\.__init__
"""

# How pybind11 writes what it takes, and how the stub does.
SPELLINGS = {
    "infrastructure_sdk._core.": "",
    "collections.abc.": "",
    "typing.SupportsFloat | typing.SupportsIndex": "float",
    "typing.SupportsInt | typing.SupportsIndex": "int",
}
REFINED = {"object", "list", "dict"}  # results that C++ does not name more closely


def functions() -> Iterator[tuple[str, ast.FunctionDef, Callable[..., Any]]]:
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node, getattr(_core, node.name)
        if isinstance(node, ast.ClassDef):
            kind = getattr(_core, node.name)
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and has_signature(vars(kind).get(member.name)):
                    yield f"{node.name}.{member.name}", member, getattr(kind, member.name)


def has_signature(native: object) -> bool:
    """In its docstring. What Python's own interface makes has none there: stubtest compares that."""
    return not inspect.isdatadescriptor(native) and not isinstance(native, types.WrapperDescriptorType)


def shape(node: ast.FunctionDef) -> tuple[list[tuple[str, str]], list[str]]:
    arguments = [*node.args.posonlyargs, *node.args.args]
    named = [(a.arg, ast.unparse(a.annotation) if a.annotation else "") for a in arguments if a.arg != "self"]
    return named, [ast.unparse(default) for default in node.args.defaults]


def signature_of(function: Callable[..., Any]) -> ast.FunctionDef:
    """What pybind11 wrote into the docstring."""
    line = (inspect.getdoc(function) or "").splitlines()[0]
    for theirs, ours in SPELLINGS.items():
        line = line.replace(theirs, ours)
    (node,) = ast.parse(f"def {line}: ...").body
    assert isinstance(node, ast.FunctionDef)
    return node


def test_stubtest_finds_no_difference(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(ALLOWED)
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = true\n")
    options = ["--allowlist", str(allowed), "--mypy-config-file", str(settings)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "infrastructure_sdk._core", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(PACKAGE.parent), "MYPY_CACHE_DIR": str(tmp_path / "cache"), "NO_COLOR": "1"},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "stub", "native"), [pytest.param(*found, id=found[0]) for found in functions()])
def test_a_signature_is_the_native_one(name: str, stub: ast.FunctionDef, native: Callable[..., Any]) -> None:
    theirs = signature_of(native)
    assert shape(stub) == shape(theirs)
    result = ast.unparse(theirs.returns) if theirs.returns else ""
    assert stub.returns is not None
    assert ast.unparse(stub.returns) == result or result in REFINED


def test_every_native_name_is_in_the_stub() -> None:
    described = {name for name, _, _ in functions()}
    for name, value in vars(_core).items():
        if inspect.isclass(value):
            described.add(name)
            methods = {m for m, v in vars(value).items() if not m.startswith("_") and not inspect.isdatadescriptor(v)}
            assert {f"{name}.{method}" for method in methods} <= described
        elif callable(value) and not name.startswith("_"):
            assert name in described


def test_the_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert STUB.is_file()
