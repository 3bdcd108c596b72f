"""The nftables table that limits access to the ports of apps on a server. Pure. nft(8).

An app's HTTP ports and those of its node are for nginx, Gatling, root and the app itself. Each
connection begins with a SYN, which carries the user of the socket that connects, and a SYN-ACK,
which carries the user of the socket that listens: both are checked, so that no neighbour connects
to an app, and none who has taken an app's port while it was down is given its visitors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TABLE = "gatling"
PORTS = "ports"
"""The set of the ports of all apps."""
EPMD = 4369
"""The port of Erlang's port mapper; Gatling's nodes have fixed ports instead."""


class Owned(NamedTuple):
    """The ports of one app, and the id of its user."""

    user: int
    ports: tuple[int, ...]


def table(apps: Sequence[Owned], callers: Iterable[int]) -> str:
    """The input of `nft -f`, which replaces the table in one step.

    `callers` may reach every app.
    """
    allowed = sorted(set(callers))
    owners = [f"{port} . {app.user}" for app in apps for port in app.ports]
    entering = [
        f"{port} . {user}"
        for app in apps
        for port in app.ports
        for user in sorted({*allowed, app.user})
    ]
    return f"""\
# Written by Gatling. The ports of apps are for the proxy, for Gatling and for the apps themselves.
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  {_set(PORTS, "inet_service", [str(port) for app in apps for port in app.ports])}
  {_set("apps", "uid", [str(app.user) for app in apps])}
  {_set("callers", "inet_service . uid", entering)}
  {_set("owners", "inet_service . uid", owners)}
  chain input {{
    type filter hook input priority filter; policy accept;
    iif != "lo" tcp dport @ports reject with tcp reset
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    tcp flags & (syn | ack) == syn tcp dport @ports jump calls
    tcp flags & syn == syn tcp sport @ports jump answers
    tcp flags & syn == syn tcp sport {EPMD} meta skuid @apps drop
  }}
  chain calls {{
    tcp dport . meta skuid @callers accept
    reject with tcp reset
  }}
  chain answers {{
    # a SYN-ACK that carries no user is nobody's either
    tcp sport . meta skuid @owners accept
    drop
  }}
}}
"""


def _set(name: str, kind: str, elements: Sequence[str]) -> str:
    listed = f" elements = {{ {', '.join(elements)} }};" if elements else ""
    return f"set {name} {{ type {kind};{listed} }}"
