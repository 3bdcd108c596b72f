"""The words that a shell offers for an unfinished command line.

The last word is the one under the cursor. Names come from the home on this machine. Those of a
server come from a file with its last answer, so that a user waits for a server only once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatling import paths
from gatling.cli import cli, targets
from gatling.cli import words as wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatling.cli.targets import Host
    from gatling.state.known_names import Names

FRESH_SECONDS = 30.0
FIRST_SECONDS = 5.0
"""How long the first question to a server may take."""
MAX_ANSWER = 4 << 20

_REFRESH = (
    "import sys; from gatling.cli import completing, targets;"
    " completing.refresh(targets.Host(sys.argv[1], sys.argv[2] or None))"
)
_BEHIND = '"$@" > /dev/null 2>&1 &'
KEYS = ("KEY...", "KEY=VALUE...")
_BY_METAVAR = {
    "[RELEASE]": "releases", "RELEASE": "releases", "[RELEASE|COMMIT]": "releases",
    "JOB": "jobs", "[JOB]": "jobs", "NAME...": "config", "[NAME=VALUE]...": "config",
    "DOMAIN|'*'": "domains", "[PROCESS=NUMBER]...": "processes",
}  # fmt: skip
_BY_COMMAND: dict[tuple[str, ...], str] = {
    ("config", "get", "name"): "config",
    ("domains", "remove", "domain"): "domains",
    ("auth", "remove", "domain"): "domains",
}
_ASSIGNED = ("[NAME=VALUE]...", "[PROCESS=NUMBER]...", "KEY=VALUE...")


def main(words: Sequence[str]) -> int:
    """Print what the last word can become, a line each; the exit status. Errors print nothing."""
    try:
        found = complete(list(words[:-1]), words[-1] if words else "")
    except Exception:  # noqa: BLE001 (a shell would print it into the user's command line)
        return 1
    sys.stdout.write("".join(f"{word}\n" for word in found))
    return 0


def complete(words: list[str], unfinished: str) -> list[str]:
    """List the completions of `unfinished` after these words, in the order of display."""
    given, rest = wording.take_options(words)
    if rest and rest[-1] in ("--host", *wording.APP_OPTIONS) and len(rest) == 1:
        found = list(_names(given)) if rest[-1] in wording.APP_OPTIONS else []
        return _beginning(found, unfinished)
    place = wording.find(cli, rest)
    if isinstance(place.command, click.Group):
        if place.rest:
            return []
        options = _options(place.command) if unfinished.startswith("-") else []
        return _beginning(options or _commands(place), unfinished)
    if unfinished.startswith("-") and "--" not in place.rest:
        return _beginning(_options(place.command), unfinished)
    return _beginning(_values(place, given), unfinished)


def refresh(host: Host) -> None:
    """Ask a server for its names, and keep the answer."""
    from gatling import files
    from gatling.cli import afar

    answer = afar.ask(host, ["completion", "--names"], timeout=FIRST_SECONDS)
    if len(answer) <= MAX_ANSWER:
        kept = _kept(host)
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(kept, json.dumps(_names_only(json.loads(answer))))


def _beginning(words: Iterable[str], unfinished: str) -> list[str]:
    return [word for word in words if word.startswith(unfinished) and word.isprintable()]


def _commands(place: wording.Found) -> list[str]:
    group = place.command
    assert isinstance(group, click.Group)  # noqa: S101 (complete has looked)
    if not place.path:  # without loading any of them
        from gatling.cli.summaries import SUMMARIES

        return list(SUMMARIES)
    below = ((name, group.get_command(place.context, name)) for name in group.commands)
    return [name for name, command in below if command is not None and not command.hidden]


def _options(command: click.Command) -> list[str]:
    params = (p for p in command.params if isinstance(p, click.Option) and not p.hidden)
    return [*(name for p in params for name in p.opts if name.startswith("--")), "--help"]


def _values(place: wording.Found, given: dict[str, str]) -> list[str]:
    """List the possible values of an option, or of the next argument."""
    command, rest = place.command, place.rest
    if rest and rest[-1].startswith("-"):
        option = next((p for p in command.params if rest[-1] in p.opts), None)
        if isinstance(option, click.Option) and not option.is_flag:
            if rest[-1] in wording.APP_OPTIONS:
                return list(_names(given))
            kind = option.type
            return [str(one) for one in kind.choices] if isinstance(kind, click.Choice) else []
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    scanned = wording.scan(command, rest)
    values = list(scanned.values)
    names = _names(given) if arguments else {}
    if not wording.takes_app(command):
        return _argument(place, arguments, values, {})
    app = scanned.app or given.get("--app")
    if app is None and values and values[0] in names:
        app = values.pop(0)
    following = arguments[1:]
    if app is not None:
        return _argument(place, following, values, names.get(app, {}))
    meant = _meant()
    offered = _argument(place, following, values, names.get(meant, {})) if meant else []
    return [*offered, *(names if not values else [])]


def _argument(
    place: wording.Found,
    arguments: list[click.Argument],
    values: list[str],
    names: dict[str, list[str]],
) -> list[str]:
    """List the possible values of the argument after `values`."""
    if not arguments:
        return []
    position = min(len(values), len(arguments) - 1)
    argument = arguments[position]
    if len(values) >= len(arguments) and argument.nargs != -1:
        return []
    if isinstance(argument.type, click.Choice):
        return [str(one) for one in argument.type.choices]
    metavar = argument.metavar or ""
    if metavar in KEYS:
        from gatling.project.setting_names import SETTING_NAMES

        found = list(SETTING_NAMES)
    elif metavar == "[COMMAND]...":
        return _commands(wording.find(cli, values))
    else:
        kind = _BY_COMMAND.get((*place.path, str(argument.name)), _BY_METAVAR.get(metavar, ""))
        found = names.get(kind, [])
    return [f"{word}=" for word in found] if metavar in _ASSIGNED else list(found)


def _meant() -> str | None:
    """The app that is meant where none is named."""
    from gatling.cli import remote

    return remote.app_here()


def _names(given: dict[str, str]) -> Names:
    """The names on the server that is meant, or in the home on this machine."""
    from gatling.cli import remote

    host = targets.parse(given["--host"]) if "--host" in given else remote.implied()
    if host is None:
        from gatling.state import known_names

        return known_names.read(paths.default_root() / "state.db")
    kept = _kept(host)
    try:
        age = time.time() - kept.stat().st_mtime
    except OSError:
        refresh(host)
        age = 0.0
    if age > FRESH_SECONDS:
        os.utime(kept)  # the next ones need not ask as well
        from gatling import process

        argv = ["/bin/sh", "-c", _BEHIND, "sh", sys.executable, "-c", _REFRESH,
                host.target, host.port or ""]  # fmt: skip
        process.spawn_detached(argv, env=os.environ, cwd=Path("/"), log=Path(os.devnull))
    return _names_only(json.loads(kept.read_text()))


def _names_only(answer: object) -> Names:
    """The answer of a server, as far as it is names."""
    if not isinstance(answer, dict):
        return {}
    return {
        str(app): {
            str(kind): [str(name) for name in names]
            for kind, names in kinds.items()
            if isinstance(names, list)
        }
        for app, kinds in answer.items()
        if isinstance(kinds, dict)
    }


def _kept(host: Host) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "gatling" / "names" / f"{host.target}:{host.port or 22}.json"
