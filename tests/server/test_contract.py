"""A server fulfils what every platform has to (tests/contract.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests import contract

if TYPE_CHECKING:
    from tests.server.server import Server


def test_a_server_is_a_platform(server: Server) -> None:
    program = "/var/lib/gatling/home/contract.py"
    text = Path(contract.__file__).read_text()
    server.box.exec(["tee", program], user="gatling", stdin=text)
    try:
        done = server.box.exec(
            ["/opt/gatling/bin/python", "-I", program], user="gatling", check=False, timeout=500
        )
    finally:
        server.box.exec(["rm", program])
    assert (done.returncode, done.stdout) == (0, f"{len(contract.CHECKS)} checks, 0 failed\n"), (
        done.stdout + done.stderr
    )
