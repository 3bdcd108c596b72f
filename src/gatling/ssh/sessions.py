"""How many SSH sessions the holder of one key may have open at the same time.

Each one costs processes and a connection to root's helper, so that without a limit one key could
keep all others waiting. A session holds a lock (flock(2)) that ends with it, however that happens.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from gatling import files
from gatling.errors import NotAllowed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatling.paths import Home
    from gatling.state.keys import Role

LIMITS: Mapping[Role, int] = {"reader": 16, "deployer": 48, "admin": 96}


@contextlib.contextmanager
def held(home: Home, key: str, role: Role) -> Iterator[None]:
    """Hold one of the key's places, also in the program that this process becomes.

    Raises NotAllowed when all are taken.
    """
    fd = _taken(home, key, role)
    try:
        yield
    finally:
        os.close(fd)


def _taken(home: Home, key: str, role: Role) -> int:
    directory = home.run / "sessions"
    directory.mkdir(mode=0o700, exist_ok=True)
    for number in range(LIMITS[role]):
        fd = os.open(directory / f"{key}.{number}", os.O_RDWR | os.O_CREAT, 0o600)
        if files.try_lock(fd):
            os.set_inheritable(fd, True)  # git, which this process may become, keeps it
            return fd
        os.close(fd)
    raise NotAllowed(
        f"{key} has {LIMITS[role]} sessions open here, which is the limit of a {role}.",
        hint="End one of them, such as a followed log in another window.",
    )
