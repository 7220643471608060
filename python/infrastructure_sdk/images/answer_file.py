"""The answer file of an unattended Windows installation: a tree, serialised; no text is ever pasted into it.

Source: https://learn.microsoft.com/windows-hardware/customize/desktop/unattend/
"""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass

from infrastructure_sdk.exceptions import ValidationError

NAMESPACE = "urn:schemas-microsoft-com:unattend"
ACTIONS = "http://schemas.microsoft.com/WMIConfig/2002/State"
SETUP = "Microsoft-Windows-Setup"
SHELL = "Microsoft-Windows-Shell-Setup"

# Setup gives letters in an order of its own: the disc with the drivers is one of these.
LETTERS = "DEFGH"
# What Setup and the first start need, as folders of virtio-win's disc.
DRIVERS = ("viostor", "vioscsi", "NetKVM", "vioserial", "Balloon", "viorng", "pvpanic")

USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,18}[A-Za-z0-9_-]|[A-Za-z0-9]")
RESERVED = {"administrator", "guest", "system", "defaultaccount", "wdagutilityaccount", "none"}
PASSWORD = re.compile(r"[\x20-\x7e]{8,127}")
PRODUCT_KEY = re.compile(r"[A-Z0-9]{5}(-[A-Z0-9]{5}){4}")
LOCALE = re.compile(r"[a-z]{2,3}-[A-Z]{2}")
EDITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ()_-]{0,79}")


@dataclass(frozen=True)
class Edition:
    """What of an installation disc is installed.

    Attributes
    ----------
    image
        The name of the image in its install.wim.
    drivers
        The folder of virtio-win for this system, e.g. "w11".
    """

    image: str
    drivers: str


EDITIONS: Mapping[str, Edition] = {
    "windows-11": Edition("Windows 11 Pro", "w11"),
    "windows-10": Edition("Windows 10 Pro", "w10"),
    "windows-server-2022": Edition("Windows Server 2022 SERVERSTANDARD", "2k22"),
    "windows-server-2025": Edition("Windows Server 2025 SERVERSTANDARD", "2k25"),
}
"""By name of the image that is made."""


@dataclass(frozen=True)
class Answers:
    """What Setup would ask.

    Attributes
    ----------
    edition
        What to install, and its drivers.
    user, password
        Of the administrator's account that is made. The password is not shown by `repr`.
    locale
        Language, region and keyboard, e.g. "en-US"; the disc must have it.
    product_key
        Five groups of five; empty = Setup goes on without one.
    """

    edition: Edition
    user: str
    password: str
    locale: str = "en-US"
    product_key: str = ""

    def __repr__(self) -> str:
        return f"Answers(edition={self.edition!r}, user={self.user!r}, locale={self.locale!r})"

    def __post_init__(self) -> None:
        _need(EDITION, "edition", self.edition.image, "the name of an image: letters, digits, spaces, ( ) _ -")
        _need(re.compile(r"[0-9a-zA-Z]{1,16}"), "drivers", self.edition.drivers, "a folder of virtio-win, e.g. w11")
        _need(USER_NAME, "user", self.user, "1 to 20 of letters, digits, space . _ -")
        if self.user.lower() in RESERVED:
            raise _refused("user", repr(self.user), "a name that Windows does not use itself")
        if not PASSWORD.fullmatch(self.password):
            raise _refused("password", "'***'", "8 to 127 printable ASCII characters")
        _need(LOCALE, "locale", self.locale, "language and region, e.g. en-US")
        if self.product_key:
            _need(PRODUCT_KEY, "product_key", self.product_key, "XXXXX-XXXXX-XXXXX-XXXXX-XXXXX")


def answer_file(answers: Answers) -> bytes:
    """The document autounattend.xml."""
    ElementTree.register_namespace("", NAMESPACE)
    ElementTree.register_namespace("wcm", ACTIONS)
    root = ElementTree.Element(_tag("unattend"))
    windows_pe = _settings(root, "windowsPE")
    _languages(_component(windows_pe, "Microsoft-Windows-International-Core-WinPE"), answers.locale, setup=True)
    _driver_paths(_component(windows_pe, "Microsoft-Windows-PnpCustomizationsWinPE"), answers.edition.drivers)
    _setup(_component(windows_pe, SETUP), answers)
    _specialize(_settings(root, "specialize"))
    oobe = _settings(root, "oobeSystem")
    _languages(_component(oobe, "Microsoft-Windows-International-Core"), answers.locale, setup=False)
    _first_start(_component(oobe, SHELL), answers)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _settings(root: ElementTree.Element, step: str) -> ElementTree.Element:
    return ElementTree.SubElement(root, _tag("settings"), {"pass": step})


def _component(settings: ElementTree.Element, name: str) -> ElementTree.Element:
    attributes = {
        "name": name,
        "processorArchitecture": "amd64",
        "publicKeyToken": "31bf3856ad364e35",
        "language": "neutral",
        "versionScope": "nonSxS",
    }
    return ElementTree.SubElement(settings, _tag("component"), attributes)


def _put(parent: ElementTree.Element, path: str, text: str) -> None:
    """Make the elements of "A/B/C" that are missing, and give the last one its text."""
    *folders, last = path.split("/")
    for name in folders:
        found = parent.find(_tag(name))
        parent = found if found is not None else ElementTree.SubElement(parent, _tag(name))
    ElementTree.SubElement(parent, _tag(last)).text = text


def _item(parent: ElementTree.Element, lists: str, name: str, key: str = "") -> ElementTree.Element:
    """A new member of the list "A/B"."""
    for part in lists.split("/"):
        found = parent.find(_tag(part))
        parent = found if found is not None else ElementTree.SubElement(parent, _tag(part))
    attributes = {f"{{{ACTIONS}}}action": "add"}
    if key:
        attributes[f"{{{ACTIONS}}}keyValue"] = key
    return ElementTree.SubElement(parent, _tag(name), attributes)


def _languages(component: ElementTree.Element, locale: str, *, setup: bool) -> None:
    if setup:
        _put(component, "SetupUILanguage/UILanguage", locale)
    for name in ("InputLocale", "SystemLocale", "UILanguage", "UserLocale"):
        _put(component, name, locale)


def _driver_paths(component: ElementTree.Element, folder: str) -> None:
    paths = [f"{letter}:\\{driver}\\{folder}\\amd64" for letter in LETTERS for driver in DRIVERS]
    for number, path in enumerate(paths, 1):
        _put(_item(component, "DriverPaths", "PathAndCredentials", str(number)), "Path", path)


def _setup(component: ElementTree.Element, answers: Answers) -> None:
    disk = _item(component, "DiskConfiguration", "Disk")
    _put(disk, "DiskID", "0")
    _put(disk, "WillWipeDisk", "true")
    for order, (kind, size) in enumerate((("EFI", "260"), ("MSR", "16"), ("Primary", "")), 1):
        partition = _item(disk, "CreatePartitions", "CreatePartition")
        _put(partition, "Order", str(order))
        _put(partition, "Type", kind)
        _put(partition, *(("Size", size) if size else ("Extend", "true")))
    for order, file_system in ((1, "FAT32"), (3, "NTFS")):
        changed = _item(disk, "ModifyPartitions", "ModifyPartition")
        _put(changed, "Order", str(1 if order == 1 else 2))
        _put(changed, "PartitionID", str(order))
        _put(changed, "Format", file_system)
    chosen = _item(component, "ImageInstall/OSImage/InstallFrom", "MetaData")
    _put(chosen, "Key", "/IMAGE/NAME")
    _put(chosen, "Value", answers.edition.image)
    _put(component, "ImageInstall/OSImage/InstallTo/DiskID", "0")
    _put(component, "ImageInstall/OSImage/InstallTo/PartitionID", "3")
    _put(component, "UserData/AcceptEula", "true")
    if answers.product_key:
        _put(component, "UserData/ProductKey/Key", answers.product_key)
    _put(component, "UserData/ProductKey/WillShowUI", "OnError")


def _specialize(settings: ElementTree.Element) -> None:
    shell = _component(settings, SHELL)
    # Setup draws a name; the host gives each guest its own later.
    _put(shell, "ComputerName", "*")
    _put(shell, "TimeZone", "UTC")
    _put(_component(settings, "Microsoft-Windows-TerminalServices-LocalSessionManager"), "fDenyTSConnections", "false")
    # Network level authentication: who has no password sees no log-on screen.
    extensions = _component(settings, "Microsoft-Windows-TerminalServices-RDP-WinStationExtensions")
    _put(extensions, "UserAuthentication", "1")
    _put(extensions, "SecurityLayer", "2")
    # Every VM has a TPM of its own: a disk that is bound to this one's would open in none of them.
    _put(_component(settings, "Microsoft-Windows-SecureStartup-FilterDriver"), "PreventDeviceEncryption", "true")
    firewall = _item(_component(settings, "Networking-MPSSVC-Svc"), "FirewallGroups", "FirewallGroup", "RemoteDesktop")
    _put(firewall, "Active", "true")
    _put(firewall, "Profile", "all")
    _put(firewall, "Group", "@FirewallAPI.dll,-28752")


def _first_start(shell: ElementTree.Element, answers: Answers) -> None:
    for name in ("HideEULAPage", "HideLocalAccountScreen", "HideOEMRegistrationScreen", "HideOnlineAccountScreens"):
        _put(shell, f"OOBE/{name}", "true")
    _put(shell, "OOBE/HideWirelessSetupInOOBE", "true")
    _put(shell, "OOBE/ProtectYourPC", "3")
    account = _item(shell, "UserAccounts/LocalAccounts", "LocalAccount")
    _put(account, "Name", answers.user)
    _put(account, "Group", "Administrators")
    _put(account, "Password/Value", _hidden(answers.password, "Password"))
    _put(account, "Password/PlainText", "false")
    _put(shell, "AutoLogon/Username", answers.user)
    _put(shell, "AutoLogon/Enabled", "true")
    _put(shell, "AutoLogon/LogonCount", "1")
    _put(shell, "AutoLogon/Password/Value", _hidden(answers.password, "Password"))
    _put(shell, "AutoLogon/Password/PlainText", "false")
    for order, command in enumerate(_first_commands(), 1):
        item = _item(shell, "FirstLogonCommands", "SynchronousCommand")
        _put(item, "Order", str(order))
        _put(item, "CommandLine", command)


def _first_commands() -> list[str]:
    installed = ["virtio-win-gt-x64.msi", "guest-agent\\qemu-ga-x86_64.msi"]
    letters = " ".join(LETTERS)
    commands = [
        f"cmd /c for %d in ({letters}) do if exist %d:\\{file} msiexec /i %d:\\{file} /qn /norestart"
        for file in installed
    ]
    # The end of the installation is seen by the end of the machine.
    return [*commands, "shutdown /s /t 10"]


def _hidden(password: str, suffix: str) -> str:
    """How Windows writes a password that is not meant to be read at a glance; it is no protection."""
    return base64.b64encode((password + suffix).encode("utf-16-le")).decode("ascii")


def _need(pattern: re.Pattern[str], name: str, value: str, allowed: str) -> None:
    if not pattern.fullmatch(value):
        raise _refused(name, repr(value)[:100], allowed)


def _refused(name: str, shown: str, allowed: str) -> ValidationError:
    return ValidationError(
        f"{name}: {shown} is not allowed; {allowed}", context={"field": name, "value": shown, "allowed": allowed}
    )
