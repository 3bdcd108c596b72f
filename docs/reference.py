"""Generate commands.md, settings.md, gatling.schema.json, api.md and openapi.json from the code.

python docs/reference.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gatling.api import description
from gatling.api.contract import MAX_BODY
from gatling.api.limits import AT_ONCE, BURST, RATE, STREAMS
from gatling.api.routes import PREFIX, ROUTES
from gatling.cli import cli, manpage
from gatling.errors import Exit, GatlingError
from gatling.project import settings, template
from gatling.ssh import policy

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

Over SSH, the status is that of the command on the server. 255 is ssh's own: it could not connect,
or it lost the connection. A push that has begun its cut-over goes on then.

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
API = f"""\
# HTTP API

`gatling api` serves the operations of the command line over HTTP, for programs. It listens on the
Unix socket `run/api.sock` of the home, or on loopback with `--listen 127.0.0.1:8090`.
[Operations](operations.md#http-api) shows it as a service and behind nginx, and
[security](security.md#boundaries) its protection.

```sh
gatling tokens add status --role reader > token
```

```
curl --unix-socket ~/.gatling/run/api.sock -H "Authorization: Bearer $(cat token)" \\
  http://localhost/v1/apps
```

A token has a role, apps and an expiry, and permits what an [SSH key](operations.md#people) with
the same role and apps permits. The audit has its name.

- Answers are the JSON of the command line. [openapi.json](openapi.json) describes them (OpenAPI
  3.1), as does `GET {PREFIX}/openapi.json`. Within `{PREFIX}` no field is removed and no meaning
  changes. Fields may be added.
- A change answers when it has ended. Its request may be dropped: the change goes on, and `GET
  {PREFIX}/events` reports it.
- A body is `application/json`, of at most {MAX_BODY >> 20} MiB.
- Each token may send {RATE:g} requests a second and {BURST} at once, have {AT_ONCE} under way and
  open {STREAMS} event streams.

An error has the form of `--json` on the command line: `error.code`, `error.message`, `error.hint`
and `error.log`. The codes are those of [commands](commands.md#exit-statuses), and these:

| status | code | meaning |
|---|---|---|
| 400 | `malformed` | {description.ERRORS[400]} |
| 401 | `unauthorized`, `expired` | {description.ERRORS[401]} |
| 403 | `not-allowed` | {description.ERRORS[403]} |
| 404 | `not-found` | {description.ERRORS[404]} |
| 405 | `method-not-allowed` | The path has no such method. |
| 409 | `locked`, `busy`, `unhealthy` … | {description.ERRORS[409]} |
| 413 | `too-large` | {description.ERRORS[413]} |
| 415 | `unsupported-media-type` | {description.ERRORS[415]} |
| 422 | `invalid-input` | {description.ERRORS[422]} |
| 429 | `too-many-requests` | {description.ERRORS[429]} |
| 500 | `unexpected` | {description.ERRORS[500]} |
| 503 | `supervisor-failed`, `disk-full` … | {description.ERRORS[503]} |

The events are `deployment.started`, `deployment.updated` and `deployment.ended`. A client that
connects again with `Last-Event-ID`, as libraries for server-sent events do, gets the events in
between at least once.

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


def api() -> str:
    """The routes of the HTTP API."""
    lines = [NOTE, API]
    lines += ["| request | needs | |\n|---|---|---|\n"]
    for route in ROUTES:
        name = f"{route.method} {PREFIX}{route.path}"
        anchor = re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-")
        lines.append(f"| [`{name}`](#{anchor}) | {_role(route.command)} | {route.summary} |\n")
    document = description.document()
    for route in ROUTES:
        made = document["paths"][PREFIX + route.path][route.method.lower()]
        lines.append(f"\n## {route.method} {PREFIX}{route.path}\n\n{route.summary}\n")
        lines.append(f"It needs the permission of `gatling {route.command}`.\n")
        rows = [_parameter(one) for one in made["parameters"] if one["in"] == "query"]
        if route.body is not None:
            rows += _fields(document, made["requestBody"]["content"]["application/json"]["schema"])
        if rows:
            lines += ["\n| parameter | in | meaning |\n|---|---|---|\n", *rows]
        lines.append(f"\nIt returns {_returned(made)}.\n")
    lines.append("\n## Types\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines.append(f"\n### {_short(name)}\n\n{schema.get('description', '')}\n\n")
        lines += ["| field | type | meaning |\n|---|---|---|\n"]
        for field, given in schema.get("properties", {}).items():
            said = given.get("description", "").replace("|", "\\|")
            lines.append(f"| `{field}` | {_type(given)} | {said} |\n")
    return "".join(lines)


def _role(command: str) -> str:
    for role, commands in (("reader", policy.READING), ("deployer", policy.DEPLOYING)):
        if command in commands:
            return role
    return "admin"


def _parameter(one: dict[str, Any]) -> str:
    default = one["schema"].get("default")
    said = f" Default: `{json.dumps(default)}`." if default is not None else ""
    return f"| `{one['name']}` | query | {one['description']}{said} |\n"


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    if "$ref" not in schema:
        value = _type(schema["additionalProperties"])
        return [f"| each name | body | {value} |\n"]
    name = schema["$ref"].rpartition("/")[2]
    return [
        f"| `{field}` | body | {given.get('description', '')} |\n"
        for field, given in document["components"]["schemas"][name]["properties"].items()
    ]


def _returned(made: dict[str, Any]) -> str:
    ((kind, content),) = made["responses"]["200"]["content"].items()
    if kind != "application/json":
        return f"`{kind}`. {made['responses']['200']['description']}".rstrip(".")
    return _type(content["schema"])


def _type(schema: dict[str, Any]) -> str:
    """A type in words."""
    if "$ref" in schema:
        name = _short(schema["$ref"].rpartition("/")[2])
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"a list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"an object of {_type(schema['additionalProperties'])}"
    return str(kind)


def _short(name: str) -> str:
    """`gatling.operations.processes.Process` as ProcessesProcess; others stay."""
    *_, module, last = ["", *name.split(".")]
    return f"{module.capitalize()}{last}" if module else last


def openapi() -> str:
    """The description of the API for programs."""
    return json.dumps(description.document(), indent=2) + "\n"


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
    (DOCS / "api.md").write_text(api())
    (DOCS / "openapi.json").write_text(openapi())
