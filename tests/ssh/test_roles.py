"""Every command over SSH with a key of each role: through the forced command's entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from gatling.cli import cli
from gatling.errors import Exit
from tests.cli.conftest import tree
from tests.ssh.roles import COMMANDS, HOLDERS, line, may
from tests.ssh.visits import Server, new_server

if TYPE_CHECKING:
    from collections.abc import Iterator

ARGUMENTS = {
    " ".join(names): [p for p in command.params if isinstance(p, click.Argument)]
    for names, command in tree(cli)
    if not isinstance(command, click.Group)
}
OF_AN_APP = [name for name, given in ARGUMENTS.items() if given and given[0].name == "app"]
ONLY_HERE = [name for name, typed in COMMANDS.items() if typed.least == "nobody"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A home that no command of these tests changes."""
    with new_server() as made:
        yield made


@pytest.fixture(scope="module")
def kept() -> Iterator[Server]:
    """A home that is as it was made for each test of `own`."""
    with new_server() as made:
        made.keep()
        yield made


@pytest.fixture
def own(kept: Server) -> Iterator[Server]:
    """A home for one test."""
    yield kept
    kept.down()
    kept.restore()


def test_no_command_is_missing() -> None:
    assert set(COMMANDS) == set(ARGUMENTS)


@pytest.mark.parametrize("role", HOLDERS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_role_may_use_a_command_or_is_refused_and_recorded(
    server: Server, capfd: pytest.CaptureFixture[str], command: str, role: str
) -> None:
    name, before = HOLDERS[role], server.audit()
    seen = server.visit(name, line(command))
    err = capfd.readouterr().err
    app = COMMANDS[command].app if command in OF_AN_APP else None
    if may(role, command):
        assert (seen.status, [path for path, _ in seen.ran], err) == (Exit.OK, [command], "")
        assert [given.get("app", app) for _, given in seen.ran] == [app]
        assert server.audit() == before
        return
    assert (seen.status, seen.ran, seen.became) == (Exit.REFUSED, [], None)
    if command in ONLY_HERE:
        assert f" !     `gatling {command}` is not available over SSH." in err
        assert "on your own machine" in err
    else:
        assert f" !     {name} is a {role} and may not use `gatling {command}`." in err
    newest, *older = server.audit()
    assert older == before
    assert (newest.actor, newest.app, newest.action) == (name, app, "refused")
    assert newest.detail == command


@pytest.mark.parametrize("command", sorted({*OF_AN_APP} - {*ONLY_HERE}))
def test_an_app_of_others_is_refused_and_recorded(
    server: Server, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    for role, name in HOLDERS.items():
        seen = server.visit(name, line(command, "blog"))
        err = capfd.readouterr().err
        if role == "admin":
            assert (seen.status, [path for path, _ in seen.ran]) == (Exit.OK, [command])
            continue
        assert (seen.status, seen.ran) == (Exit.REFUSED, [])
        assert (f"{name} has no access to an app blog." in err) == may(role, command)
        newest = server.audit()[0]
        assert (newest.actor, newest.app, newest.detail) == (name, "blog", command)


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {*ONLY_HERE}))
def test_typical_mistakes_are_answered_with_the_usage_and_not_recorded(
    server: Server, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    before = server.audit()
    # what comes after `run` is the release's own
    wrong = {f"{command} --nope": "No such option '--nope'"} if command != "run" else {}
    if any(one.required for one in ARGUMENTS[command]):
        wrong[command] = "Missing argument"
    for typed, why in wrong.items():
        assert server.visit("ann", typed).status == Exit.USAGE
        err = capfd.readouterr().err
        assert why in err
        assert f"Usage: gatling {command}" in err
    assert server.audit() == before


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ONLY_HERE])
def test_the_least_role_that_may_has_the_command_carried_out(
    own: Server, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    typed = COMMANDS[command]
    if typed.first:
        assert own.carry_out("ann", typed.first) == Exit.OK
    status = own.carry_out(HOLDERS[typed.least], line(command), typed.stdin)
    said = "".join(capfd.readouterr())
    assert (status, typed.said in said) == (typed.status, True), said
    assert "Traceback" not in said
    assert not [entry for entry in own.audit() if entry.action == "refused"]
