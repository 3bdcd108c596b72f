"""The journal namespace of an app: journald's files and units as text, and root's word only.

systemd-journald.service(8), journald.conf(5). Each app has a journald of its own, so that an app
that prints a lot removes only its own lines. The namespace is named like the app's user.
"""

from __future__ import annotations

from gatling.platform.server.units import OWNER, user

SIZE = "100M"
"""The journal of one app on disk. journald removes the oldest lines."""
CONFIGURATIONS = f"journald@{OWNER}-*.conf"
"""Pattern of the configuration files of all namespaces, in journald's directory."""
DROP_INS = f"systemd-journald*@{OWNER}-*.d"
"""Pattern of the directories with drop-ins of their units."""
UNITS = f"systemd-journald*@{OWNER}-*"
"""Pattern of their units."""
JOURNALS = f"*.{OWNER}-*"
"""Pattern of their directories, MACHINE.NAMESPACE. No app has a dot in its name."""


def configuration(app: str) -> tuple[str, str]:
    """The name and the text of the configuration of an app's journald."""
    return (
        f"journald@{user(app)}.conf",
        f"""\
# Written by Gatling. The log of one app.
[Journal]
SystemMaxUse={SIZE}
RuntimeMaxUse={SIZE}
# no app writes to the terminals of all users
ForwardToWall=no
ForwardToConsole=no
""",
    )


def service(app: str) -> str:
    """The unit of an app's journald."""
    return f"systemd-journald@{user(app)}.service"


def sockets(app: str) -> list[str]:
    """The units of the sockets of an app's journald."""
    return [f"systemd-journald{kind}@{user(app)}.socket" for kind in ("", "-varlink")]


def drop_ins(app: str) -> dict[str, str]:
    """The drop-ins by unit, by which only the app itself can write to its journal.

    systemd gives the directory of the sockets, with all that is in it, to the group of the service.
    So the service needs the group as well as the sockets. systemd starts and stops these units with
    the app's: several short commands within ten seconds must not exhaust their start limit, because
    systemd then starts no further unit of the app, and reports no failure.
    """
    head = "# Written by Gatling.\n[Unit]\nStartLimitIntervalSec=0\n"
    stream, varlink = sockets(app)
    return {
        stream: f"{head}[Socket]\nSocketMode=0660\nSocketGroup={user(app)}\n",
        varlink: head,
        service(app): f"{head}[Service]\nGroup={user(app)}\n",
    }
