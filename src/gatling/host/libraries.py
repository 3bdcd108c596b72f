"""Libraries of the system that were replaced while programs use them."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from gatling.platform.postgres.pooler import PACKAGE

NEEDRESTART = Path("/etc/needrestart/conf.d/gatling.conf")
NEEDRESTART_TEXT = """\
# Written by Gatling. A restart by needrestart(1) would cut all connections of an app, and end
# builds and deployments. `gatling restart APP` replaces the instances one after the other.
# `gatling server check` lists the apps that use libraries of before an upgrade.
$nrconf{override_rc}{qr(^gatling)} = 0;
"""
RESTART_NGINX = Path("/etc/needrestart/restart.d/nginx.service")
"""The program that needrestart runs to restart nginx, in place of systemctl."""
RESTART_NGINX_TEXT = """\
#!/bin/sh
# Written by Gatling. needrestart(1) runs this program instead of `systemctl restart nginx`, which
# would cut all connections. nginx executes itself again, with the libraries of now, and takes over
# the listening sockets. The processes of before serve their open connections and then end. systemd
# reads the new process from the PID file.
set -eu
file=${1:-/run/nginx.pid}
before=$(cat "$file")
if [ -e "$file.oldbin" ] && kill -0 "$(cat "$file.oldbin")" 2>/dev/null; then
    echo "nginx still serves connections of before an earlier upgrade, and is left as it is." >&2
    exit 0
fi
nginx -t -q
kill -USR2 "$before"
for _ in $(seq 100); do
    now=$(cat "$file" 2>/dev/null || true)
    if [ -e "$file.oldbin" ] && [ -n "$now" ] && [ "$now" != "$before" ]; then
        kill -QUIT "$before"
        exit 0
    fi
    sleep 0.1
done
echo "nginx did not execute itself again, and is restarted." >&2
exec systemctl restart nginx.service
"""
SYSTEM = "/usr/lib/"
_REPLACED = re.compile(r" (/\S+\.so\S*) \(deleted\)$", re.MULTILINE)
"""A mapping of a library whose file is gone: proc_pid_maps(5)."""


def replaced(uid: int, within: str = SYSTEM, *, pooler: bool = False) -> list[str]:
    """The names of libraries in a directory that a user's programs use, and that were replaced.

    Those of the pool of an app count separately, because its unit is another one. Only root sees
    those of other users.
    """
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            its_own = (process / "comm").read_text().strip() == PACKAGE
            if process.stat().st_uid == uid and its_own == pooler:
                paths = _REPLACED.findall((process / "maps").read_text())
                found |= {Path(path).name for path in paths if path.startswith(within)}
    return sorted(found)
