"""The examples and the notebook run as they are, and leave nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from processes import end_processes_in, processes_in

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where an example makes its temporary directories. It must be empty at the end."""
    with tempfile.TemporaryDirectory(prefix="isdk-examples-") as place:
        yield Path(place)
        end_processes_in(Path(place))


@pytest.fixture
def environment(scratch: Path, image_dir: Path, tmp_path: Path) -> dict[str, str]:
    """Nothing is read from or written to the user's home."""
    return {
        **os.environ,
        "INFRA_SDK_VM__IMAGE_DIRECTORY": str(image_dir),
        "TMPDIR": str(scratch),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "jupyter"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def nothing_is_left(scratch: Path) -> bool:
    return not processes_in(scratch) and not list(scratch.iterdir())


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert outputs(notebook) == []
    assert all(cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.fixture
def executed(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[list[Any], str]]:
    """Runs a notebook; gives the data that it shows and what it prints."""
    shutil.copytree(EXAMPLES / "notebooks" / "recordings", tmp_path / "recordings")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))

    def execute(name: str) -> tuple[list[Any], str]:
        notebook = nbformat.read(EXAMPLES / "notebooks" / name, as_version=4)
        client = NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute(env=environment)
        found = outputs(notebook)
        assert [output for output in found if output.output_type == "error" or output.get("name") == "stderr"] == []
        printed = "".join(output.text for output in found if output.output_type == "stream")
        return [output.data for output in found if "data" in output], printed

    return execute


def test_the_notebook_of_the_fleet_draws_its_sessions(executed: Callable[[str], tuple[list[Any], str]]) -> None:
    data, printed = executed("02_fleet_and_timelines.ipynb")
    fleet, one = [item["image/svg+xml"] for item in data if "image/svg+xml" in item]
    for user in ("ada", "ben", "cleo", "dora", "emil"):
        assert f"{user} · s-" in fleet
    assert "not in use" in fleet and "failed" in fleet
    assert "idle: warned" in one and "resuming" in one
    (table,) = [item["text/markdown"] for item in data if "text/markdown" in item]
    assert table.count("\n| s-") == 5
    assert "s of machines" in printed and "ProcessKilled" in printed


def test_the_notebook_of_two_policies_draws_their_difference(executed: Callable[[str], tuple[list[Any], str]]) -> None:
    data, printed = executed("04_policy_diff.ipynb")
    log, fleet = [item["text/html"] for item in data if "<svg" in item.get("text/html", "")]
    assert "Running sessions under strict and patient" in log and "half an hour and two hours" in fleet
    assert [item["text/plain"] for item in data if item["text/plain"] in ("True", "False")] == ["True"]
    assert "ben   ran" in printed and "wrongly suspended, p95 of waits" in printed


def test_the_notebook_of_an_incident_ends_with_a_test_that_passes(
    executed: Callable[[str], tuple[list[Any], str]],
) -> None:
    data, printed = executed("05_incident_to_test.ipynb")
    assert any("image/svg+xml" in item for item in data)
    lines = printed.splitlines()
    assert "was suspended (idle)" in lines[0] and lines[1] == "the replay does the same: True"
    assert [line.split(" in ")[0] for line in lines if "failed" in line or "passed" in line] == ["1 failed", "1 passed"]
    assert "assert session.outcome.wrongly_suspended == 0" in printed


@pytest.mark.integration
def test_the_notebook_of_idleness_shows_why(executed: Callable[[str], tuple[list[Any], str]], scratch: Path) -> None:
    data, printed = executed("03_idle_explorer.ipynb")
    pages = [item["text/html"] for item in data if "text/html" in item]
    assert any("ran without use" in page and "at least" in page for page in pages)
    assert any("alice" in page and "last event" in page for page in pages), "the live table has its static form"
    assert any("It is in use" in page and "hold" in page for page in pages)
    assert any("reason: idle" in page and "With idle_timeout 2s" in page for page in pages)
    (picture,) = [item["image/svg+xml"] for item in data if "image/svg+xml" in item]
    assert "suspended" in picture and "idle: warned" in picture
    assert "session.idle.armed" in printed and printed.rstrip().endswith("terminated")
    assert nothing_is_left(scratch)


@pytest.mark.integration
def test_the_first_notebook_shows_what_it_promises(
    executed: Callable[[str], tuple[list[Any], str]], scratch: Path
) -> None:
    data, printed = executed("01_first_session.ipynb")
    (picture,) = [item["image/png"] for item in data if "image/png" in item]
    assert picture.startswith("iVBORw0KGgo")
    pages = [item["text/html"] for item in data if "text/html" in item]
    assert any("alice" in page and "active" in page for page in pages)
    assert any("CMP-01" in page and "<details>" in page for page in pages)
    (table,) = [item["text/markdown"] for item in data if "text/markdown" in item]
    for event in ("created", "ready", "suspended", "resumed"):
        assert f"`session.lifecycle.{event}`" in table
    for line in ("Linux ", "suspended\nactive\nwritten before", "terminated (request), virtual machines left: 0"):
        assert line in printed
    assert nothing_is_left(scratch)


@pytest.mark.integration
def test_the_first_example_runs(environment: dict[str, str], scratch: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "python/01_first_session.py"), "--picture", str(picture)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for line in ("CMP-01", "terminated (request)", "no process, socket or file is left"):
        assert line in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert nothing_is_left(scratch)


@pytest.mark.integration
def test_the_example_of_branches_runs(environment: dict[str, str], scratch: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "python/02_branch_a_session.py")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "consistent: frozen",
        ": version 1\n",
        ": version 2\n",
        ": version 3\n",
        "left: 0 snapshots, 0 virtual",
    ):
        assert line in done.stdout
    assert "kept" in done.stdout
    assert nothing_is_left(scratch)
