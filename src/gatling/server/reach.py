"""Whether the ports of apps are closed to the network and to neighbours: tried, not assumed.

Part of `gatling server check`. A process of the user nobody, who may do nothing, connects to every
port on which an app listens, on loopback and on each address that the network reaches.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import GatlingError
from gatling.supervisor import firewall, units

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gatling.state.apps import App

STRANGER = "nobody"
SECONDS = 2.0
EPMD = (
    f"An epmd listens on port {firewall.EPMD} of every address and names the nodes it knows.",
    "`systemctl disable --now epmd.socket epmd.service`, unless another program needs it.",
)
Place = tuple[str, int]
Fault = tuple[str, str]
"""What is wrong, and what to do about it."""


def faults(apps: Sequence[App], *, stranger: str = STRANGER) -> Iterator[Fault]:
    """What a stranger reaches of these apps."""
    missing = missing_ports(apps, _table())
    if missing:
        named = ", ".join(map(str, missing))
        hint = f"`systemctl restart {units.FENCE}`; `journalctl -u {units.FENCE}` says why not."
        yield f"The kernel's table of guarded ports lacks {named}.", hint
    listening = _listening()
    owners = {port: app.name for app in apps for port in app.every_port}
    places = [(address, port)
              for port in sorted(owners.keys() & listening.keys())
              for address in ("127.0.0.1", *_addresses())]  # fmt: skip
    for address, port in reached(places, stranger):
        what = f"The user {stranger} reaches {owners[port]} on {address}, port {port}."
        yield what, f"`systemctl restart {units.FENCE}`"
    if any(_is_open(address) for address in listening.get(firewall.EPMD, ())):
        yield EPMD


def others(apps: Sequence[App]) -> Iterator[str]:
    """Further ports on which apps listen for the network, in words: nothing guards those."""
    import psutil  # noqa: PLC0415 (slow to load, seldom needed)

    users = {units.user(app.name): app for app in apps}
    for one in psutil.net_connections(kind="tcp"):
        if one.status != psutil.CONN_LISTEN or not one.laddr or not _is_open(one.laddr.ip):
            continue
        with contextlib.suppress(psutil.Error, TypeError):
            app = users.get(psutil.Process(one.pid).username())
            if app is not None and one.laddr.port not in app.every_port:
                yield f"{app.name} also listens on port {one.laddr.port}, open to the network."


def missing_ports(apps: Sequence[App], table: str) -> list[int]:
    """Ports of apps that a table, as nft lists it, does not guard."""
    guarded = {int(word) for word in table.replace(",", " ").split() if word.isdecimal()}
    return [port for app in apps for port in app.every_port if port not in guarded]


def reached(places: Iterable[Place], user: str) -> list[Place]:
    """Of these addresses and ports those to which a process of that user can connect; as root."""
    wanted = list(places)
    if not wanted:
        return []
    entry = pwd.getpwnam(user)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            found = "".join(f"{at}\n" for at, place in enumerate(wanted) if _connects(*place))
            os.write(writing, found.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        told = answers.read().split()
    os.waitpid(child, 0)
    return [wanted[int(at)] for at in told]


def _connects(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as probe:
        probe.settimeout(SECONDS)
        return probe.connect_ex((address, port)) == 0


def _table() -> str:
    try:
        return process.output(["nft", "list", "table", "inet", firewall.TABLE])
    except GatlingError:
        return ""


def _listening() -> dict[int, list[str]]:
    import psutil  # noqa: PLC0415 (slow to load, seldom needed)

    found: dict[int, list[str]] = {}
    for one in psutil.net_connections(kind="tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr:
            found.setdefault(one.laddr.port, []).append(one.laddr.ip)
    return found


def _addresses() -> list[str]:
    import psutil  # noqa: PLC0415 (slow to load, seldom needed)

    every = [one for each in psutil.net_if_addrs().values() for one in each]
    return [one.address for one in every
            if one.family == socket.AF_INET and not one.address.startswith("127.")]  # fmt: skip


def _is_open(address: str) -> bool:
    return not address.startswith("127.") and address not in ("::1", "::ffff:127.0.0.1")
