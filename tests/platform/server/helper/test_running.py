"""What root's helper keeps of a program while it attends to it."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from gatling.platform.server.helper import running

if TYPE_CHECKING:
    from pathlib import Path


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


SYSTEMD_RUN = """#!/bin/sh
for word; do
  case "$word" in --property=LoadCredential=program:*) file=${word#*program:};; esac
done
[ -e never ] || [ "$(cat "$file")" = '{}' ] || exit 99
exit $(cat status)
"""
SYSTEMCTL = """#!/bin/sh
echo "$@" >> asked
[ "$1" != show ] || cat shown
"""


@pytest.mark.parametrize(
    ("status", "shown", "answer"),
    [
        (0, "", {"status": 0}),
        (7, "Result=exit-code\nExecMainCode=1\nExecMainStatus=7",
         {"status": 7, "result": "exit-code"}),
        # systemd-run's own words: it says 0 where something failed that the unit requires
        (0, "never", None), (1, "never", None),
        (9, "Result=oom-kill\nExecMainCode=2\nExecMainStatus=9",
         {"status": -9, "result": "oom-kill"}),
    ],
)  # fmt: skip
def test_what_was_never_started_has_not_succeeded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    shown: str,
    answer: dict[str, Any] | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(running, "RUN", tmp_path)
    for name, text in (("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "status").write_text(str(status))
    (tmp_path / "shown").write_text("" if shown == "never" else shown)
    if shown == "never":
        (tmp_path / "never").touch()
    unit, files = "gatling-run-shop.a.service", [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
    ours, its = socket.socketpair()
    with ours, its:
        if answer is None:
            with pytest.raises(running.NotStarted, match=f"journalctl -u {unit}"):
                running.run(unit, [], {}, files, its, on_gone=running.STOP)
        else:
            assert running.run(unit, [], {}, files, its, on_gone=running.STOP) == answer
    assert not list((tmp_path / "programs").iterdir())
    assert f"reset-failed {unit}" in (tmp_path / "asked").read_text()
