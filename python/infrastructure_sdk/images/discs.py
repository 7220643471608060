"""Small discs that hand files to a guest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from infrastructure_sdk.images.commands import run


def make_disc(files: Mapping[str, bytes], label: str, scratch: Path, target: Path) -> None:
    """Write an ISO 9660 file with Joliet and Rock Ridge names.

    Parameters
    ----------
    files
        Name (no folders) and content.
    label
        The volume's, e.g. "CIDATA".
    scratch
        A folder to work in.
    target
        The file to make.
    """
    folder = scratch / f"disc-{label}"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    options = ["-quiet", "-joliet", "-rational-rock", "-volid", label, "-output", str(target)]
    run(["xorrisofs", *options, str(folder)])
