"""Who may do what: every command there is, and the app that a command line names."""

from __future__ import annotations

import contextlib
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatling.cli import cli
from gatling.errors import Exit, GatlingError, InvalidInput, Misused, NotAllowed
from gatling.ssh import policy
from gatling.ssh.policy import Grant, Request
from tests.cli.conftest import tree
from tests.scale import scaled

EXAMPLES = settings(
    max_examples=scaled(100, 500),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

ADMIN = Grant("ann", "admin", frozenset({"*"}))
DEPLOYER = Grant("bob", "deployer", frozenset({"shop", "new"}))
ALL_DEPLOYER = Grant("eve", "deployer", frozenset({"*"}))
READER = Grant("rita", "reader", frozenset({"shop"}))
ALL_READER = Grant("rob", "reader", frozenset({"*"}))

LEAVES = {
    " ".join(names): command for names, command in tree(cli) if not isinstance(command, click.Group)
}
UNREACHABLE = {"init", "remote", "up", "down", "recover", "receive", "job"}


def may(grant: Grant, command: str, app: str | None = "shop") -> bool:
    try:
        policy.check(grant, Request(command, app))
    except NotAllowed:
        return False
    return True


def test_every_command_of_the_lists_exists_and_names_its_app() -> None:
    for name in (policy.READING | policy.DEPLOYING) - {policy.FETCH, policy.PUSH}:
        arguments = [p.name for p in LEAVES[name].params if isinstance(p, click.Argument)]
        assert (arguments[:1] == ["app"]) == (name not in policy.WITHOUT_APP), name


@pytest.mark.parametrize("command", sorted(LEAVES))
def test_every_command_has_somebody_who_may_use_it(command: str) -> None:
    on_host = (
        command.split(maxsplit=1)[0] in UNREACHABLE
        or command in ("watch run", "api")
        or (command.startswith("server ") and not command.startswith("server keys "))
    )
    assert may(ADMIN, command) == (not on_host)
    for reader in (READER, ALL_READER):
        assert may(reader, command) == (command in policy.READING)
    for deployer in (DEPLOYER, ALL_DEPLOYER):
        assert may(deployer, command) == (command in policy.READING | policy.DEPLOYING)


@pytest.mark.parametrize(
    "command",
    ["unload", "server keys add", "server keys list", "server keys remove", "server backup",
     "a command of tomorrow", "", "git-upload-archive", "app", "statu"],
)  # fmt: skip
def test_what_is_on_no_list_is_for_admins_at_most(command: str) -> None:
    for grant in (DEPLOYER, ALL_DEPLOYER, READER, ALL_READER):
        assert not may(grant, command)


@pytest.mark.parametrize("command", ["config list", "config get", "run", "console", "load"])
def test_secrets_and_code_are_not_for_readers(command: str) -> None:
    assert may(DEPLOYER, command)
    assert not may(READER, command)


@pytest.mark.parametrize("command", ["status", "logs", "audit", policy.FETCH])
def test_an_app_of_others(command: str) -> None:
    for grant in (DEPLOYER, READER):
        assert may(grant, command, "shop")
        assert not may(grant, command, "blog")
        assert not may(grant, command, None)
    for grant in (ADMIN, ALL_DEPLOYER, ALL_READER):
        assert may(grant, command, "blog")
    assert may(ADMIN, "audit", None)
    assert not may(ALL_DEPLOYER, "audit", None)


def test_who_may_make_an_app() -> None:
    for command in ("load", policy.PUSH):
        assert may(ADMIN, command, "other")
        assert may(ALL_DEPLOYER, command, "other")
        assert may(DEPLOYER, command, "new")
        assert not may(DEPLOYER, command, "other")
        assert not may(ALL_READER, command, "other")


@pytest.mark.parametrize(
    ("line", "command", "app"),
    [
        ("apps", "apps", None),
        ("apps --json", "apps", None),
        ("logs shop -n 5", "logs", "shop"),
        ("logs -n 5 shop", "logs", "shop"),
        ("logs -fn5 shop", "logs", "shop"),
        ("logs --lines=5 --since 15m shop -f", "logs", "shop"),
        ("logs -- shop", "logs", "shop"),
        ("deploy --strategy hot shop v7", "deploy", "shop"),
        ("deploy --confirm blog shop blog", "deploy", "shop"),
        ("audit", "audit", None),
        ("audit shop", "audit", "shop"),
        ("config set shop A=1 B=2", "config set", "shop"),
        ("config set --stdin blog shop", "config set", "shop"),
        ("run shop -- eval blog", "run", "shop"),
        ("run --release v7 shop blog", "run", "shop"),
        ("run shop -- --help", "run", "shop"),
        ("server keys add ann --app shop", "server keys add", None),
        ("unload shop --confirm blog", "unload", "shop"),
    ],
)
def test_the_app_is_what_the_command_takes_for_it(line: str, command: str, app: str | None) -> None:
    assert policy.allowed(ADMIN, line.split()) == Request(command, app)


@pytest.mark.parametrize(
    "line",
    ["--help", "-h", "--version", "config --help", "config", "config set -h", "up --help",
     "deploy --help", "deploy blog --help", "run --help blog", "server keys"],
)  # fmt: skip
def test_anybody_may_ask_for_help(line: str) -> None:
    assert policy.allowed(READER, line.split()).is_help


@pytest.mark.parametrize(
    "line",
    ["bash", "-c", "--host x apps", "--version apps", "ssh-command ann", "config sett", "CONFIG",
     "apps\u200b", "server nope", "sftp-server", "internal-sftp", "scp -t x"],
)  # fmt: skip
def test_what_is_no_command_is_refused(line: str) -> None:
    with pytest.raises(NotAllowed, match="There is no command"):
        policy.allowed(ADMIN, line.split())


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("status", "Missing argument"),
        ("status --nope shop", "No such option"),
        ("logs shop -n", "requires an argument"),
    ],
)
def test_what_a_command_cannot_read(line: str, why: str) -> None:
    with pytest.raises(Misused, match=why) as caught:
        policy.allowed(ADMIN, line.split())
    assert caught.value.exit_status == Exit.USAGE
    assert "Usage: gatling" in caught.value.hint


@pytest.mark.parametrize("app", ["../up", "Shop", "", "shop.git", "a b", "-x", "shop\n"])
def test_a_name_that_cannot_be_an_apps(app: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be an app's name"):
        policy.allowed(ADMIN, ["status", "--", app])


@pytest.mark.parametrize(
    "line",
    ["config set shop --file A /etc/passwd", "config set --file A - shop",
     "config set shop B=1 --file A x --no-restart"],
)  # fmt: skip
def test_no_file_of_the_host_is_read(line: str) -> None:
    with pytest.raises(NotAllowed, match="--file would read a file") as caught:
        policy.allowed(ADMIN, line.split())
    assert "--stdin" in caught.value.hint


def test_the_app_that_a_domain_is_taken_from_is_checked_as_well() -> None:
    for grant, app, other, fine in (
        (DEPLOYER, "shop", "new", True), (DEPLOYER, "shop", "blog", False),
        (DEPLOYER, "blog", "shop", False), (ALL_DEPLOYER, "shop", "blog", True),
        (ADMIN, "shop", "blog", True),
    ):  # fmt: skip
        for line in (f"domains add {app} x.test --from {other}",
                     f"domains add --from={other} {app} x.test"):  # fmt: skip
            if fine:
                found = policy.allowed(grant, line.split())
                assert (found.app, found.other_app) == (app, other)
            else:
                with pytest.raises(NotAllowed, match="has no access to an app blog"):
                    policy.allowed(grant, line.split())


def test_no_option_that_names_another_app_is_forgotten() -> None:
    for name, command in LEAVES.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.metavar == "OTHER":
                assert parameter.name == "other_app", name


def test_no_option_for_files_is_forgotten() -> None:
    @click.command("x")
    @click.argument("app")
    @click.option("--one", "-o", type=click.Path())
    @click.option("--two", type=(str, click.Path()), multiple=True)
    @click.argument("rest", nargs=-1, type=click.File("r"))
    def command(**_: object) -> None: ...

    def option(*words: str) -> str | None:
        context = click.Context(command, info_name="x")
        return policy._parsed(command, context, "x", list(words)).file_option

    assert option("shop") is None
    assert option("shop", "--one", "a") == option("shop", "-oa") == "--one"
    assert option("--two", "a", "b", "shop") == "--two"
    assert option("shop", "file") == "rest"


VALUES = st.sampled_from(
    ["shop", "blog", "v7", "5", "hot", "A=1", "15m", "eval", "--", "-", "", "-x", "shop,blog"]
) | st.text(max_size=8)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command with its options, strangers' options and values, in any order."""
    name = draw(st.sampled_from(sorted(LEAVES)))
    options = [option for p in LEAVES[name].params for option in p.opts if option[:1] == "-"]
    some = st.sampled_from([*options, "--json", "-n5", "--strategy=hot", "--confirm"])
    return [*name.split(), *draw(st.lists(st.one_of(VALUES, VALUES, some), max_size=6))]


class Invoked(Exception):
    """A command would have run now."""


@pytest.fixture
def invoked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What click would run, with which app; it does not run."""
    ran: list[tuple[str, Any]] = []
    real = click.Command.invoke

    def invoke(command: click.Command, context: click.Context) -> Any:
        if isinstance(command, click.Group):
            return real(command, context)
        ran.append((context.command_path.removeprefix("gatling "), context.params.get("app")))
        raise Invoked

    monkeypatch.setattr(click.Command, "invoke", invoke)
    return ran


@EXAMPLES
@given(words=lines())
@example(words=["run", "blog", "--release", "shop", "shop"])
@example(words=["config", "set", "--stdin", "shop", "--", "blog", "A=1"])
@example(words=["deploy", "--confirm", "shop", "--", "blog"])
def test_the_app_that_is_checked_is_the_app_that_is_used(
    invoked: list[tuple[str, Any]], words: list[str]
) -> None:
    invoked.clear()
    try:
        request = policy.understand(words)
    except GatlingError:
        return
    if request.file_option is not None:
        return
    with contextlib.suppress(Invoked, click.ClickException, click.exceptions.Exit):
        cli.main(list(words), standalone_mode=False, prog_name="gatling")
    if request.is_help:
        assert invoked == []
    assert invoked in ([], [(request.command, request.app)])
