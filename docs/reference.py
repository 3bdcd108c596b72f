"""Generate docs/commands.md, docs/settings.md and docs/gatling.schema.json from the code.

python docs/reference.py
"""

from __future__ import annotations

import json
from pathlib import Path

from gatling.cli import cli, manpage
from gatling.errors import Exit, GatlingError
from gatling.project import settings, template

DOCS = Path(__file__).parent
SETTINGS = """\
# Settings

A project puts the settings that differ from the defaults in `gatling.toml`, next to its `mix.exs`:

```toml
[deploy]
branch = "production"

[health]
path = "/health"
timeout = 120

[hot]
deny = ["phoenix", "Shop.Payments"]
```

`gatling init` writes a `gatling.toml` with all keys, commented out. Gatling reads the file from the
pushed commit, and it belongs to the release: a rollback restores the settings of that release. If
the file has an error, the push is rejected with the line and the key. Editors can complete and
check the file with [gatling.schema.json](gatling.schema.json).

A setting on the host overrides `gatling.toml`: `gatling settings set APP KEY=VALUE`. Settings of
`alerts`, `proxy` and `schedule` apply immediately, all others with the next deployment.
`gatling settings list APP` shows each value and where it comes from.
"""
STATUSES = """\
With `--json`, a command also prints errors as JSON, to standard error. `error.code` is one of the
codes below. `error.message` describes what happened, and `error.hint` what to do. `error.log` has
the last lines of the log that belongs to the error.

"""
FINDING = """\
# Commands

Every command has `--help`. `$GATLING_HOME` is the directory of the home (default: `~/.gatling`).

## How the server and the app are found

The server is the first of these:

1. `--host gatling@SERVER` in front of the command,
2. `$GATLING_HOST`,
3. this machine, if `$GATLING_HOME` is set,
4. the remote `gatling` of the git project in the current directory. If no remote has that name, the
   server that all remotes with the user `gatling` share,
5. this machine.

The app is the first of these:

1. `-a NAME` or `--app NAME`, before or after the command,
2. the first argument: `gatling status shop`,
3. `$GATLING_APP`,
4. the app that the project's remotes name on that server: `gatling@SERVER:shop`, or
   `~/.gatling/apps/shop.git` on this machine. The remote `gatling` comes first. If other remotes
   name several apps, Gatling lists them and asks for a name.

An app that the environment or a remote names is printed once on standard error, such as
`shop on web1`. With `--json` it is not printed.

In `gatling rollback v3` or `gatling config set POOL_SIZE=5` the first argument cannot be an app, so
the app is found as if no argument were there. A release (`v3`), a number, a commit hash, and any
text that cannot be an app's name are read this way. A branch such as `main` could be an app's name:
write `gatling deploy -a shop main`. An app whose own name looks like a release or a commit needs
`-a` too.

Over SSH (`ssh gatling@SERVER status shop`) there is no project, so the command names its app. With
`ssh gatling@SERVER help`, the server lists the commands that your key may use.

## Commands of other platforms

Many commands of Heroku, fly, dokku, kamal and gh work: `ps`, `secrets set A=1`, `config:set A=1`,
`logs --tail`. If the Gatling command would stop or remove something, Gatling does not run it but
prints its name: `destroy shop` prints `gatling unload shop`. The answer to any other of them is the
closest command that Gatling has.

"""
NOTE = "<!-- Written by docs/reference.py. -->\n"


def commands() -> str:
    """All commands with their help, and the exit statuses."""
    parts = []
    parts.append(f"{NOTE}{FINDING}")
    parts += [
        f"## {each.command_path}\n\n```\n{each.get_help()}\n```\n\n" for each in manpage.shown(cli)
    ]
    parts.append(f"## Exit statuses\n\n{STATUSES}| status | name | codes |\n|---|---|---|\n")
    by_status: dict[Exit, list[str]] = {}
    for error in kinds(GatlingError):
        by_status.setdefault(error.exit_status, []).append(f"`{error.code}`")
    for status in Exit:
        names = ", ".join(by_status.get(status, [])) or "–"
        parts.append(f"| {status.value} | {status.name} | {names} |\n")
    return "".join(parts).rstrip() + "\n"


def kinds(error: type[GatlingError]) -> list[type[GatlingError]]:
    """A kind of error and its public subclasses, without those private to a module."""
    direct = [one for one in error.__subclasses__() if one.__module__ == error.__module__]
    return [error, *(one for below in direct for one in kinds(below))]


def all_settings() -> str:
    """All settings by section: key, default, meaning."""
    lines = [NOTE, SETTINGS]
    shown = ""
    for key, default in settings.known().items():
        section = key.partition(".")[0]
        if section != shown:
            shown = section
            title = f"{section}.NAME" if section in settings.NAMED else section
            lines.append(f"\n## {title}\n\n{template.about(section)}\n\n")
            lines.append("| key | default | meaning |\n|---|---|---|\n")
        text = template.written(default).strip('"')
        value = f"`{text}`" if text else "–"
        meaning = template.meaning(key).replace("|", "\\|")
        host = " Only on the host." if key in settings.HOST_ONLY else ""
        lines.append(f"| `{key}` | {value} | {meaning}{host} |\n")
    return "".join(lines)


def schema() -> str:
    """The JSON Schema of gatling.toml."""
    return json.dumps(template.schema(), indent=2) + "\n"


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands())
    (DOCS / "settings.md").write_text(all_settings())
    (DOCS / "gatling.schema.json").write_text(schema())
