"""The words of a command line: which command they name, and which app.

Pure, and the same on a laptop, on the server and behind sshd, so that an app that is left out or
named by an option ends up as the command's first argument before anything else reads the words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import click

from gatling import names
from gatling.errors import Misused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HELP = ("--help", "-h")
APP_OPTIONS = ("-a", "--app")
_OPTIONS_IN_FRONT = ("--host", *APP_OPTIONS)

_NO_APP = re.compile(r"v?[0-9]+|(?=[a-f]*[0-9])[0-9a-f]{7,40}")
"""A release, a number or a commit, which is not read as an app."""
_RELEASE = re.compile(r"v?[0-9]+")
_NO_APP_TO_RUN = ("eval", "rpc", "remote")
"""Frequent first arguments of `gatling run`, which are no apps."""


class Found(NamedTuple):
    """The command that words name, or the last group on the way to it."""

    command: click.Command
    context: click.Context
    path: list[str]
    rest: list[str]
    """The words after it."""


class Scanned:
    """The words after a command, sorted as click would read them."""

    def __init__(self) -> None:
        self.app: str | None = None
        """By `-a` or `--app`."""
        self.rest: list[str] = []
        """The words without that option."""
        self.values: list[str] = []
        """Those that are neither options nor their values."""
        self.behind_dashes = 0
        """How many of them come after `--`."""


def find(root: click.Group, words: Sequence[str]) -> Found:
    """The command that the words name, or the last group on the way; the words after it."""
    command: click.Command = root
    context = click.Context(root, info_name="gatling", **root.context_settings)
    path: list[str] = []
    rest = list(words)
    while isinstance(command, click.Group) and rest and rest[0] not in HELP:
        below = command.get_command(context, rest[0])
        if below is None:
            break
        command = below
        path.append(rest.pop(0))
        settings = command.context_settings
        context = click.Context(command, info_name=path[-1], parent=context, **settings)
    return Found(command, context, path, rest)


def take_options(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The values of `--host` and `--app` in front of the command, and the words after them."""
    given: dict[str, str] = {}
    rest = list(words)
    while rest:
        option, equals, value = rest[0].partition("=")
        if option not in _OPTIONS_IN_FRONT:
            break
        if not equals and len(rest) == 1:
            return given, rest  # the command line reports the missing value
        del rest[0]
        name = "--app" if option in APP_OPTIONS else option
        given[name] = value if equals else rest.pop(0)
    return given, rest


def with_app(
    root: click.Group,
    words: Sequence[str],
    *,
    named: str | None = None,
    implied: Callable[[Found], str | None] | None = None,
) -> list[str]:
    """The words with the app as the first argument of a command that takes one.

    `-a NAME` behind the command wins, then `named` (the option in front of it), then the app as an
    argument. If none of them is given, `implied` is called. Raises InvalidInput for a name that no
    app can have, Misused for an option of a command that takes no app.
    """
    found = find(root, words)
    if isinstance(found.command, click.Group) or asks_for_help(found.rest):
        return list(words)
    if not takes_app(found.command):
        if named is not None:
            raise Misused(f"`gatling {' '.join(found.path)}` takes no app.", hint="Leave out -a.")
        return list(words)
    scanned = scan(found.command, found.rest)
    app = scanned.app if scanned.app is not None else named
    if app is not None:
        return [*found.path, names.app_name(app), *scanned.rest]
    if implied is None or found.command.hidden or not lacks_app(found.command, scanned):
        return list(words)
    app = implied(found)
    if app is None or app in scanned.values[:1]:
        return list(words)  # `config get shop`: it is the name that is missing
    return [*found.path, app, *scanned.rest]


def takes_app(command: click.Command) -> bool:
    """Whether the first argument of a command is an app."""
    return next((p.name == "app" for p in command.params if _is_argument(p)), False)


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether the words ask how a command is used, or for the version."""
    before = words[: words.index("--")] if "--" in words else words
    return any(word in (*HELP, "--version") for word in before)


def scan(command: click.Command, words: Sequence[str]) -> Scanned:
    """Sort the words after a command as click's parser does, and take `-a NAME` out of them."""
    options = {
        name: p.nargs if not (p.is_flag or p.count) else 0
        for p in command.params
        if isinstance(p, click.Option)
        for name in (*p.opts, *p.secondary_opts)
    }
    scanned, rest = Scanned(), list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            scanned.rest += ["--", *rest]
            scanned.values += rest
            scanned.behind_dashes = len(rest)
            break
        if len(word) < 2 or word[0] != "-":
            scanned.rest.append(word)
            scanned.values.append(word)
        elif word.startswith("--"):
            _long(word, rest, options, scanned)
        else:
            _short(word, rest, options, scanned)
    return scanned


def lacks_app(command: click.Command, scanned: Scanned) -> bool:
    """Whether the app was left out: nothing is there in its place, or what comes after it is."""
    arguments = [p for p in command.params if _is_argument(p)]
    values, following = scanned.values, arguments[1:]
    if not arguments[0].required and "--all" in scanned.rest:
        return False
    if not values or len(values) <= sum(abs(p.nargs) for p in following if p.required):
        return True
    if all(p.required and p.nargs > 0 for p in following):
        return False
    if scanned.behind_dashes == len(values) and following[0].nargs < 0:
        return True  # `gatling run -- migrate`
    if _NO_APP.fullmatch(values[0]) or not names.is_app(values[0]):
        return True
    return command.name == "run" and values[0] in _NO_APP_TO_RUN


def is_app_needed(found: Found) -> bool:
    """Whether a command cannot be read without another word for its app."""
    app = next(p for p in found.command.params if _is_argument(p))
    values = scan(found.command, found.rest).values
    is_app = bool(values) and names.is_app(values[0]) and not _RELEASE.fullmatch(values[0])
    return app.required and not is_app


def _is_argument(parameter: click.Parameter) -> bool:
    return parameter.param_type_name == "argument"


def _long(word: str, rest: list[str], options: dict[str, int], scanned: Scanned) -> None:
    name, equals, value = word.partition("=")
    count = options.get(name, 0)
    if equals and count:
        rest.insert(0, value)
    taken = [rest.pop(0) for _ in range(min(count, len(rest)))]
    if name in APP_OPTIONS and taken:
        scanned.app = taken[0]
    else:
        scanned.rest += [word, *taken[1 if equals and count else 0 :]]


def _short(word: str, rest: list[str], options: dict[str, int], scanned: Scanned) -> None:
    for position, letter in enumerate(word[1:], 1):
        count = options.get(f"-{letter}", 0)
        if not count:
            continue
        attached = word[position + 1 :]
        if attached:
            rest.insert(0, attached)
        taken = [rest.pop(0) for _ in range(min(count, len(rest)))]
        if f"-{letter}" in APP_OPTIONS and taken:
            scanned.app = taken[0]
            if position > 1:
                scanned.rest.append(word[:position])
        else:
            scanned.rest += [word, *taken[1 if attached else 0 :]]
        return
    scanned.rest.append(word)
