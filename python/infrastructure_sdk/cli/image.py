"""`infra-sdk image ...`: needs neither QEMU nor the native core to list, show and remove."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from infrastructure_sdk import exceptions
from infrastructure_sdk.cli import context
from infrastructure_sdk.cli.output import Format, Output, console, show, show_one

app = typer.Typer(
    help="Images: disks and boot files of VMs.", no_args_is_help=True, epilog="Example:  infra-sdk image list"
)

ImageDir = Annotated[
    Path | None, typer.Option(help="Where images are kept (INFRA_SDK_VM__IMAGE_DIRECTORY).", metavar="DIR")
]
Name = Annotated[str, typer.Argument(help="The image's name.", metavar="NAME")]
T = TypeVar("T")


def _directory(given: Path | None) -> Path:
    if given is not None:
        return given
    from infrastructure_sdk.config import default_image_directory

    configured = context.make_config().to_dict()["vm"]["image_directory"]
    return Path(configured or default_image_directory())


def _guard(action: Callable[[], T]) -> T:
    try:
        return action()
    except exceptions.InfrastructureSDKError as error:
        context.fail(error)
    except OSError as error:
        context.fail(error)


def _progress() -> tuple[Callable[[str, int, int | None], None], Callable[[], None]]:
    """A progress display on a terminal, one line per step otherwise."""
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def plain(step: str, done: int, total: int | None) -> None:
            if step not in seen:
                seen.add(step)
                print(step, file=sys.stderr)

        return plain, lambda: None
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    display = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console(error=True), transient=True
    )
    display.start()
    task = display.add_task("", total=None)

    def fancy(step: str, done: int, total: int | None) -> None:
        display.update(task, description=step, completed=done, total=total)

    return fancy, display.stop


@app.command(epilog="Example:  infra-sdk image build linux-tiny")
def build(
    name: Annotated[str, typer.Argument(help="linux-tiny, linux-server or linux-desktop.", metavar="NAME")],
    image_dir: ImageDir = None,
    output: Output = Format.table,
) -> None:
    """Build an image from Debian packages; no root and no KVM needed."""
    from infrastructure_sdk import images

    def action() -> Any:
        recipe = images.RECIPES.get(name)
        if recipe is None:
            raise exceptions.NotFoundError(f"there is no recipe '{name}'; known: {', '.join(images.RECIPES)}")
        report, stop = _progress()
        try:
            return recipe(_directory(image_dir), report)
        finally:
            stop()

    show_one(_guard(action).to_dict(), output, key="name")


@app.command("import", epilog="Example:  infra-sdk image import debian-12.qcow2 --name debian-12 --user alice")
def import_file(
    file: Annotated[str, typer.Argument(help="A qcow2 or raw disk image, or its http(s) URL.", metavar="FILE|URL")],
    name: Annotated[
        str | None, typer.Option(help="The image's name; the file's stem if absent.", metavar="NAME")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Of a URL: the hash that its publisher states.", metavar="HEX")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Write a cloud-init seed that makes this user.", metavar="NAME")
    ] = None,
    ssh_key: Annotated[
        list[Path] | None, typer.Option(help="A file of public keys for the user; may be repeated.", metavar="FILE")
    ] = None,
    package: Annotated[
        list[str] | None, typer.Option(help="A package that cloud-init installs; may be repeated.", metavar="NAME")
    ] = None,
    image_dir: ImageDir = None,
    output: Output = Format.table,
) -> None:
    """Take over a disk image, after checking that it reaches no other file; for images of clouds with a seed."""
    from infrastructure_sdk import images

    def action() -> Any:
        seed = None
        if user is not None or ssh_key or package:
            keys = [key for path in ssh_key or [] for key in images.read_ssh_keys(path.read_text(errors="replace"))]
            seed = images.CloudInit(user or "user", tuple(keys), tuple(package or ()))
        report, stop = _progress()
        try:
            if not file.startswith(("http://", "https://")):
                return images.import_image(_directory(image_dir), Path(file), name, cloud_init=seed, progress=report)
            if sha256 is None:
                raise exceptions.ValidationError("--sha256 is needed for a URL: 64 hex digits, as its publisher states")
            return images.import_url(_directory(image_dir), file, sha256, name, cloud_init=seed, progress=report)
        finally:
            stop()

    show_one(_guard(action).to_dict(), output, key="name")


@app.command(epilog="Example:  infra-sdk image gc --dry-run")
def gc(image_dir: ImageDir = None, dry_run: context.DryRun = False) -> None:
    """Remove downloads that no image was made from."""
    from infrastructure_sdk import images

    directory = _directory(image_dir)
    found = _guard(lambda: images.garbage(directory) if dry_run else images.collect(directory))
    total = sum(item.size_bytes for item in found) >> 20
    if dry_run:
        context.dry_run(f"{len(found)} files, {total} MiB, would be removed")
    else:
        print(f"{len(found)} files, {total} MiB, removed", file=sys.stderr)


@app.command(epilog="Example:  infra-sdk image install windows-11 --iso Win11.iso --drivers virtio-win.iso")
def install(
    name: Annotated[str, typer.Argument(help="windows-11, windows-10, windows-server-2022 or -2025.", metavar="NAME")],
    iso: Annotated[Path, typer.Option(help="Your own installation disc.", metavar="FILE")],
    drivers: Annotated[Path, typer.Option(help="The disc virtio-win.iso.", metavar="FILE")],
    user: Annotated[str, typer.Option(help="The administrator's account that is made.", metavar="NAME")] = "user",
    password_file: Annotated[
        Path | None, typer.Option(help="Holds the account's password; one is drawn if absent.", metavar="FILE")
    ] = None,
    edition: Annotated[
        str | None, typer.Option(help="Another image of the disc's install.wim, by name.", metavar="NAME")
    ] = None,
    product_key: Annotated[str, typer.Option(help="XXXXX-XXXXX-XXXXX-XXXXX-XXXXX", metavar="KEY")] = "",
    accelerator: Annotated[str, typer.Option(help="kvm, or tcg (takes many hours).", metavar="NAME")] = "kvm",
    image_dir: ImageDir = None,
    output: Output = Format.table,
) -> None:
    """Install Windows without being asked anything; needs ovmf, swtpm and xorriso. Not tried with a real disc yet."""
    from infrastructure_sdk import images

    def action() -> Any:
        drawn = secrets.token_urlsafe(15)
        password = password_file.read_text().rstrip("\r\n") if password_file is not None else drawn
        report, stop = _progress()
        try:
            answers = images.answers_for(name, user, password, edition=edition, product_key=product_key)
            made = images.install_windows(
                _directory(image_dir), name, iso, drivers, answers, accelerator=accelerator, progress=report
            )
        finally:
            stop()
        if password_file is None:
            print(f"The password of {user} is {drawn}; it is kept nowhere else.", file=sys.stderr)
        return made

    show_one(_guard(action).to_dict(), output, key="name")


@app.command("list", epilog="Example:  infra-sdk image list -o name")
def list_images(image_dir: ImageDir = None, output: Output = Format.table) -> None:
    """The images that are there."""
    from infrastructure_sdk import images

    rows = [image.to_dict() for image in _guard(lambda: images.list_images(_directory(image_dir)))]
    show(rows, {"name": "name", "version": "version", "os": "os", "created": "created_at"}, output, key="name")


@app.command("show", epilog="Example:  infra-sdk image show linux-tiny -o json")
def show_image(name: Name, image_dir: ImageDir = None, output: Output = Format.table) -> None:
    """Everything about one image."""
    from infrastructure_sdk import images

    show_one(_guard(lambda: images.show_image(_directory(image_dir), name)).to_dict(), output, key="name")


@app.command(epilog="Example:  infra-sdk image remove linux-tiny --dry-run")
def remove(name: Name, image_dir: ImageDir = None, dry_run: context.DryRun = False) -> None:
    """Remove an image. VMs that were made from it keep running but cannot be started again."""
    from infrastructure_sdk import images

    if dry_run:
        image = _guard(lambda: images.show_image(_directory(image_dir), name))
        context.dry_run(f"{image.directory} would be removed")
    else:
        _guard(lambda: images.remove_image(_directory(image_dir), name))
