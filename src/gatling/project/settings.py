"""The settings of an app: what can be set, its type, its default and what it means.

The model validates: gatling.toml (project/manifest.py), `gatling settings` and docs/settings.md
know what stands here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gatling.errors import InvalidInput
from gatling.project import headers, processes, proxy, setting_errors
from gatling.project.processes import MAX_NAMES, Job, Name, Process

Seconds = Annotated[float, Meta(ge=0.01, le=86400)]


_PATH = r"^/[!-~]*\Z"
_RELEASE = r"^([a-z][a-zA-Z0-9_]*)?\Z"
_DENY = r"^[A-Za-z0-9_., ]*\Z"
_SIZE = rf"^{proxy.SIZE}\Z"
# git-check-ref-format(1), and nothing that a person could take for an option or another ref
_PART = r"[A-Za-z0-9_](?:\.?[A-Za-z0-9_-])*"
_DIRECTORY = r"^([A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*)?\Z"
# systemd.resource-control(5): MemoryMax=, CPUQuota=
_MEMORY = r"^([1-9][0-9]{0,11}[KMGT]?|[1-9][0-9]?%)?\Z"
_COMMAND = r"^[^\x00-\x1f\x7f]*\Z"
_CPU = r"^([1-9][0-9]{0,5}%)?\Z"
_BRANCH = rf"^(?!.*\.lock(?:/|\Z))(?:{_PART}(?:/{_PART})*)?\Z"

EXPECTED = {
    _PATH: "a path such as /health",
    _RELEASE: "the name of a release such as shop, or nothing",
    _DENY: "names of applications and modules, separated by commas",
    _SIZE: "a size such as 20m or 2g, or 0",
    _DIRECTORY: "a path in the repository such as apps/shop, or nothing",
    _MEMORY: "a size such as 512M, 2G or 50%, or nothing",
    _COMMAND: "one line of text",
    _CPU: "a percentage such as 150%, or nothing",
    _BRANCH: "the name of a branch, or nothing",
}
"""What each pattern asks for, as a person is told it."""


class Health(Struct, frozen=True, forbid_unknown_fields=True):
    """When a new instance counts as healthy."""

    path: Annotated[str, Meta(pattern=_PATH, max_length=1024)] = "/"
    """Path that must be answered with a status below 500."""
    timeout: Seconds = 60.0
    """Seconds until a new instance must be healthy."""
    interval: Seconds = 0.02
    """Seconds between two checks."""


class Build(Struct, frozen=True, forbid_unknown_fields=True):
    """How a commit becomes a release."""

    timeout: Seconds = 1800.0
    """Seconds that a build may take."""
    release: Annotated[str, Meta(pattern=_RELEASE, max_length=128)] = ""
    """Which release of mix.exs to build; empty: its default."""
    memory: Annotated[str, Meta(pattern=_MEMORY)] = "75%"
    """Memory that a build may take on a server, such as 2G or 75%; empty: all."""
    tasks: Annotated[int, Meta(ge=0, le=4000000)] = 4096
    """Processes and threads that a build may have on a server; 0: any number."""
    cpu: Annotated[str, Meta(pattern=_CPU)] = ""
    """Processor time that a build may take on a server: 150% is one and a half; empty: all."""
    directory: Annotated[str, Meta(pattern=_DIRECTORY, max_length=200)] = ""
    """Directory of the repository that has mix.exs and gatling.toml; empty: its root."""


class Migrate(Struct, frozen=True, forbid_unknown_fields=True):
    """Migrations, before a new release goes live."""

    command: Annotated[str, Meta(pattern=_COMMAND, max_length=1024)] = "auto"
    """What runs them, as for `gatling run`; auto: bin/migrate (with Distillery: the command
    migrate), or the Release module's migrate/0, when there are new ones; empty: nothing."""
    setup: Annotated[str, Meta(pattern=_COMMAND, max_length=1024)] = ""
    """What is run after the migrations of the app's first deployment, as for `gatling run`, and
    never again once it has succeeded: seeds, say; empty: nothing."""
    timeout: Seconds = 600.0
    """Seconds that either may take."""

    def __post_init__(self) -> None:
        """Refuse what is no command line; msgspec takes a ValueError for an error of validation."""
        processes.check("command", self.command)
        processes.check("setup", self.setup)


class Instance(Struct, frozen=True, forbid_unknown_fields=True):
    """How an instance is ended."""

    drain: Annotated[float, Meta(ge=0, le=86400)] = 10.0
    """Seconds that requests and sockets of the previous instance get to end by themselves."""
    stop: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """Seconds between SIGTERM and SIGKILL."""


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What an instance may take of a server; from its next start on."""

    memory: Annotated[str, Meta(pattern=_MEMORY)] = ""
    """Memory, such as 512M, 2G or 50%; over it, it is ended and started again; empty: all."""
    tasks: Annotated[int, Meta(ge=0, le=4000000)] = 4096
    """Processes and threads of the operating system (not the BEAM's); 0: any number."""
    cpu: Annotated[str, Meta(pattern=_CPU)] = ""
    """Processor time: 150% is one and a half processors; empty: all."""


class Hot(Struct, frozen=True, forbid_unknown_fields=True):
    """Upgrades of the running node."""

    watch: Seconds = 1.0
    """Seconds after the switch in which a crash of a converted process undoes it."""
    suspend: Seconds = 5.0
    """Seconds that a process gets to be suspended, or to leave code that calls what goes."""
    boot_check: Literal["after", "before", "off"] = "after"
    """When a release is started beside the running one, without traffic, to see that it boots."""
    rehearse: bool = False
    """Whether an upgrade is first made on a throw-away instance of the live release."""
    structs: bool = False
    """Whether a struct may change: where no process keeps one for long, as with Ecto's schemas."""
    deny: Annotated[str, Meta(pattern=_DENY, max_length=4096)] = ""
    """Applications and modules, separated by commas, whose changes are never made hot."""


class Releases(Struct, frozen=True, forbid_unknown_fields=True):
    """Retention."""

    keep: Annotated[int, Meta(ge=1, le=1000)] = 10
    """How many releases are kept besides the live one."""


class Deploy(Struct, frozen=True, forbid_unknown_fields=True):
    """What deploys."""

    branch: Annotated[str, Meta(pattern=_BRANCH, max_length=200)] = ""
    """The branch whose pushes are deployed; empty: main or master."""
    strategy: Literal["auto", "rolling", "restart"] = "auto"
    """How releases replace each other: auto (hot where it is safe, else rolling), rolling, restart.
    """
    second_instance: Literal["auto", "allow", "never"] = "auto"
    """Whether a second instance may run beside the live one, for a rolling deployment, a boot check
    or a rehearsal: auto (unless the live one has data or a port open that only one can have),
    allow, never."""


class Proxy(Struct, frozen=True, forbid_unknown_fields=True):
    """What nginx does with requests before the app sees them; in force once a release is live."""

    body_limit: Annotated[str, Meta(pattern=_SIZE)] = "100m"
    """Size of a request's body, such as 20m or 2g; over it, 413 is answered; 0: any size."""
    read_timeout: Annotated[int, Meta(ge=1, le=proxy.MAX_SECONDS)] = 120
    """Seconds that the app may keep silent, before an answer or within it."""
    send_timeout: Annotated[int, Meta(ge=1, le=proxy.MAX_SECONDS)] = 60
    """Seconds that the app may take no more of a request."""
    buffering: bool = False
    """Whether nginx takes answers from the app faster than clients do; holds back events."""
    redirect_www: Literal["off", "to-apex", "to-www"] = "off"
    """Where the app has both a domain and its www.: to which one browsers are sent."""
    https: Literal["off", "redirect"] = "off"
    """Whether requests that came by http are sent to https; something in front must offer that."""
    headers: Annotated[str, Meta(max_length=headers.MAX_LENGTH)] = ""
    """Headers of all answers, in place of the app's own: Name: value | Name: value."""
    maintenance_page: Annotated[str, Meta(pattern=_DIRECTORY, max_length=200)] = ""
    """File of the project (HTML, up to 256 KB) to show in maintenance; empty: Gatling's page."""
    static: bool = True
    """Whether nginx serves digested files of priv/static, also those of earlier releases."""
    static_keep: Annotated[int, Meta(ge=0, le=20)] = 3
    """Of how many earlier releases, while they are kept."""

    def __post_init__(self) -> None:
        """Refuse headers that cannot be; msgspec takes a ValueError for an error of validation."""
        try:
            headers.parse(self.headers)
        except InvalidInput as error:
            raise ValueError(f"headers: {error.what} {error.hint}".rstrip(" .")) from None


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of an app."""

    deploy: Deploy = Deploy()
    build: Build = Build()
    health: Health = Health()
    migrate: Migrate = Migrate()
    instance: Instance = Instance()
    limits: Limits = Limits()
    hot: Hot = Hot()
    releases: Releases = Releases()
    proxy: Proxy = Proxy()
    processes: Annotated[dict[Name, Process], Meta(max_length=MAX_NAMES)] = {}
    """Further processes, by name."""
    schedule: Annotated[dict[Name, Job], Meta(max_length=MAX_NAMES)] = {}
    """Jobs that are run at certain times, by name."""

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that deploy, the preferred one first."""
        return (self.deploy.branch,) if self.deploy.branch else ("main", "master")


NAMED = {"processes": Process, "schedule": Job}
"""Sections with tables of the project's own names in them."""

HOST_ONLY = ("build.directory",)
"""What gatling.toml cannot say: where it is itself."""


def parse(values: dict[str, str]) -> Settings:
    """Settings from dotted keys and texts, as they are stored; raises InvalidInput."""
    try:
        return msgspec.convert(_tree(values), Settings, strict=False)
    except (msgspec.ValidationError, ValueError):
        raise setting_errors.explained(values, known(), tuple(NAMED), _reason, choices) from None


def _tree(values: dict[str, str]) -> dict[str, Any]:
    """Dotted keys as tables in tables; raises ValueError for one within a value."""
    tree: dict[str, Any] = {}
    for key, text in values.items():
        *sections, name = key.split(".", 2)
        at = tree
        for section in sections:
            at = at.setdefault(section, {})
            if not isinstance(at, dict):
                raise ValueError(key)
        at[name] = text
    return tree


def _reason(key: str, text: str) -> str:
    """What is wrong with one setting alone, in msgspec's words but for patterns; or nothing."""
    try:
        msgspec.convert(_tree({key: text}), Settings, strict=False)
    except msgspec.ValidationError as error:
        return in_words(str(error)).replace("`$.", "`")
    return ""


def in_words(reason: str) -> str:
    """What msgspec says, without patterns."""
    for pattern, words in EXPECTED.items():
        reason = reason.replace(f"`str` matching regex {pattern!r}", words)
    return reason


def describe(settings: Settings) -> dict[str, Any]:
    """Every setting with its value, by dotted key."""
    return flat(msgspec.to_builtins(settings))


def known() -> dict[str, Any]:
    """Every key that there can be with its default; NAME stands for a name of the project's own."""
    named = {section: {"NAME": msgspec.to_builtins(model())} for section, model in NAMED.items()}
    return describe(Settings()) | flat(named)


def choices(key: str) -> list[str]:
    """What a setting may be, where that is a choice of words."""
    section, _, name = key.partition(".")
    name = name.rpartition(".")[2]
    model = NAMED[section].__name__ if section in NAMED else section.capitalize()
    properties = msgspec.json.schema(Settings)["$defs"].get(model, {})
    found: list[str] = properties.get("properties", {}).get(name, {}).get("enum", [])
    return found


def flat(tree: dict[str, Any]) -> dict[str, Any]:
    """The leaves of a tree by dotted key."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": inner for name, inner in flat(value).items()}
        else:
            found[key] = value
    return found
