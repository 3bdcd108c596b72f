"""The table of nftables that keeps the ports of apps to themselves, written and taken into use."""

import contextlib
import pwd
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gatling import files
from gatling.platform.server import firewall, units

FILE = Path("/etc/gatling/ports.nft")
"""Root's; gatling-ports.service loads it at boot."""
NGINX = Path("/etc/nginx/nginx.conf")
PROXIES = ("www-data", "nginx")
"""The users of nginx in Debian's packages and in nginx's own."""
USER = re.compile(r"^[ \t]*user[ \t]+([a-z_][a-z0-9_-]*)", re.MULTILINE)


def write(apps: Mapping[str, Sequence[int]], call: Callable[..., object]) -> None:
    """Take the table for these apps into use; raises what `call`, which runs a program, raises.

    An app whose user is not there has no processes, so nobody may use its ports.
    """
    owned = []
    for name, ports in sorted(apps.items()):
        with contextlib.suppress(KeyError):
            owned.append(firewall.Owned(pwd.getpwnam(units.user(name)).pw_uid, tuple(ports)))
    files.write(FILE, firewall.table(owned, callers()), mode=0o644)
    call(["nft", "-f", str(FILE)])


def callers() -> set[int]:
    """The ids of the users that may reach every app: root, Gatling, nginx."""
    named = [units.OWNER, *PROXIES]
    with contextlib.suppress(OSError):
        named += USER.findall(NGINX.read_text(errors="replace"))
    found = {0}
    for name in named:
        with contextlib.suppress(KeyError):
            found.add(pwd.getpwnam(name).pw_uid)
    return found
