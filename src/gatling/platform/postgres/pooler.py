"""PgBouncer between an app and its databases: its configuration and its versions. Pure.

Each app has a PgBouncer of its own, which runs as the app's user. So PostgreSQL takes its
connections for those of the app, and the socket is closed to everybody else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = "pgbouncer"
CONSOLE = "pgbouncer"
"""The name of the database that is PgBouncer itself: no other can have it."""
SIZE = 20
"""Connections to each database, unless another number is chosen: PgBouncer's own default."""
MOST = 1000
"""The largest size. max_connections of a database is smaller."""
CLIENTS = 1000
"""Connections that the nodes of an app may open to its pool."""
PREPARED = (1, 21)
"""The first version that keeps prepared statements apart in a pool of transactions."""
STATEMENTS = 200
"""Prepared statements that the pool keeps for each of its connections."""
STOP_SECONDS = 10.0
"""Time limit for open transactions when a pool is stopped."""


def variable(direct: str) -> str:
    """The config variable with the URL of a pool, by that with the database's own URL.

    DATABASE_URL becomes DATABASE_CONNECTION_POOL_URL, as on Heroku.
    """
    return f"{direct.removesuffix('_URL')}_CONNECTION_POOL_URL"


def size(text: str) -> int:
    """The size of a pool; raises InvalidInput."""
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text) or int(text) > MOST:
        raise InvalidInput(f"{text!r} is not a size of a pool. Use a number from 1 to {MOST}.")
    return int(text)


def version(said: str) -> tuple[int, int] | None:
    """The version in the output of `pgbouncer --version`."""
    found = re.match(r"PgBouncer (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def configuration(
    role: str, sockets: str, databases: Mapping[str, str], size: int, *, prepared: bool,
    pid_file: str = "",
) -> str:  # fmt: skip
    """pgbouncer.ini: a pool of `size` connections to each of these databases.

    `databases` has the directory of each one's socket, and `sockets` is that of the pool's own.
    """
    from gatling.platform.postgres.clusters import PORT  # few commands write one

    lines = [
        f"{name} = host={_quoted(directory)} port={PORT} dbname={name} user={role}"
        for name, directory in sorted(databases.items())
        if name != CONSOLE
    ]
    values = {
        "pool_mode": "transaction",
        "default_pool_size": str(size),
        "max_client_conn": str(CLIENTS),
        "listen_port": str(PORT),
        "unix_socket_dir": sockets,
        "unix_socket_mode": "0700",
        # only the app's user reaches the socket, and each database names the role
        "auth_type": "any",
        # a database that was restarted is used again after a second
        "server_login_retry": "1",
        "ignore_startup_parameters": "extra_float_digits",
        "log_connections": "0",
        "log_disconnections": "0",
        "log_stats": "0",
    }
    if prepared:
        values["max_prepared_statements"] = str(STATEMENTS)
    if pid_file:
        values["pidfile"] = pid_file
    lines += ["[pgbouncer]", *(f"{name} = {value}" for name, value in values.items())]
    return "\n".join(["; Written by Gatling.", "[databases]", *lines, ""])


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
