"""`infra-sdk session ...`."""

from __future__ import annotations

import getpass
import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from infrastructure_sdk import exceptions
from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, harmless, show, show_one

app = typer.Typer(
    help="Sessions: one virtual machine each.",
    no_args_is_help=True,
    epilog="Example:  infra-sdk session list --user alice",
)

SessionId = Annotated[str, typer.Argument(help="The session's id.", metavar="SESSION")]
Memory = Annotated[bool, typer.Option("--memory", help="With the memory: what begins from it goes on from there.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the outcome.")]

COLUMNS = {
    "id": "id",
    "user": "user_id",
    "tenant": "tenant",
    "template": "template",
    "state": "state",
    "created": "created_at",
    "expires": "expires_at",
}


def pairs(option: str, items: list[str] | None, form: str) -> dict[str, str]:
    """The values of an option that takes NAME=VALUE."""
    found = {}
    for item in items or []:
        name, separator, value = item.partition("=")
        if not separator:
            context.fail(exceptions.ValidationError(f"{option}: '{item}' is not allowed; {form} is needed"))
        found[name] = value
    return found


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise typer.BadParameter("--user is needed: this process has no login name") from None


@app.command(epilog="Example:  infra-sdk session create --user alice --template linux-tiny --ttl 2h --wait")
def create(
    user: Annotated[
        str,
        typer.Option(
            "--user",
            "-u",
            help="Who the session belongs to.",
            metavar="NAME",
            default_factory=_login_name,
            show_default="your login name",
        ),
    ],
    template: Annotated[str, typer.Option("--template", "-t", help="What VM to make.", metavar="NAME")] = "linux-tiny",
    source: Annotated[str | None, typer.Option("--from", help="Begin from this snapshot.", metavar="SNAPSHOT")] = None,
    encryption: Annotated[
        str | None,
        typer.Option(
            help="What the user's key encrypts: memory (while suspended), all (disk and snapshots too), or off.",
            metavar="WHAT",
        ),
    ] = None,
    cpu: Annotated[str | None, typer.Option(help="CPUs, e.g. 2.", metavar="QUANTITY")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory, e.g. 4Gi.", metavar="QUANTITY")] = None,
    disk_size: Annotated[str | None, typer.Option(help="Disk size, e.g. 50Gi.", metavar="QUANTITY")] = None,
    disk_iops: Annotated[
        str | None, typer.Option(help="Reads and writes of the disk a second, e.g. 500.", metavar="QUANTITY")
    ] = None,
    disk_bandwidth: Annotated[
        str | None, typer.Option(help="Bytes of the disk a second, e.g. 50Mi.", metavar="QUANTITY")
    ] = None,
    network_bandwidth: Annotated[
        str | None, typer.Option(help="Bytes of the network a second, e.g. 10Mi.", metavar="QUANTITY")
    ] = None,
    tenant: Annotated[str, typer.Option(help="The group whose limits it counts for.", metavar="NAME")] = "",
    gpus: Annotated[int | None, typer.Option(help="How many GPUs, 0 to 64.", metavar="N")] = None,
    gpu_type: Annotated[
        str | None, typer.Option(help="Which GPUs, when the host has several types.", metavar="TYPE")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="none, isolated, internet or bridge:NAME; the template's if not given.", metavar="MODE"),
    ] = None,
    ttl: Annotated[str | None, typer.Option(help="Lifetime from now, e.g. 8h.", metavar="DURATION")] = None,
    idle_timeout: Annotated[
        str | None, typer.Option(help="How long it may be idle, e.g. 30m; 0s = for ever.", metavar="DURATION")
    ] = None,
    disconnect_timeout: Annotated[
        str | None,
        typer.Option(
            help="How long it goes on after its last client left, e.g. 10m; 0s = for ever.", metavar="DURATION"
        ),
    ] = None,
    retention: Annotated[
        str | None, typer.Option(help="How long it is kept while suspended, e.g. 72h.", metavar="DURATION")
    ] = None,
    on_expiry: Annotated[
        list[str] | None,
        typer.Option(
            help="What a clock does, e.g. ttl=suspend: disconnect, suspend or terminate; may be repeated.",
            metavar="CLOCK=ACTION",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A text to find it by; may be repeated.", metavar="KEY=VALUE")
    ] = None,
    wait: Wait = True,
    timeout: context.Timeout = "5m",
    dry_run: context.DryRun = False,
    output: Output = Format.table,
) -> None:
    """Make a session. Ctrl-C while it boots ends it again: nothing is left behind.

    With --no-wait it is only recorded; the next process that opens the state directory goes on with its boot.
    """
    import infrastructure_sdk as isdk
    from infrastructure_sdk.session_manager import end_if_cancelled

    request = isdk.SessionRequest(
        user_id=user,
        template=template,
        tenant=tenant,
        resources=isdk.ResourceSpec(
            cpu=cpu,
            memory=memory,
            disk_size=disk_size,
            disk_iops=disk_iops,
            disk_bandwidth=disk_bandwidth,
            network_bandwidth=network_bandwidth,
            gpu_count=gpus,
            gpu_type=gpu_type,
            network=network,
        ),
        ttl=ttl,
        idle_timeout=idle_timeout,
        disconnect_timeout=disconnect_timeout,
        retention=retention,
        on_expiry=pairs("--on-expiry", on_expiry, "CLOCK=ACTION"),
        tags=pairs("--tag", tag, "KEY=VALUE"),
        snapshot=source,
        encryption=encryption,
    )

    if dry_run:
        # Not the real state directory: opening that would go on with what is in it, or wait for its owner.
        with tempfile.TemporaryDirectory(prefix="infra-sdk-") as scratch:
            document = dict(context.run(lambda sdk: sdk.sessions.plan(request), state_dir=scratch))
        context.dry_run("this session would be made, under an id of its own")
        show_one_or_row(document, output)
        return

    async def action(sdk: Any) -> dict[str, Any]:
        session = await end_if_cancelled(sdk.sessions.create(request))
        if not wait:
            return dict(session.to_dict())
        try:
            with context.status(f"booting {session.id}"):
                await session.wait_until_active(timeout=timeout)
        except BaseException as error:
            if not isinstance(error, exceptions.InfrastructureSDKError):
                await session.terminate()
            raise
        return dict(session.to_dict())

    show_one_or_row(context.run(action), output)


def show_one_or_row(document: dict[str, Any], output: Format) -> None:
    """A session as a one-row table, or the whole document for programs."""
    if output is Format.table:
        show([document], COLUMNS, output)
    else:
        show_one(document, output)


@app.command("list", epilog="Example:  infra-sdk session list --user alice --state active -o json")
def list_sessions(
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's.", metavar="NAME")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.", metavar="NAME")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only this state; may be repeated.", metavar="STATE")] = None,
    all_states: Annotated[bool, typer.Option("--all", help="Terminated ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many.", metavar="N")] = 100,
    output: Output = Format.table,
) -> None:
    """Sessions; terminated ones only with --all or --state."""
    states = list(state or [])
    if all_states:
        from infrastructure_sdk.session import SESSION_STATES

        states = list(SESSION_STATES)

    async def action(sdk: Any) -> list[dict[str, Any]]:
        return [s.to_dict() for s in await sdk.sessions.list(user_id=user, tenant=tenant, states=states, limit=limit)]

    show(context.run(action), COLUMNS, output)


@app.command("show", epilog="Example:  infra-sdk session show s-0123456789abcdef -o yaml")
def show_session(session: SessionId, output: Output = Format.table) -> None:
    """Everything about one session, and which limits hold its VM by what."""

    async def action(sdk: Any) -> dict[str, Any]:
        document = dict((await sdk.sessions.get(session)).to_dict())
        if document["state"] != "terminated":
            vm = await sdk.vms.inspect(session)
            document["limits"] = vm["limits"]
            document["host_cpus"] = vm["host_cpus"]
        return document

    show_one(context.run(action), output)


@app.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example:  infra-sdk session exec s-0123456789abcdef -- ls -l /",
)
def execute(
    session: SessionId,
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.", metavar="COMMAND")],
    timeout: Annotated[str, typer.Option(help="When the command is killed, e.g. 90s.", metavar="DURATION")] = "60s",
    stdin: Annotated[bool, typer.Option("--stdin", "-i", help="Send this command's standard input along.")] = False,
    cwd: Annotated[str | None, typer.Option(help="The guest's folder to run in.", metavar="PATH")] = None,
    user: Annotated[str | None, typer.Option(help="The guest's user to run as.", metavar="NAME")] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(help="Instead of the agent's own environment; may be repeated.", metavar="NAME=VALUE"),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print the output as it comes, of any length.")
    ] = False,
) -> None:
    """Run a command in the guest. Its exit code is passed through; 125 is our own failure.

    Options come before SESSION: what follows it is the command's. With --follow the time is not limited; Ctrl-C kills
    the command.
    """
    data = sys.stdin.buffer.read() if stdin else b""
    words = command[1:] if command[0] == "--" else command
    variables = pairs("--env", env, "NAME=VALUE") or None
    if follow:
        raise typer.Exit(_follow(session, words, {"stdin": data, "cwd": cwd, "user": user, "env": variables}))

    async def action(sdk: Any) -> Any:
        handle = await sdk.sessions.get(session)
        return await handle.exec(words, stdin=data, cwd=cwd, user=user, env=variables, timeout=timeout)

    try:
        result = context.run(action)
    except typer.Exit as error:
        raise typer.Exit(error.exit_code if error.exit_code > 128 else 125) from None
    sys.stdout.buffer.write(result.stdout_bytes)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(result.stderr_bytes)
    sys.stderr.buffer.flush()
    raise typer.Exit(result.exit_code)


def _follow(session: str, words: list[str], options: dict[str, Any]) -> int:
    async def action(sdk: Any) -> int:
        async with await (await sdk.sessions.get(session)).spawn(words, **options) as process:
            async for chunk in process.output():
                stream = sys.stdout if chunk.stream == "stdout" else sys.stderr
                stream.buffer.write(chunk.data)
                stream.buffer.flush()
            return int(process.exit_code)

    try:
        return context.run(action)
    except typer.Exit as error:
        return error.exit_code if error.exit_code > 128 else 125


@app.command("ls", epilog="Example:  infra-sdk session ls s-0123456789abcdef /etc")
def list_files(
    session: SessionId,
    path: Annotated[str, typer.Argument(help="An absolute path in the guest.", metavar="PATH")] = "/",
    output: Output = Format.table,
) -> None:
    """List a folder of a Linux guest."""

    async def action(sdk: Any) -> list[dict[str, Any]]:
        entries = await (await sdk.sessions.get(session)).files.list(path)
        return [{**vars(entry), "name": shown(entry.name), "mode": f"{entry.mode:04o}"} for entry in entries]

    def shown(name: str) -> str:
        return harmless(name.encode(errors="backslashreplace").decode())

    columns = {"mode": "mode", "type": "type", "size": "size", "modified": "modified_at", "name": "name"}
    show(context.run(action), columns, output, key="name")


@app.command(epilog="Example:  infra-sdk session cp notes.txt s-0123456789abcdef:/root/notes.txt")
def cp(
    source: Annotated[str, typer.Argument(help="A local file or SESSION:/path.", metavar="SOURCE")],
    target: Annotated[str, typer.Argument(help="SESSION:/path or a local file.", metavar="TARGET")],
) -> None:
    """Copy a file into a guest or out of it; the guest's side is SESSION:/path."""
    inward = ":" in target and not Path(target).exists()
    session, _, path = (target if inward else source).partition(":")
    if not path.startswith("/"):
        context.fail(
            exceptions.ValidationError("cp: one side must be SESSION:/absolute/path, the other a local file"), code=2
        )

    async def action(sdk: Any) -> None:
        files = (await sdk.sessions.get(session)).files
        if inward:
            await files.put(Path(source), path)
        else:
            await files.download(path, target)

    context.run(action)


@app.command(epilog="Example:  infra-sdk session screenshot s-0123456789abcdef desktop.png")
def screenshot(
    session: SessionId,
    file: Annotated[Path, typer.Argument(help="Where the PNG goes.", metavar="FILE")] = Path("screenshot.png"),
) -> None:
    """Save what the guest's screen shows as a PNG."""

    async def action(sdk: Any) -> None:
        (await (await sdk.sessions.get(session)).desktop.screenshot()).save(file)

    context.run(action)
    print(file)


async def _the_only_active(sdk: Any) -> Any:
    """The session that is meant when none is named."""
    active = await sdk.sessions.list(states=["active"], limit=11)
    if len(active) != 1:
        found = ", ".join(session.id for session in active[:10]) + ("..." if len(active) > 10 else "")
        raise exceptions.ValidationError(
            f"SESSION is needed unless just one session is active; active: {found or 'none'}",
            context={"field": "SESSION", "value": "", "allowed": "the id of a session"},
        )
    return active[0]


@app.command(epilog="Example:  infra-sdk session console s-0123456789abcdef --open")
def console(
    session: Annotated[
        str | None, typer.Argument(help="The session's id; not needed if just one is active.", metavar="SESSION")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open each address in a browser.")] = False,
    share: Annotated[bool, typer.Option("--share", help="Let it open beside other viewers.")] = False,
    valid_for: Annotated[
        str,
        typer.Option(
            help="How long an address can be opened, at most 1h.", callback=context.checked_duration, metavar="DURATION"
        ),
    ] = "10m",
) -> None:
    """Serve the session's screen to a browser on this machine until Ctrl-C.

    Prints an address that opens once, and another one when a viewer left or nobody came in time. While it serves, this
    process owns the state directory: other commands wait.
    """

    async def action(sdk: Any) -> None:
        import asyncio
        import webbrowser

        from infrastructure_sdk.server.console import console_of

        handle = await _the_only_active(sdk) if session is None else await sdk.sessions.get(session)
        over = asyncio.ensure_future(_until_over(handle))
        while not over.done():
            url = await handle.console_url(valid_for=valid_for, share=share)
            print(url, flush=True)
            if open_browser:
                webbrowser.open(url)
            again = asyncio.ensure_future(console_of(sdk).wait_until_free(valid_for))
            await asyncio.wait({again, over}, return_when=asyncio.FIRST_COMPLETED)
            again.cancel()
        over.result()

    context.run(action)


@app.command(epilog="Example:  infra-sdk session forward s-0123456789abcdef 22 --local-port 2222")
def forward(
    session: SessionId,
    port: Annotated[int, typer.Argument(help="The guest's TCP port.", metavar="PORT", min=1, max=65535)],
    local_port: Annotated[
        int, typer.Option(help="This machine's port; 0 lets the kernel choose.", metavar="PORT", min=0, max=65535)
    ] = 0,
) -> None:
    """Lead a port of this machine's loopback to a port of the guest until Ctrl-C.

    Prints the address, e.g. for ssh (22) or a remote desktop client (3389). While it serves, this process owns the
    state directory: other commands wait.
    """

    async def action(sdk: Any) -> None:
        handle = await sdk.sessions.get(session)
        async with await handle.forward(port, local_port=local_port) as served:
            print(served.address, flush=True)
            await _until_over(handle)

    context.run(action)


async def _until_over(session: Any) -> None:
    """Return at Ctrl-C, or when the session is not active any more."""
    import asyncio
    import signal

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    waiting = {asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(_until_not_active(session))}
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for task in done:
        task.result()


async def _until_not_active(session: Any) -> None:
    """Return when the session was suspended, ended or failed."""
    after = (await session.events())[-1]["sequence"]
    async for _event in session.watch(after=after):
        if (await session.refresh()).state != "active":
            return


@app.command(epilog="Example:  infra-sdk session suspend s-0123456789abcdef --timeout 2m")
def suspend(session: SessionId, timeout: context.Timeout = "5m", output: Output = Format.table) -> None:
    """Save the VM's memory to a file and free its CPU and RAM."""
    show_one_or_row(context.run(lambda sdk: _verb(sdk, session, "suspend", timeout)), output)


@app.command(epilog="Example:  infra-sdk session resume s-0123456789abcdef")
def resume(session: SessionId, timeout: context.Timeout = "5m", output: Output = Format.table) -> None:
    """Bring a suspended session back as it was."""
    show_one_or_row(context.run(lambda sdk: _verb(sdk, session, "resume", timeout)), output)


@app.command(epilog="Example:  infra-sdk session recover s-0123456789abcdef")
def recover(session: SessionId, timeout: context.Timeout = "5m", output: Output = Format.table) -> None:
    """Start a failed session again from its disk; what was in memory only is gone."""
    show_one_or_row(context.run(lambda sdk: _verb(sdk, session, "recover", timeout)), output)


@app.command(epilog="Example:  infra-sdk session snapshot s-0123456789abcdef 'before the update'")
def snapshot(
    session: SessionId,
    name: Annotated[str, typer.Argument(help="A name for people.", metavar="NAME")],
    memory: Memory = False,
    timeout: context.Timeout = "10m",
    output: Output = Format.table,
) -> None:
    """Copy the disk of an active, suspended or failed session; an active one goes on.

    The copy stays when the session ends: `infra-sdk snapshot list|show|delete`.
    """
    from infrastructure_sdk.cli.snapshot import take_snapshot

    take_snapshot(session, name, memory, timeout, output)


@app.command(epilog="Example:  infra-sdk session fork s-0123456789abcdef --count 3")
def fork(
    source: Annotated[str, typer.Argument(help="A session's id or a snapshot's.", metavar="SOURCE")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many.", metavar="N")] = 1,
    memory: Memory = False,
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="Who they belong to; else the source's.", metavar="NAME")
    ] = None,
    ttl: Annotated[str | None, typer.Option(help="Lifetime from now, e.g. 8h.", metavar="DURATION")] = None,
    wait: Wait = True,
    timeout: context.Timeout = "5m",
    output: Output = Format.table,
) -> None:
    """Make new sessions from a session as it is now, or from a snapshot.

    One row each; what is denied has its error there, the others go on, and the exit code is that of the first error.
    """
    failures: list[BaseException] = []

    async def action(sdk: Any) -> list[dict[str, Any]]:
        rows = []
        with context.status(f"forking {source}"):
            results = await sdk.sessions.fork(source, count, memory=memory, user_id=user, ttl=ttl, timeout=timeout)
            for result in results:
                error = result.error
                if result.session is not None and wait:
                    try:
                        await result.session.wait_until_active(timeout=timeout)
                    except exceptions.InfrastructureSDKError as late:
                        error = late
                        await result.session.refresh()
                row = {} if result.session is None else dict(result.session.to_dict())
                rows.append({**row, "error": None if error is None else {"code": error.code, "message": str(error)}})
                if error is not None:
                    failures.append(error)
        return rows

    rows = context.run(action)
    if output is Format.name:
        rows = [row for row in rows if "id" in row]
    show(rows, {**COLUMNS, "error": "error.message"}, output)
    if failures:
        raise typer.Exit(context.exit_code(failures[0]))


@app.command(epilog="Example:  infra-sdk session terminate s-0123456789abcdef --dry-run")
def terminate(
    session: SessionId, timeout: context.Timeout = "5m", dry_run: context.DryRun = False, output: Output = Format.table
) -> None:
    """End a session and remove everything of its VM; done when death was observed."""
    if not dry_run:
        show_one_or_row(context.run(lambda sdk: _verb(sdk, session, "terminate", timeout)), output)
        return

    async def action(sdk: Any) -> dict[str, Any]:
        return dict((await sdk.sessions.get(session)).to_dict())

    document = context.run(action)
    ended = document["state"] == "terminated"
    context.dry_run("it is terminated already" if ended else f"VM {document['vm_id']} and its disk would be removed")
    show_one_or_row(document, output)


async def _verb(sdk: Any, session_id: str, verb: str, timeout: str) -> dict[str, Any]:
    session = await sdk.sessions.get(session_id)
    with context.status(f"{verb} {session_id}"):
        await getattr(session, verb)(timeout=timeout)
    return dict(session.to_dict())


@app.command(epilog="Example:  infra-sdk session extend s-0123456789abcdef 2h")
def extend(
    session: SessionId,
    by: Annotated[str, typer.Argument(help="e.g. 2h", callback=context.checked_duration, metavar="DURATION")],
    output: Output = Format.table,
) -> None:
    """Let a session live longer."""

    async def action(sdk: Any) -> dict[str, Any]:
        handle = await sdk.sessions.get(session)
        await handle.extend(by)
        return dict(handle.to_dict())

    show_one_or_row(context.run(action), output)


@app.command(epilog="Example:  infra-sdk session touch s-0123456789abcdef")
def touch(session: SessionId, output: Output = Format.table) -> None:
    """Note that the session is in use."""

    async def action(sdk: Any) -> dict[str, Any]:
        handle = await sdk.sessions.get(session)
        await handle.touch()
        return dict(handle.to_dict())

    show_one_or_row(context.run(action), output)


@app.command(epilog="Example:  infra-sdk session ping s-0123456789abcdef")
def ping(session: SessionId, timeout: context.Timeout = "10s") -> None:
    """Ask the guest's agent whether it is there. That does not count as use."""

    async def action(sdk: Any) -> None:
        await (await sdk.sessions.get(session)).ping(timeout=timeout)

    context.run(action)


@app.command(epilog='Example:  infra-sdk session hold s-0123456789abcdef demo 2h --note "shown to a customer"')
def hold(
    session: SessionId,
    name: Annotated[str, typer.Argument(help="One hold per name; asked again it is replaced.", metavar="NAME")],
    length: Annotated[str, typer.Argument(help="e.g. 2h", callback=context.checked_duration, metavar="DURATION")],
    note: Annotated[str, typer.Option(help="Why, for those who ask what keeps it alive.", metavar="TEXT")] = "",
    output: Output = Format.table,
) -> None:
    """Keep a session from being idle for so long; its ttl goes on."""

    async def action(sdk: Any) -> dict[str, Any]:
        handle = await sdk.sessions.get(session)
        await handle.hold(name, length, note=note)
        return dict(handle.to_dict())

    show_one_or_row(context.run(action), output)


@app.command(epilog="Example:  infra-sdk session release s-0123456789abcdef demo")
def release(
    session: SessionId,
    name: Annotated[str, typer.Argument(help="The hold, see `session show`.", metavar="NAME")],
    output: Output = Format.table,
) -> None:
    """Let go of a hold."""

    async def action(sdk: Any) -> dict[str, Any]:
        handle = await sdk.sessions.get(session)
        await handle.release(name)
        return dict(handle.to_dict())

    show_one_or_row(context.run(action), output)


@app.command(epilog="Example:  infra-sdk session explain s-0123456789abcdef --what-if 10m --what-if 1h")
def explain(
    session: SessionId,
    what_if: Annotated[
        list[str] | None, typer.Option(help="Another idle timeout, e.g. 10m; may be repeated.", metavar="DURATION")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Say why a session is alive or not, and what would end it when."""

    async def action(sdk: Any) -> dict[str, Any]:
        handle = await sdk.sessions.get(session)
        return dict((await handle.explain(what_if=what_if or [])).to_dict())

    document = context.run(action)
    if output is not Format.table:
        show_one({"id": session, **document}, output)
        return
    for sentence in document["sentences"]:
        print(harmless(sentence))
    if document["readings"]:
        print()
        show(document["readings"], {"signal": "signal", "state": "state", "seen": "detail", "at": "at"}, output)


@app.command(epilog="Example:  infra-sdk session events s-0123456789abcdef -o json")
def events(
    session: SessionId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the session is terminated.")] = False,
    output: Output = Format.table,
) -> None:
    """What happened to a session, in order. With -f one JSON object a line, as it happens."""
    if follow:

        async def watch(sdk: Any) -> None:
            async for event in (await sdk.sessions.get(session)).watch():
                print(json.dumps(dict(event)), flush=True)

        context.run(watch)
        return

    async def action(sdk: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        handle = await sdk.sessions.get(session)
        while page := await handle.events(after=found[-1]["sequence"] if found else 0):
            found += [dict(event) for event in page]
        return found

    show(context.run(action), {"time": "time", "event": "type", "what": "data"}, output, key="type")
