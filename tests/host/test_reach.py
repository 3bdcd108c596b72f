"""What a stranger reaches of apps, tried with sockets of this machine."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from gatling.errors import GatlingError
from gatling.host import reach

if TYPE_CHECKING:
    from pathlib import Path


def test_every_address_of_both_families_is_tried() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to act as nobody")
    found = reach.addresses()
    assert found[0] == "127.0.0.1"
    if "::1" not in found:
        pytest.skip("this machine has no IPv6")
    assert len(set(found)) == len(found)
    family = socket.AF_INET6
    with contextlib.closing(socket.create_server(("::", 0), family=family, backlog=64)) as listener:
        port = listener.getsockname()[1]
        places = [(address, port) for address in found if ":" in address]
        # also the addresses of one link, which need their interface
        assert reach.reached(places, "nobody") == places


def test_a_trial_that_fails_is_not_taken_for_a_closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to act as nobody")

    def fail(*_: object) -> bool:
        raise OSError("no sockets")

    monkeypatch.setattr(reach, "_connects", fail)
    with pytest.raises(GatlingError, match="could not try to connect"):
        reach.reached([("127.0.0.1", 1)], "nobody")


@pytest.mark.parametrize(("text", "faults"), [("2\n", 1), ("1\n", 0), ("0\n", 0), (None, 0)])
def test_syn_cookies(tmp_path: Path, text: str | None, faults: int) -> None:
    file = tmp_path / "tcp_syncookies"
    if text is not None:
        file.write_text(text)
    assert len(list(reach.cookies(file))) == faults
