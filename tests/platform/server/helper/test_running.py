"""What root's helper keeps of a program while it attends to it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from gatling.platform.server.helper import running

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_secrets_of_a_helper_that_was_killed_go_with_the_next_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "RUN", tmp_path)
    killed, lock = running.credential("gatling-run-shop.a.service", {"env": {"KEY": "secret"}})
    attended, other = running.credential("gatling-run-shop.b.service", {"env": {}})
    assert json.loads(killed.read_text()) == {"env": {"KEY": "secret"}}
    os.close(lock)  # as the kernel does when a process is gone
    last, third = running.credential("gatling-run-shop.c.service", {"env": {}})
    assert sorted((tmp_path / "programs").iterdir()) == [attended, last]
    os.close(other)
    os.close(third)
