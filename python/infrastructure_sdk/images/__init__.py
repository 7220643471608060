"""Images: build, import, list, show, verify and remove. Pure Python; the native core only reads the manifests."""

from infrastructure_sdk.images.importer import import_image
from infrastructure_sdk.images.linux_tiny import build_linux_tiny
from infrastructure_sdk.images.store import (
    Image,
    Progress,
    list_images,
    remove_image,
    show_image,
    verify_image,
)

__all__ = [
    "Image",
    "Progress",
    "build_linux_tiny",
    "import_image",
    "list_images",
    "remove_image",
    "show_image",
    "verify_image",
]
