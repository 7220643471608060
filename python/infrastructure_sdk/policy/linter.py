"""Finds what a policy must not do: clocks, chance, I/O, imports, state outside the engine, threads, `eval`.

It reads the text only. It finds mistakes; it does not stop somebody who wants to hide something: for that there is the
separate process.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ALLOWED_IMPORTS", "Finding", "lint_file", "lint_source"]

ALLOWED_IMPORTS = frozenset(
    """__future__ abc bisect calendar cmath collections dataclasses datetime decimal enum fnmatch fractions functools
    heapq ipaddress itertools json math numbers operator re statistics string textwrap typing typing_extensions
    unicodedata zoneinfo""".split()
)

NOW = "request.now"
_CLOCK, _CHANCE, _IO, _THREADS = "clock", "random", "io", "threads"
# Modules that have a better answer than "not in the list".
_IMPORTS: dict[str, tuple[str, str]] = {
    "time": (_CLOCK, NOW),
    "random": (_CHANCE, "a digest of request.session.id"),
    "secrets": (_CHANCE, "a digest of request.session.id"),
    "uuid": (_CHANCE, "request.session.id"),
    **dict.fromkeys(
        ("os", "io", "pathlib", "shutil", "tempfile", "glob", "sqlite3", "logging", "sys"),
        (_IO, "what the request says; settings belong into the policy's file"),
    ),
    **dict.fromkeys(
        ("socket", "ssl", "http", "urllib", "requests", "httpx", "subprocess", "select", "signal"),
        (_IO, "what the request says; talk to other systems in sdk.automation"),
    ),
    **dict.fromkeys(
        ("threading", "multiprocessing", "concurrent", "asyncio", "queue", "sched", "contextvars"),
        (_THREADS, "a plain function: the engine asks one question at a time"),
    ),
    **dict.fromkeys(("ctypes", "gc", "inspect", "importlib", "builtins", "pickle", "marshal"), ("escape", "nothing")),
}
_CLOCK_CALLS = {"now", "utcnow", "today"}
_CALLS: dict[str, tuple[str, str]] = {
    "open": (_IO, "what the request says"),
    "input": (_IO, "what the request says"),
    "print": (_IO, "the decision's reason"),
    "breakpoint": (_IO, "sample_request and a test"),
    "eval": ("eval", "plain code"),
    "exec": ("eval", "plain code"),
    "compile": ("eval", "plain code"),
    "__import__": ("eval", "an import at the top of the file"),
    "globals": ("escape", "names"),
    "vars": ("escape", "names"),
    "hash": (_CHANCE, "a value itself: hash() of text differs from process to process"),
    "id": (_CHANCE, "a value itself: id() differs from process to process"),
}
_CHANGES = frozenset(
    """append extend insert add update setdefault pop popitem remove discard clear sort reverse appendleft popleft
    __setitem__ __delitem__""".split()
)
_HARMLESS_DUNDERS = frozenset("__name__ __doc__ __init__ __eq__ __post_init__ __match_args__".split())


@dataclass(frozen=True)
class Finding:
    """One place in a policy.

    Attributes
    ----------
    rule
        clock, random, io, import, state, threads, eval, escape, loop, order or syntax.
    severity
        error: a policy with it is not loaded; warning: look at it.
    message
        What and why.
    instead
        What to use instead.
    """

    line: int
    column: int
    rule: str
    severity: str
    message: str
    instead: str


def lint_file(path: str | os.PathLike[str]) -> list[Finding]:
    """The findings in a file, by line.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    return lint_source(Path(path).read_text(encoding="utf-8"))


def lint_source(source: str) -> list[Finding]:
    """The findings in a text, by line; a text that is no Python has one, of the rule ``syntax``.

    Examples
    --------
    >>> from infrastructure_sdk.policy import lint_source
    >>> [finding.rule for finding in lint_source("import time")]
    ['clock']
    """
    try:
        tree = ast.parse(source)
        linter = _Linter(_module_names(tree))
        linter.visit(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        return [Finding(line, 0, "syntax", "error", f"it is no Python: {error}", "a text that compiles")]
    return sorted(linter.findings, key=lambda finding: (finding.line, finding.column, finding.rule))


def _module_names(tree: ast.Module) -> frozenset[str]:
    """Names that the module itself assigns."""
    found: set[str] = set()
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        found.update(target.id for target in targets if isinstance(target, ast.Name))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
    return frozenset(found)


def _local_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Arguments and what is assigned inside: these hide a name of the module."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
    found = {argument.arg for argument in named}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def _root(node: ast.expr) -> str | None:
    """The name that a chain of attributes and items begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _is_mutable(node: ast.expr) -> bool:
    if isinstance(node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    return isinstance(node, ast.Call) and _root(node.func) in {"list", "dict", "set", "defaultdict", "deque", "Counter"}


class _Linter(ast.NodeVisitor):
    def __init__(self, module_names: frozenset[str]) -> None:
        self.findings: list[Finding] = []
        self._module_names = module_names
        self._outer: list[set[str]] = []  # local names of the functions around
        self._function: list[str] = []

    def _add(self, node: ast.AST, rule: str, message: str, instead: str, severity: str = "error") -> None:
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        self.findings.append(Finding(line, column, rule, severity, message, instead))

    # Imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check_import(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level:
            self._add(node, "import", "a policy is one file: it has no neighbours", "code in the file itself")
        else:
            self._check_import(node, node.module or "")

    def _check_import(self, node: ast.AST, module: str) -> None:
        top = module.partition(".")[0]
        if top in ALLOWED_IMPORTS or module == "infrastructure_sdk.policy":
            return
        if top == "infrastructure_sdk":
            self._add(node, "import", f"{module} acts; a policy only decides", "infrastructure_sdk.policy")
            return
        rule, instead = _IMPORTS.get(top, ("import", f"one of {', '.join(sorted(ALLOWED_IMPORTS))}"))
        why = {
            _CLOCK: "a replay has another time",
            _CHANCE: "the same request must have the same answer",
            _IO: "a policy does no I/O",
            _THREADS: "a policy starts and awaits nothing",
            "escape": "it reaches into the interpreter",
        }.get(rule, "it is not among the modules for policies")
        self._add(node, rule, f"import of {module}: {why}", instead)

    # Calls and attributes

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Name) and function.id in _CALLS:
            rule, instead = _CALLS[function.id]
            severity = "warning" if function.id == "print" else "error"
            self._add(node, rule, f"{function.id}() is not for policies", instead, severity)
        if isinstance(function, ast.Attribute):
            if function.attr in _CLOCK_CALLS:  # whatever the class is called here
                self._add(node, _CLOCK, f"{ast.unparse(function)}() reads the clock: a replay has another time", NOW)
            if function.attr in _CHANGES and self._is_shared(function.value):
                self._shared(node, function.value)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = node.attr
        if name.startswith("__") and name.endswith("__") and name not in _HARMLESS_DUNDERS:
            self._add(node, "escape", f"{name} reaches into the interpreter", "plain attributes")
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._check_store(node)
        self.generic_visit(node)

    # State

    def visit_Global(self, node: ast.Global) -> None:
        self._add(
            node,
            "state",
            f"global {', '.join(node.names)}: sessions would influence each other",
            "a Policy class with its `state`",
        )

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del) and self._is_shared(node.value):
            self._shared(node, node.value)
        self.generic_visit(node)

    def _is_shared(self, node: ast.expr) -> bool:
        """Whether it is, inside a function, something of the module or of `self`."""
        name = _root(node)
        if not self._outer or name is None:
            return False
        if name in ("self", "cls"):
            return isinstance(node, ast.Attribute | ast.Subscript) and self._function[-1] != "__init__"
        return name in self._module_names and not any(name in names for names in self._outer)

    def _shared(self, node: ast.AST, what: ast.expr) -> None:
        text = ast.unparse(what)
        self._add(
            node,
            "state",
            f"{text} outlives the call: sessions would influence each other",
            "a Policy class with its `state`",
        )

    def _check_store(self, node: ast.Attribute) -> None:
        name = _root(node)
        if not self._outer or name is None:
            return
        if name in ("self", "cls"):
            if self._function[-1] != "__init__":
                self._shared(node, node)
        elif name in self._module_names and not any(name in names for names in self._outer):
            self._shared(node, node)
        elif name == "request":
            self._add(node, "state", "a request cannot be changed", "a decision")

    # Functions and loops

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None and _is_mutable(default):
                self._add(default, "state", "a default that can be changed outlives the call", "None")
        self._outer.append(_local_names(node))
        self._function.append(node.name)
        self.generic_visit(node)
        self._function.pop()
        self._outer.pop()

    visit_FunctionDef = _visit_function

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._add(node, _THREADS, f"{node.name} is async: a policy awaits nothing", "a plain function")
        self._visit_function(node)

    def visit_While(self, node: ast.While) -> None:
        endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        leaves = any(isinstance(inner, ast.Break | ast.Return | ast.Raise) for inner in ast.walk(node))
        if endless and not leaves:
            self._add(node, "loop", "this loop never ends", "a bounded for loop")
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        for what in self._unordered(node.iter):
            self._add(what, "order", "a set has another order in another process", "sorted(...)", "warning")
        self.generic_visit(node)

    @staticmethod
    def _unordered(node: ast.expr) -> Iterator[ast.expr]:
        is_set = isinstance(node, ast.Set | ast.SetComp)
        if is_set or (isinstance(node, ast.Call) and _root(node.func) in {"set", "frozenset"}):
            yield node
