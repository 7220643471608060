"""The bridge between asyncio and the engine."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

import infrastructure_sdk as isdk
from infrastructure_sdk import _bridge, _core


@pytest.fixture
def runtime() -> Iterator[_core.Runtime]:
    made = _bridge.make_runtime()
    yield made
    made.stop()


def run_script(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=60, check=False
    )


async def test_a_thousand_operations_complete(runtime: _core.Runtime) -> None:
    await asyncio.gather(*(_bridge.noop(runtime) for _ in range(1000)))


async def test_a_timeout_is_ours_and_pythons(runtime: _core.Runtime) -> None:
    with pytest.raises(isdk.OperationTimeoutError) as caught:
        await _bridge.sleep(runtime, 60, timeout="10ms")
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.code == "timeout"
    assert caught.value.retryable


async def test_cancelling_the_task_stops_the_operation(runtime: _core.Runtime) -> None:
    task = asyncio.ensure_future(_bridge.sleep(runtime, 3600))
    await _bridge.noop(runtime)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    queue = _bridge._queue_of(asyncio.get_running_loop())
    while queue.pending:
        await _bridge.noop(runtime)


def test_many_loops_one_after_another(runtime: _core.Runtime) -> None:
    for _ in range(20):
        asyncio.run(_bridge.noop(runtime))


def test_a_loop_is_let_go_although_its_operations_were_cancelled(runtime: _core.Runtime) -> None:
    async def leave_one_behind() -> None:
        operation = asyncio.ensure_future(_bridge.sleep(runtime, 3600))
        await asyncio.sleep(0)
        assert not operation.done()

    gc.collect()
    before = len(_bridge._queues)
    for _ in range(20):
        asyncio.run(leave_one_behind())
    gc.collect()
    assert len(_bridge._queues) <= before + 1


async def test_operations_of_one_turn_are_started_in_order(runtime: _core.Runtime) -> None:
    ended: list[int] = []

    async def operation(number: int) -> None:
        await _bridge.noop(runtime)
        ended.append(number)

    await asyncio.gather(*(operation(number) for number in range(100)))
    assert ended == sorted(ended)


def test_operations_in_flight_do_not_disturb_the_end_of_the_interpreter() -> None:
    done = run_script(
        """
        import asyncio
        from infrastructure_sdk import _bridge
        runtime = _bridge.make_runtime()
        async def main():
            for _ in range(1000):
                asyncio.ensure_future(_bridge.sleep(runtime, 3600))
            await _bridge.noop(runtime)
            print("in flight", flush=True)
            import os
            raise SystemExit(0)
        asyncio.run(main())
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "in flight\n"


def test_a_forked_child_is_told_and_can_start_afresh() -> None:
    done = run_script(
        """
        import asyncio, os
        from infrastructure_sdk import _bridge, exceptions
        runtime = _bridge.make_runtime()
        asyncio.run(_bridge.noop(runtime))
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(_bridge.noop(runtime))
                os._exit(1)
            except exceptions.InfrastructureSDKError as error:
                assert "fork" in str(error), error
            asyncio.run(_bridge.noop(_bridge.make_runtime()))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status))
        """
    )
    assert done.stdout == "0\n", done.stderr
