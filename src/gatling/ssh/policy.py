"""The permissions over SSH. Pure: it runs nothing and knows neither home nor state.

A request is understood by the parser of the very command that would run it, so that the app that is
checked is the app that is used, wherever options stand. The parser is not loaded for git, whose
pushes and fetches are most of what comes.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gatling import names, visible
from gatling.errors import NotAllowed
from gatling.state.keys import EVERY_APP
from gatling.text import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

    from gatling.cli.visitor import Visitor
    from gatling.state.keys import Role

FETCH = "git-upload-pack"
PUSH = "git-receive-pack"

READING = frozenset(
    {
        "apps",
        "status",
        "stats",
        "metrics",
        "info",
        "open",
        "whoami",
        "help",
        "version",
        "completion",
        "releases",
        "diff",
        "deployments",
        "logs",
        "plan",
        "audit",
        "domains list",
        "drains list",
        "watch show",
        "watch status",
        "dashboard",
        "certificates list",
        "db list",
        "db info",
        "db backups",
        "db forks",
        "toolchain list",
        "certificates show",
        "auth list",
        "settings list",
        "jobs list",
        "jobs runs",
        FETCH,
    }
)
DEPLOYING = frozenset(
    {
        "load",
        "deploy",
        "rollback",
        "restart",
        "start",
        "stop",
        "scale",
        "build clean",
        "run",
        "console",
        # keys of readers get no terminal
        "top",
        # the values are secrets: also to read them is not for readers
        "config list",
        "config get",
        "config set",
        "config unset",
        "deploy-key create",
        "deploy-key show",
        "deploy-key remove",
        "settings set",
        "settings unset",
        "domains add",
        "domains remove",
        "certificates add",
        "certificates issue",
        "certificates renew",
        "certificates remove",
        "db create",
        "db psql",
        "db attach",
        "db detach",
        "db backup",
        "db schedule",
        "db restore",
        "db fork",
        "db upgrade",
        "db promote",
        "db pool",
        "toolchain use",
        "auth add",
        "auth remove",
        "maintenance on",
        "maintenance off",
        "lock",
        "unlock",
        "jobs run",
        "jobs cancel",
        PUSH,
    }
)
WITHOUT_APP = frozenset(
    {
        "apps",
        "dashboard",
        "db forks",
        "db list",
        "metrics",
        "toolchain list",
        "watch status",
        "whoami",
        "help",
        "version",
        "completion",
    }
)
"""The commands without an app for others than admins; each must check the grant by itself."""

_BY_ROLE = {"reader": READING, "deployer": READING | DEPLOYING}
_ROLES = {"reader": "a reader", "deployer": "a deployer", "admin": "an admin"}
REMOTE = ("server keys",)
"""The commands for admins among those of `_local`."""
_INSTEAD = {
    "platform add": "Give the kubeconfig on standard input: gatling platform add prod < FILE. A"
    " registry with a password is named on the server itself."
}
"""The way to give the content of a file over SSH."""
MAX_AUDITED = 40
"""Characters of a refused word that the audit keeps."""


class Grant(Struct, frozen=True):
    """The permissions of a key's holder."""

    name: str
    role: Role
    apps: frozenset[str]

    def covers(self, app: str) -> bool:
        """Whether it is for this app, be there one of that name or not."""
        return self.role == "admin" or EVERY_APP in self.apps or app in self.apps


class Request(Struct, frozen=True):
    """A command line, understood."""

    command: str
    """`deploy`, `config set`, `git-receive-pack`."""
    app: str | None = None
    file_option: str | None = None
    """An option or argument in use that would read or write a file of the host."""
    is_help: bool = False
    """Whether it only asks how the command is used."""
    other_app: str | None = None
    """A second app, from which something is taken."""


def allowed(grant: Grant, words: Sequence[str]) -> Request:
    """Parse the words (as typed after `gatling`) into a request that the grant permits.

    Raises NotAllowed; Misused, or InvalidInput for an app's name that cannot be one.
    """
    request = understand(words, visitor(grant))
    check(grant, request)
    return request


def visitor(grant: Grant, address: str = "gatling@SERVER") -> Visitor:
    """The holder of the key for the command line. `address` is that of this server."""
    from gatling.cli.visitor import Visitor

    which = "" if grant.role == "admin" or EVERY_APP in grant.apps else listed(sorted(grant.apps))
    return Visitor(
        may=functools.partial(reaches, grant),
        is_admin=grant.role == "admin",
        address=address,
        greeting=f"{grant.name} is {_ROLES[grant.role]}{f' of {which}' if which else ''}."
        f" This key may use the commands below.\n\nHow: ssh {address} COMMAND, or inside a project"
        " whose git remote leads here: gatling COMMAND",
    )


def reaches(grant: Grant, path: str) -> bool:
    """Whether a command, or one below it, is for the holder of the key."""
    if grant.role == "admin":
        there = any(_below(command, (path,)) for command in REMOTE)
        return there or not _below(path, _local()) or _below(path, REMOTE)
    return any(_below(command, (path,)) for command in _BY_ROLE[grant.role])


def understand(words: Sequence[str], visitor: Visitor | None = None) -> Request:
    """Parse the words into a request, as their command will. Nothing is run, no file opened.

    Raises NotAllowed where there is no such command, Misused, or InvalidInput. A guess at what was
    meant is one that the visitor may use.
    """
    import click

    from gatling.cli import cli, remote, suggestions
    from gatling.cli import words as wording
    from gatling.cli.groups import Group

    typed = remote.read(cli, words)
    if typed == ["--version"]:
        return Request("", is_help=True)
    found = wording.find(cli, typed)
    command, context, path, rest = found.command, found.context, found.path, found.rest
    if isinstance(command, Group):
        if not rest or rest[0] in wording.HELP:
            return Request(" ".join(path), is_help=True)
        context.find_root().obj = visitor
        known = command.shown(context)
        hint = suggestions.for_command([*path, *rest], len(path), known, visitor)
        raise NotAllowed(
            f"There is no command {' '.join([*path, _shortened(rest[0])])!r}.{hint}",
            hint=f"`{f'ssh {visitor.address}' if visitor else 'gatling'} help` lists the commands."
            " There is no shell here.",
        )
    try:
        return _parsed(command, context, " ".join(path), rest)
    except click.UsageError as error:
        raise suggestions.misused(error, context) from None


def for_audit(words: Sequence[str]) -> str:
    """The command that the words name, and the first word that names none.

    Never more of them, and nothing after a `=`: the rest may be a secret.
    """
    import click

    from gatling.cli import cli, habits
    from gatling.cli import words as wording

    found = wording.find(cli, habits.translated(cli, words))
    if not isinstance(found.command, click.Group) or not found.rest:
        return " ".join(found.path)
    word, given, _ = visible.one_line(found.rest[0]).partition("=")
    return " ".join(("no command:", *found.path, _shortened(word + ("=…" if given else ""))))


def _shortened(word: str) -> str:
    return word if len(word) <= MAX_AUDITED else f"{word[:MAX_AUDITED]}…"


def check(grant: Grant, request: Request) -> None:
    """Raise NotAllowed unless the grant is enough for the request."""
    command = request.command
    if request.is_help:
        return
    by_git = command in (FETCH, PUSH)
    if not by_git and _below(command, _local()) and not _below(command, REMOTE):
        raise NotAllowed(
            f"`gatling {command}` is not available over SSH.",
            hint="Run `init` on your own machine, and the others on the server itself.",
        )
    if grant.role != "admin" and command not in _BY_ROLE[grant.role]:
        raise NotAllowed(f"{grant.name} is a {grant.role} and may not use {_named(command)}.")
    if request.file_option is not None:
        raise NotAllowed(
            f"{request.file_option} would read a file of the server.",
            hint=_INSTEAD.get(
                command,
                "Use --stdin instead, such as: gatling config set shop --stdin NAME < FILE",
            ),
        )
    for app in filter(None, (request.app, request.other_app)):
        if not grant.covers(app):
            raise NotAllowed(
                f"{grant.name} has no access to an app {app}.",
                hint="`gatling apps` lists those you may see.",
            )
    if request.app is None and grant.role != "admin" and command not in WITHOUT_APP:
        raise NotAllowed(f"{grant.name} may use {_named(command)} only for one app. Name the app.")


def _parsed(command: click.Command, context: click.Context, path: str, rest: list[str]) -> Request:
    """Parse the words with the command's own parser, before values are converted.

    Conversion comes later in click and would open files. An app's name is a text: conversion leaves
    it as it is.
    """
    import click

    given, _, _ = command.make_parser(context).parse_args(args=list(rest))
    help_option = command.get_help_option(context)
    if help_option is not None and given.get(help_option.name) is True:
        return Request(path, is_help=True)  # it is eager: before anything else it is shown
    app, file_option, other_app = None, None, None
    for parameter in command.get_params(context):
        value = given.get(parameter.name)
        if isinstance(parameter, click.Argument) and parameter.name == "app":
            if isinstance(value, str):
                app = names.app_name(value)
            elif parameter.required:
                raise click.MissingParameter(ctx=context, param=parameter)
        elif parameter.name == "other_app" and value is not None:
            other_app = names.app_name(str(value))
        elif _is_given(parameter, value, given) and _uses_files(parameter.type):
            file_option = parameter.opts[0]
    return Request(path, app, file_option, other_app=other_app)


def _is_given(parameter: click.Parameter, value: object, given: dict[str, Any]) -> bool:
    if parameter.param_type_name == "option":
        return parameter.name in given
    return isinstance(value, str) or (isinstance(value, tuple) and bool(value))


def _uses_files(kind: click.ParamType[Any]) -> bool:
    import click

    if isinstance(kind, click.Tuple):
        return any(_uses_files(each) for each in kind.types)
    return isinstance(kind, (click.File, click.Path))


def _local() -> tuple[str, ...]:
    """The commands that nobody can use over SSH, with all below them but REMOTE."""
    from gatling.cli import remote

    return (*remote.HERE, "server", "watch run", "api")


def _below(command: str, commands: Sequence[str]) -> bool:
    return any(command == one or command.startswith(f"{one} ") for one in commands)


def _named(command: str) -> str:
    return f"`{command}`" if command in (FETCH, PUSH) else f"`gatling {command}`"
