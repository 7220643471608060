"""linux-desktop: Debian with X on QEMU's VGA card, Openbox, a panel, a terminal, a file manager, a small browser."""

from __future__ import annotations

from pathlib import Path

from infrastructure_sdk.images.debian import Overlay, Recipe, base_overlay, build_debian
from infrastructure_sdk.images.store import Image, Progress, no_progress

SYSTEM = "etc/systemd/system"

# The card has no acceleration; a shadow in RAM saves reads from its memory.
XORG = """Section "Device"
    Identifier "card"
    Driver "modesetting"
    Option "AccelMethod" "none"
    Option "ShadowFB" "true"
EndSection

Section "Screen"
    Identifier "screen"
    Device "card"
    DefaultDepth 24
    SubSection "Display"
        Modes "1024x768"
    EndSubSection
EndSection

Section "ServerFlags"
    Option "BlankTime" "0"
    Option "StandbyTime" "0"
    Option "SuspendTime" "0"
    Option "OffTime" "0"
EndSection
"""

DESKTOP_SERVICE = """[Unit]
Description=The desktop
DefaultDependencies=no
After=systemd-tmpfiles-setup.service systemd-udevd.service
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=notify
NotifyAccess=all
TimeoutStartSec=10min
Restart=on-failure
ExecStart=/usr/local/bin/desktop

[Install]
WantedBy=multi-user.target
"""

# Who is answered by the agent finds the desktop on the screen.
AGENT_AFTER_DESKTOP = "[Unit]\nAfter=desktop.service\n"

# The X server and the bus would say that they are ready, and systemd would take that for the desktop.
DESKTOP = """#!/bin/sh
export READY_SOCKET="$NOTIFY_SOCKET"
unset NOTIFY_SOCKET
exec xinit /usr/local/bin/desktop-session -- /usr/lib/xorg/Xorg :0 vt7 -nolisten tcp -noreset
"""

SESSION = """#!/bin/sh
if [ "$(id -u)" = 0 ]; then
  xhost +si:localuser:user >/dev/null
  mkdir -p -m 0700 /run/user/1000
  chown user:user /run/user/1000
  exec setpriv --reuid=user --regid=user --init-groups dbus-run-session "$0"
fi
export HOME=/home/user USER=user LOGNAME=user SHELL=/bin/bash LANG=C.UTF-8 XDG_RUNTIME_DIR=/run/user/1000
export NO_AT_BRIDGE=1 XDG_CURRENT_DESKTOP=openbox
cd
xsetroot -solid '#24506e' -cursor_name left_ptr
xrdb -nocpp -merge .Xresources
# Windows that come while Openbox starts stay unseen until something happens: so they come after it.
exec openbox --startup /usr/local/bin/desktop-programs
"""

PROGRAMS = """#!/bin/sh
tint2 &
pcmanfm --desktop &
# How long its programs have worked, in hundredths of a second.
worked() {
  total=0
  for program in $programs; do
    read -r line <"/proc/$program/stat"
    set -- ${line##*)}
    total=$((total + ${12} + ${13}))
  done
}
# Ready is a desktop that is drawn: its windows are there, and its programs have little left to do.
ready() {
  xdotool search --sync --onlyvisible --class tint2
  xdotool search --sync --onlyvisible --class pcmanfm
  programs="$(pidof Xorg) $(pidof openbox) $(pidof tint2) $(pidof pcmanfm)"
  for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    worked
    before=$total
    sleep 0.5
    worked
    [ $((total - before)) -lt 5 ] && break
  done
  NOTIFY_SOCKET=$READY_SOCKET systemd-notify --ready
}
ready >/dev/null 2>&1 &
"""

# A grey that fits the panel, and letters that can be read at 1024x768.
XRESOURCES = """XTerm*faceName: DejaVu Sans Mono
XTerm*faceSize: 10
XTerm*background: #1d2733
XTerm*foreground: #e6edf3
XTerm*cursorColor: #e6edf3
XTerm*geometry: 96x28
XTerm*scrollBar: false
XTerm*saveLines: 4000
XTerm*selectToClipboard: true
"""

PANEL = """rounded = 0
border_width = 0
background_color = #16212c 100

rounded = 3
border_width = 0
background_color = #34618a 100

panel_items = LTSC
panel_size = 100% 34
panel_position = bottom center horizontal
panel_background_id = 1
panel_layer = top
wm_menu = 1

launcher_icon_theme = Tango
launcher_icon_size = 24
launcher_padding = 8 3 8
launcher_tooltip = 1
launcher_item_app = /usr/share/applications/session-terminal.desktop
launcher_item_app = /usr/share/applications/session-files.desktop
launcher_item_app = /usr/share/applications/session-browser.desktop

taskbar_mode = single_desktop
taskbar_padding = 4 3 4
task_text = 1
task_icon = 1
task_maximum_size = 180 28
task_padding = 6 2 4
task_font = DejaVu Sans 9
task_font_color = #e6edf3 100
task_active_background_id = 2
mouse_left = toggle_iconify
mouse_right = close

systray_padding = 6 3 4
systray_icon_size = 20

time1_format = %H:%M
time2_format = %d %B
time1_font = DejaVu Sans Bold 9
time2_font = DejaVu Sans 7
clock_font_color = #e6edf3 100
clock_padding = 10 0
"""

MENU = """<?xml version="1.0" encoding="UTF-8"?>
<openbox_menu xmlns="http://openbox.org/3.4/menu">
  <menu id="root-menu" label="Desktop">
    <item label="Terminal"><action name="Execute"><command>xterm</command></action></item>
    <item label="Files"><action name="Execute"><command>pcmanfm</command></action></item>
    <item label="Browser"><action name="Execute"><command>netsurf-gtk</command></action></item>
  </menu>
</openbox_menu>
"""

DESKTOP_ITEMS = """[*]
wallpaper_mode=color
desktop_bg=#24506e
desktop_fg=#ffffff
desktop_shadow=#10202c
desktop_font=DejaVu Sans 10
show_documents=0
show_trash=0
show_mounts=0
"""

# The launchers on the desktop start at a double click, without a question.
LIBFM = "[config]\nquick_exec=1\nsingle_click=0\n"

GTK_SETTINGS = "[Settings]\ngtk-icon-theme-name=Tango\ngtk-font-name=DejaVu Sans 10\n"


def launcher(name: str, command: str, icon: str) -> str:
    """A desktop entry."""
    return f"[Desktop Entry]\nType=Application\nName={name}\nExec={command}\nIcon={icon}\nTerminal=false\n"


LAUNCHERS = {
    "terminal": launcher("Terminal", "xterm", "utilities-terminal"),
    "files": launcher("Files", "pcmanfm", "system-file-manager"),
    "browser": launcher("Browser", "netsurf-gtk", "web-browser"),
}

OVERLAY = base_overlay(masked=("getty@tty1.service", "systemd-logind.service")) | Overlay(
    files={
        "etc/X11/xorg.conf.d/10-screen.conf": XORG,
        f"{SYSTEM}/desktop.service": DESKTOP_SERVICE,
        f"{SYSTEM}/qemu-guest-agent.service.d/after-desktop.conf": AGENT_AFTER_DESKTOP,
        "etc/skel/.Xresources": XRESOURCES,
        "etc/skel/.config/tint2/tint2rc": PANEL,
        "etc/skel/.config/openbox/menu.xml": MENU,
        "etc/skel/.config/pcmanfm/default/desktop-items-0.conf": DESKTOP_ITEMS,
        "etc/skel/.config/libfm/libfm.conf": LIBFM,
        "etc/skel/.config/gtk-3.0/settings.ini": GTK_SETTINGS,
        "etc/skel/.gtkrc-2.0": 'gtk-icon-theme-name="Tango"\ngtk-font-name="DejaVu Sans 10"\n',
        **{f"usr/share/applications/session-{name}.desktop": text for name, text in LAUNCHERS.items()},
        **{f"etc/skel/Desktop/{name}.desktop": text for name, text in LAUNCHERS.items()},
    },
    programs={
        "usr/local/bin/desktop": DESKTOP,
        "usr/local/bin/desktop-session": SESSION,
        "usr/local/bin/desktop-programs": PROGRAMS,
    },
    links={f"{SYSTEM}/multi-user.target.wants/desktop.service": "../desktop.service"},
)

RECIPE = Recipe(
    name="linux-desktop",
    kernel="linux-image-amd64",
    packages=(
        "systemd-sysv",
        "udev",
        "dbus",
        "kmod",
        "e2fsprogs",
        "iproute2",
        "procps",
        "less",
        "nano",
        "ca-certificates",
        "qemu-guest-agent",
        "xserver-xorg-core",
        "xserver-xorg-input-libinput",
        "xinit",
        "xauth",
        "x11-xserver-utils",
        "xdotool",
        "xclip",
        "openbox",
        "tint2",
        "xterm",
        "pcmanfm",
        "netsurf-gtk",
        "tango-icon-theme",
        "fonts-dejavu-core",
    ),
    overlay=OVERLAY,
    hooks=('chroot "$1" useradd --create-home --uid 1000 --user-group --shell /bin/bash user',),
    # Card and input devices are there before udev is: the X server need not wait for it.
    early_modules=(
        "virtio_pci",
        "virtio_console",
        "virtio_blk",
        "crc32c_generic",
        "ext4",
        "bochs",
        "evdev",
        "virtio_input",
        "psmouse",
    ),
    modules=(
        "virtio_net",
        "virtio-rng",
        "virtio_balloon",
        "virtio-gpu",
        "xhci-pci",
        "usbhid",
        "hid-generic",
        "af_packet",
        "overlay",
        "fuse",
        "qemu_fw_cfg",
        "isofs",
        "sr_mod",
        "ahci",
    ),
    kernel_arguments=(
        "console=ttyS0 quiet loglevel=1 reboot=t panic=-1 mitigations=off nokaslr cryptomgr.notests no_timer_check "
        "random.trust_cpu=on net.ifnames=0"
    ),
    disk_size="4G",
    unpack_kernel=True,
)


def build_linux_desktop(image_dir: Path, progress: Progress = no_progress) -> Image:
    """Build the image `linux-desktop` (about 300 MB downloaded, 350 MB kept, 4 GB of scratch space).

    Parameters
    ----------
    image_dir
        The image directory; made if need be.
    progress
        Told of the steps.

    Raises
    ------
    ProviderError
        If a tool or a package is missing; the message says what to install.
    """
    return build_debian(RECIPE, image_dir, progress)
