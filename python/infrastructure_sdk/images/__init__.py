"""Images: build, import, list, show, verify, remove; a cache of downloads. The native core only reads the manifests."""

from infrastructure_sdk.images.answer_file import Answers, answer_file
from infrastructure_sdk.images.cache import Garbage, collect, fetch, garbage
from infrastructure_sdk.images.cloud_init import CloudInit, read_ssh_keys
from infrastructure_sdk.images.importer import import_image, import_url
from infrastructure_sdk.images.linux_desktop import build_linux_desktop
from infrastructure_sdk.images.linux_server import build_linux_server
from infrastructure_sdk.images.linux_tiny import build_linux_tiny
from infrastructure_sdk.images.store import (
    Image,
    Progress,
    list_images,
    remove_image,
    show_image,
    verify_image,
)
from infrastructure_sdk.images.windows import answers_for, install_windows

RECIPES = {
    "linux-tiny": build_linux_tiny,
    "linux-server": build_linux_server,
    "linux-desktop": build_linux_desktop,
}
"""By name, what `infra-sdk image build` builds."""

__all__ = [
    "RECIPES",
    "Answers",
    "CloudInit",
    "Garbage",
    "Image",
    "Progress",
    "answer_file",
    "answers_for",
    "build_linux_desktop",
    "build_linux_server",
    "build_linux_tiny",
    "collect",
    "fetch",
    "garbage",
    "import_image",
    "import_url",
    "install_windows",
    "list_images",
    "read_ssh_keys",
    "remove_image",
    "show_image",
    "verify_image",
]
