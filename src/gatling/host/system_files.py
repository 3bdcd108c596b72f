"""The files of root's that Gatling writes on a server, with their text."""

from __future__ import annotations

import pwd
from pathlib import Path

from gatling.host import completions, libraries, webserver
from gatling.host.machine import COMMAND, UNITS, placed
from gatling.paths import SERVER
from gatling.platform import enter
from gatling.platform.server import (
    backing_up,
    draining,
    notifying,
    obtaining,
    recovery_units,
    sampling,
    timers,
    units,
)
from gatling.platform.server.helper import firewall, nginx, service

SOCKETS = ("gatling-helper.socket", "gatling-logs.socket")
"""The sockets on which root's helper takes Gatling's requests."""
HELPER = "gatling-helper.service"
"""The service that answers requests on the first of them."""
FORMER = (UNITS / "gatling-helper@.service",)
"""Files of earlier versions, which are removed."""
MAX_READERS = 64
"""Logs that are read or followed at the same time: each costs two processes of root's."""
TMPFILES = Path("/etc/tmpfiles.d/gatling.conf")
SSHD = Path("/etc/ssh/sshd_config.d/gatling.conf")
SSHD_TEXT = f"""\
# Written by Gatling. Keys and their permissions are in {SERVER}/home/.ssh/authorized_keys.
Match User {units.OWNER}
    AuthenticationMethods publickey
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    AuthorizedKeysFile .ssh/authorized_keys
    DisableForwarding yes
    PermitUserRC no
    ClientAliveInterval 15
    ClientAliveCountMax 4
Match all
"""


def system_files() -> dict[Path, str]:
    """The files of root's that Gatling writes, with their text."""
    helper, launcher = placed(Path(str(service.__file__))), placed(Path(str(enter.__file__)))
    try:
        uid = str(pwd.getpwnam(units.OWNER).pw_uid)
    except KeyError:  # a dry run, before the user is made
        uid = "UID"
    return {
        UNITS / f"user-{uid}.slice.d" / "gatling.conf": units.session_slice(),
        UNITS / f"user@{uid}.service": units.NO_MANAGER,
        UNITS / f"user-runtime-dir@{uid}.service.d" / "gatling.conf": units.KEPT_DIRECTORY,
        UNITS / "gatling@.service": units.template(SERVER, launcher),
        UNITS / units.FENCE: units.fence_service(firewall.FILE),
        UNITS / "gatling-recover.service": recovery_units.recover_service(COMMAND),
        UNITS / "gatling-recovery.service": recovery_units.recovery_service(COMMAND),
        UNITS / "gatling-recovery.timer": recovery_units.recovery_timer(),
        UNITS / obtaining.SERVICE: obtaining.service(COMMAND),
        UNITS / obtaining.TIMER: obtaining.timer(),
        UNITS / obtaining.SLICE: obtaining.all_together(),
        UNITS / backing_up.SERVICE: backing_up.service(COMMAND),
        UNITS / backing_up.TIMER: backing_up.timer(),
        UNITS / draining.SERVICE: draining.service(COMMAND),
        UNITS / sampling.SERVICE: sampling.service(COMMAND),
        UNITS / notifying.SERVICE: notifying.service(COMMAND),
        UNITS / "gatling-helper.socket": units.helper_socket(),
        UNITS / HELPER: units.helper_service(helper),
        UNITS / "gatling-logs.socket": units.logs_socket(MAX_READERS),
        UNITS / "gatling-logs@.service": units.logs_service(helper),
        UNITS / timers.SERVICE: timers.service(COMMAND),
        TMPFILES: units.temporary_files(),
        **completions.FILES,
        SSHD: SSHD_TEXT,
        libraries.NEEDRESTART: libraries.NEEDRESTART_TEXT,
        libraries.RESTART_NGINX: libraries.RESTART_NGINX_TEXT,
        webserver.DROP_IN: webserver.DROP_IN_TEXT,
        nginx.INCLUDE: (
            "# Written by Gatling; see there.\n"
            f"include {nginx.DIRECTORY}/sites*.conf;\n"
        ),
    }  # fmt: skip
