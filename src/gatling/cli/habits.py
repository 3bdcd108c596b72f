"""Commands of other platforms: Heroku, fly, dokku, kamal, gh.

A command that means exactly one of ours is an alias for it. If our command stops or removes
something, or if there is none, the answer names the command to type instead.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from gatling import names
from gatling.cli import words as wording

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ALIASES: Mapping[str, str] = {
    "-v": "--version",
    # apps
    "create": "load",
    "new": "load",
    "apps create": "load",
    "apps new": "load",
    "app create": "load",
    "list": "apps",
    "ls": "apps",
    "apps list": "apps",
    "app list": "apps",
    "apps info": "info",
    "app info": "info",
    "apps show": "info",
    "browse": "open",
    "url": "open",
    "apps open": "open",
    "app open": "open",
    "launch": "init",
    # what runs
    "ps": "status",
    "ps report": "status",
    "apps report": "status",
    "app status": "status",
    "app details": "status",
    "details": "status",
    "ps restart": "restart",
    "ps rebuild": "deploy",
    "apps restart": "restart",
    "app restart": "restart",
    "app boot": "restart",
    "dyno restart": "restart",
    "ps start": "start",
    "apps start": "start",
    "app start": "start",
    "resume": "start",
    "ps scale": "scale",
    "dyno scale": "scale",
    "redeploy": "deploy",
    "builds": "deployments",
    "review": "plan",
    "releases info": "releases",
    "deploy lock": "lock",
    "deploy unlock": "unlock",
    # config
    "env": "config list",
    "env list": "config list",
    "vars": "config list",
    "secrets": "config list",
    "secrets list": "config list",
    "secret list": "config list",
    "variable list": "config list",
    "config show": "config list",
    "env set": "config set",
    "secrets set": "config set",
    "secret set": "config set",
    "variable set": "config set",
    "config add": "config set",
    "env get": "config get",
    "secrets get": "config get",
    # logs and one-off commands
    "log": "logs",
    "app logs": "logs",
    "tail": "logs -f",
    "attach": "logs -f",
    "exec": "run",
    "app exec": "run",
    "ssh": "console",
    "ssh console": "console",
    "shell": "console",
    "iex": "console",
    "remote_console": "console",
    "enter": "console",
    "history": "audit",
    "events": "audit",
    "activity": "audit",
    "cron": "jobs list",
    "cron list": "jobs list",
    "crons": "jobs list",
    "scheduler": "jobs list",
    "schedule": "jobs list",
    # people and domains
    "auth whoami": "whoami",
    "auth status": "whoami",
    "keys": "server keys list",
    "keys list": "server keys list",
    "keys add": "server keys add",
    "ssh-keys": "server keys list",
    "ssh-keys list": "server keys list",
    "ssh-keys add": "server keys add",
    "access": "server keys list",
    "members": "server keys list",
    "domains report": "domains list",
    "domains show": "domains list",
    "http-auth report": "auth list",
    "maintenance enable": "maintenance on",
    "maintenance disable": "maintenance off",
    "app maintenance": "maintenance on",
    "app live": "maintenance off",
}
"""Typed → the command that runs. A colon may stand for the space: `ps:restart`."""

_SHOWN = "`gatling status {app}` shows what runs and its restarts, `gatling apps` all apps."
_DATABASE = "It is called `db` here: `gatling db create {app}` creates a PostgreSQL database."
_ELSEWHERE = (
    "Gatling runs PostgreSQL only (`gatling db create {app}`). Give the app the address of another"
    " database: `gatling config set {app} --stdin NAME`."
)
_BACKUP = (
    "`gatling db backup {app}` backs a database up. `gatling server backup FILE` on the server"
    " writes all apps to one file, with their databases."
)
_ONE_MACHINE = "Gatling runs all apps on the machine where it is installed."
_TLS = "It is called `certificates` here: `gatling certificates list {app}`."
_UNLOAD = "It is called `unload` here: `gatling unload {app}`."
_STOP = (
    "It is called `stop` here: `gatling stop {app}`. `gatling maintenance on {app}` only shows a"
    " page, and the app keeps running."
)
_UNSET = "It is called `config unset` here: `gatling config unset {app} NAME`."
_KEYS = "SSH keys are the logins. `gatling server keys list` shows them, `gatling whoami` yours."
_TOKENS = (
    "`gatling tokens add NAME --role reader` creates a token for the HTTP API (`gatling api`)."
)
_REVOKE = "It is called `server keys remove` here: `gatling server keys remove NAME`."
_HEALTH = "`gatling settings set {app} health.path=/health` sets what the health check requests."
_NOTICE = "`gatling notify add NAME TARGET` sends notifications to a webhook, by mail or to a chat."
_DRAIN = "`gatling drains add {app} URL` sends the log to a log server."
_CLEAN = "`gatling build clean {app}` removes the files that builds keep for the next build."
_STATE = "An app keeps files in its state directory, which is its HOME. See docs/operations.md."
_BUILD = "Gatling builds releases with mix, without images or build packs."
_TUNNEL = "Use ssh for a tunnel: `ssh -L 5432:localhost:5432 USER@SERVER`."
_PROXY = "`gatling settings list {app}` shows the settings of the proxy, which begin with `proxy.`."
_SECOND = "Create a second app and push the other branch to it: `gatling load NAME`."
_SERVER = "A git remote names the server: `gatling remote add gatling@SERVER` adds it."
_INSTALL = "Run `gatling server install` on the server, as root."
_LIMITS = "`gatling settings set {app} limits.memory=512M` limits the memory."
_AUTH = "`gatling auth add {app} DOMAIN USER` protects a domain with a password."
_UPDATE = "Run `sudo gatling server update` on the server. It updates from the clone."
_DOCS = "`gatling help` lists all commands. `gatling help COMMAND` shows one with examples."
_RENAME = (
    "An app keeps its name. Move its domains to an app with the new name, without losing a request:"
    " `gatling load NAME`, push to it, `gatling domains add NAME DOMAIN --from {app}`, then"
    " `gatling unload {app}`. See docs/how-to/rename-an-app.md."
)
_MANUAL = f"{_DOCS} `gatling help --man | man -l -` shows the manual page."

ANSWERS: Mapping[str, str] = {
    **dict.fromkeys(("destroy", "delete", "rm", "remove", "apps destroy", "apps delete",
                     "app destroy", "app delete", "app remove"), _UNLOAD),
    **dict.fromkeys(("pause", "suspend", "ps stop", "apps stop", "app stop", "halt", "kill",
                     "ps kill", "machine stop"), _STOP),
    **dict.fromkeys(("env unset", "secrets unset", "secret delete", "secret remove",
                     "variable delete", "config remove", "config delete", "config rm",
                     "config clear"), _UNSET),
    **dict.fromkeys(("monitor", "monitoring", "usage",
                     "memory", "cpu", "resource"), _SHOWN),
    **dict.fromkeys(("postgres", "pg", "database", "postgres attach", "pg attach", "psql"),
                    _DATABASE),
    **dict.fromkeys(("mysql", "redis", "mongo", "addons", "addon", "plugin", "accessory"),
                    _ELSEWHERE),
    **dict.fromkeys(("backup", "backups", "pg backups", "snapshot", "snapshots"),
                    _BACKUP),
    **dict.fromkeys(("certs", "cert", "ssl", "tls", "letsencrypt", "https"), _TLS),
    **dict.fromkeys(("machines", "machine", "regions", "region", "vm", "nodes", "cluster"),
                    _ONE_MACHINE),
    **dict.fromkeys(("login", "logout", "signup", "auth login", "auth logout", "orgs", "teams",
                     "access add", "collaborators"), _KEYS),
    **dict.fromkeys(("token", "auth token", "tokens create", "authorizations"), _TOKENS),
    **dict.fromkeys(("keys remove", "ssh-keys remove", "access remove"), _REVOKE),
    **dict.fromkeys(("checks", "check", "health", "healthcheck"), _HEALTH),
    **dict.fromkeys(("webhooks", "webhook", "notifications", "alerts"), _NOTICE),
    **dict.fromkeys(("log-drain", "log-drains", "drain"), _DRAIN),
    **dict.fromkeys(("cache", "clean", "prune", "purge", "gc", "repo gc", "builds clear"), _CLEAN),
    **dict.fromkeys(("volumes", "volume", "storage", "disk", "mount", "mounts"), _STATE),
    **dict.fromkeys(("buildpacks", "buildpack", "stack", "docker", "dockerfile", "image", "images",
                     "registry", "docker-options"), _BUILD),
    **dict.fromkeys(("tunnel", "port-forward", "forward", "proxy 5432"), _TUNNEL),
    **dict.fromkeys(("proxy", "nginx", "traefik", "ports", "network", "router"), _PROXY),
    **dict.fromkeys(("promote", "pipelines", "pipeline", "reviewapps", "review apps", "fork",
                     "clone", "preview", "previews"), _SECOND),
    **dict.fromkeys(("servers", "hosts", "host", "git remote", "link"), _SERVER),
    **dict.fromkeys(("setup", "install", "server bootstrap"), _INSTALL),
    **dict.fromkeys(("limits", "resize", "resource limit"), _LIMITS),
    **dict.fromkeys(("http-auth enable", "http-auth", "password", "passwords"), _AUTH),
    **dict.fromkeys(("upgrade", "update", "self-update"), _UPDATE),
    **dict.fromkeys(("rename", "apps rename", "app rename", "apps move"), _RENAME),
    **dict.fromkeys(("man", "manual"), _MANUAL),
    "docs": _DOCS,
    "wait": "`gatling deployments {app} -f` waits for the deployment in progress.",
    "config edit": "`gatling config set {app} NAME=VALUE` sets a variable.",
    "secrets import": "`gatling config set {app} NAME=VALUE …` sets several variables at once.",
    "migrate": "A deployment runs new migrations. `gatling run {app} -- migrate` runs them again.",
    "push": "`git push gatling main` deploys. `gatling deploy {app}` builds the last push again.",
    "reload": "`gatling restart {app}` replaces the running instance without losing a request.",
    "undo": "`gatling rollback {app}` makes the previous release live again.",
}  # fmt: skip
"""Typed → the answer. `{app}` is replaced by the app's name."""

OPTIONS: Mapping[str, str] = {
    "--remote": "Name the app: -a NAME.",
    "-r": "Name the app: -a NAME.",
    "--yes": "It is called --confirm APP here.",
    "-y": "It is called --confirm APP here.",
    "--force": "It is called --confirm APP here, in commands that ask.",
    "--config": "Name the app: -a NAME.",
    "-c": "Name the app: -a NAME.",
    "--image": "Gatling deploys commits and releases: `gatling deploy APP v7`.",
    "--verbose": "`gatling deployments APP ID` shows everything that a deployment printed.",
    "--host": "Write it in front of the command: `gatling --host gatling@SERVER apps`.",
}
"""An option of other platforms → the answer of a command that does not have it."""

_ALIKE = 0.8
"""The similarity of a command and a typing error for it."""
_LONGEST = 2
"""The number of words of the longest key in the tables."""


def translated(root: click.Group, words: Sequence[str]) -> list[str]:
    """The words with an alias replaced by our command. Our own commands stay as they are."""
    rest = list(words)
    if rest[:1] == ["gatling"]:
        del rest[0]  # as in `ssh gatling@server gatling status shop`
    if rest[:1] == ["help"]:
        return ["help", *translated(root, rest[1:])]
    typed, length = next(
        ((t, n) for t, n in _prefixes(rest) if t in ANSWERS or t in ALIASES), ("", 0)
    )
    if typed in ALIASES and not _is_ours(root, rest[:length]):
        rest[:length] = ALIASES[typed].split()
    rest = _without_colon(root, rest)
    found = wording.find(root, rest)
    if isinstance(found.command, click.Group) and found.path and _means_list(found):
        rest.insert(len(found.path), "list")
    if isinstance(found.command, click.Group) and found.path and found.rest[:1] == ["help"]:
        return ["help", *found.path]
    return rest


def answer(words: Sequence[str], app: str | None = None) -> str | None:
    """The answer to a command of another platform; None for a word that is in no table.

    The answer names the app that was typed, otherwise `app`.
    """
    found = [*_prefixes(words), (words[0].partition(":")[0], 1)] if words else []
    for typed, length in found:
        if typed in ANSWERS:
            return ANSWERS[typed].format(app=_typed_app(typed, words[length:]) or app or "APP")
    return None


def _typed_app(typed: str, rest: Sequence[str]) -> str | None:
    """The app after `-a`, or after a command that takes an app first."""
    for option, value in itertools.pairwise(rest):
        if option in wording.APP_OPTIONS and names.is_app(value):
            return value
    first = next(iter(rest), "")
    return first if ANSWERS[typed] in (_UNLOAD, _STOP) and names.is_app(first) else None


def _prefixes(words: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The keys that the first words could be, longest first, each with its number of words."""
    if not words:
        return
    first = words[0].replace(":", " ")
    if first != words[0]:
        yield first, 1
        return
    for length in range(min(_LONGEST, len(words)), 0, -1):
        yield " ".join(words[:length]), length


def _is_ours(root: click.Group, words: Sequence[str]) -> bool:
    """Whether the words are a command of ours, perhaps followed by an app."""
    found = wording.find(root, words)
    if isinstance(found.command, click.Group):
        return bool(found.path) and not found.rest
    return not found.rest or wording.takes_app(found.command)


def _without_colon(root: click.Group, words: list[str]) -> list[str]:
    """`config:set` split into `config set`, if that is a command."""
    if not words or ":" not in words[0]:
        return words
    parts = words[0].split(":")
    found = wording.find(root, parts)
    return words if found.rest or found.command.hidden else [*parts, *words[1:]]


def _means_list(found: wording.Found) -> bool:
    """Whether `config shop` means `config list shop`, and is no typing error for a command."""
    import difflib

    group = found.command
    if not isinstance(group, click.Group) or not found.rest:
        return False
    known = group.list_commands(found.context)
    first = found.rest[0]
    listing = group.get_command(found.context, "list")
    if listing is None or not wording.takes_app(listing) or first in (*wording.HELP, "help"):
        return False
    if first[:1] == "-":
        return True
    others = [word for word in found.rest[1:] if word[:1] != "-"]
    slip = difflib.get_close_matches(first, known, n=1, cutoff=_ALIKE)
    return names.is_app(first) and not others and not slip and answer([*found.path, first]) is None
