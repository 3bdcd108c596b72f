"""What ends with a session, by /proc/PID/cgroup and logind's properties."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.platform.embedded import logout
from gatling.platform.embedded.logout import Login

if TYPE_CHECKING:
    from collections.abc import Callable

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
HYBRID = "9:memory:/\n1:name=systemd:/user.slice/user-1000.slice/session-c2.scope\n0::/x\n"
TERMINAL = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope\n"
UNIT = "0::/system.slice/cron.service\n"
CONTAINER = "0::/\n"


@pytest.mark.parametrize(
    ("cgroup", "lingers", "kills", "ends"),
    [
        (SESSION, False, False, False),
        (SESSION, False, True, True),
        (SESSION, True, True, True),  # lingering keeps the user's systemd, not a session
        (HYBRID, False, True, True),
        (HYBRID, False, False, False),
        (TERMINAL, False, False, True),
        (TERMINAL, True, True, False),
        (UNIT, False, True, False),
        (CONTAINER, False, True, False),
        ("", False, True, False),
    ],
)
def test_what_ends_with_the_session(cgroup: str, lingers: bool, kills: bool, ends: bool) -> None:
    assert Login("ann", lingers, kills).ends(cgroup) == ends


@pytest.mark.parametrize(
    ("settings", "kills"),
    [
        ('b true\nas 0\nas 1 "root"\n', True),
        ('b false\nas 0\nas 1 "root"\n', False),
        ('b true\nas 0\nas 2 "root" "ann"\n', False),
        ('b true\nas 1 "bob"\nas 0\n', False),
        ('b true\nas 2 "bob" "ann"\nas 0\n', True),
        ("", False),
    ],
)
def test_whose_processes_logind_kills(settings: str, kills: bool) -> None:
    assert logout.kills(settings, "ann") == kills


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Login], None]:
    def put(cgroup: str, login: Login) -> None:
        monkeypatch.setattr(logout, "_cgroup", lambda _: cgroup)
        monkeypatch.setattr(logout, "of_this_user", lambda: login)

    return put


def test_a_program_is_put_where_it_outlives_the_session(
    login: Callable[[str, Login], None],
) -> None:
    login(SESSION, Login("ann", lingers=True, kills=True))
    argv, needed = logout.outliving(["supervisord"])
    assert argv[:3] == ["systemd-run", "--user", "--scope"]
    assert argv[-2:] == ["--", "supervisord"]
    assert "XDG_RUNTIME_DIR" in needed
    for cgroup, lingers, kills in (
        (SESSION, True, False), (SESSION, False, True), (TERMINAL, True, True), (UNIT, True, True),
    ):  # fmt: skip
        login(cgroup, Login("ann", lingers, kills))
        assert logout.outliving(["supervisord"]) == (["supervisord"], {})


def test_the_advice_is_a_command(login: Callable[[str, Login], None]) -> None:
    login(TERMINAL, Login("ann", lingers=False, kills=False))
    assert logout.advice(1) == (
        "The apps stop when ann logs out. To keep them running: `loginctl enable-linger ann`."
    )
    login(SESSION, Login("ann", lingers=False, kills=True))
    assert "`loginctl enable-linger ann`, then `gatling down`" in str(logout.advice(1))
    login(SESSION, Login("ann", lingers=True, kills=True))
    assert "`gatling down` and `gatling up`" in str(logout.advice(1))
    login(SESSION, Login("ann", lingers=False, kills=False))
    assert logout.advice(1) is None
