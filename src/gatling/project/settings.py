"""The settings of an app: what can be set, its type, its default and what it means.

This model validates gatling.toml (project/manifest.py) and `gatling settings`, and docs/settings.md
is generated from it. A docstring below a field is the text of its row there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gatling import decoding
from gatling.errors import InvalidInput
from gatling.project import durations, headers, processes, proxy, setting_errors, toolchains
from gatling.project.processes import MAX_NAMES, Job, Name, Process

Seconds = Annotated[float, Meta(ge=0.01, le=86400)]


_PATH = r"^/[!-~]*\Z"
_RELEASE = r"^([a-z][a-zA-Z0-9_]*)?\Z"
_DENY = r"^[A-Za-z0-9_., ]*\Z"
_SIZE = rf"^{proxy.SIZE}\Z"
# git-check-ref-format(1), without names that look like an option or another kind of ref
_PART = r"[A-Za-z0-9_](?:\.?[A-Za-z0-9_-])*"
_DIRECTORY = r"^([A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*)?\Z"
# systemd.resource-control(5): MemoryMax=, CPUQuota=
_MEMORY = r"^([1-9][0-9]{0,11}[KMGT]?|[1-9][0-9]?%)?\Z"
_COMMAND = r"^[^\x00-\x1f\x7f]*\Z"
_CPU = r"^([1-9][0-9]{0,5}%)?\Z"
_TOOLCHAIN = rf"^({toolchains.WANTED}|{toolchains.SYSTEM})?\Z"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_HOURS = rf"^({_TIME}-{_TIME})?\Z"
_ISSUER = r"^((issuer/)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?)?\Z"
_IMAGE = (
    r"^((localhost|(?=[^/]*[.:])[a-z0-9][a-z0-9.-]*)(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)+"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?)?\Z"
)
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
    _TOOLCHAIN: "a version such as 1.18 or 1.18.4/27, system, or nothing",
    _BRANCH: "the name of a branch, or nothing",
    _IMAGE: "an image such as registry.example.com/team/base:1.2, or nothing",
    _ISSUER: "the name of a ClusterIssuer, issuer/NAME, or nothing",
    _HOURS: "hours such as 22:00-07:00, or nothing",
}
"""The value that each pattern accepts, in words for error messages."""


class Health(Struct, frozen=True, forbid_unknown_fields=True):
    """The health check of a new instance."""

    path: Annotated[str, Meta(pattern=_PATH, max_length=1024)] = "/"
    """Path of the health check. The app must answer it with a status below 500."""
    timeout: Seconds = 60.0
    """Time limit for a new instance to become healthy, in seconds."""
    interval: Seconds = 0.02
    """Pause between two health checks, in seconds."""


class Build(Struct, frozen=True, forbid_unknown_fields=True):
    """The build of a release from a commit."""

    timeout: Seconds = 1800.0
    """Time limit for a build, in seconds."""
    release: Annotated[str, Meta(pattern=_RELEASE, max_length=128)] = ""
    """Name of the release in mix.exs to build. Empty: the default release."""
    memory: Annotated[str, Meta(pattern=_MEMORY)] = "75%"
    """Memory limit of a build on a server, such as 2G or 75%. Empty: no limit."""
    tasks: Annotated[int, Meta(ge=0, le=4000000)] = 4096
    """Limit for the OS processes and threads of a build on a server. 0: no limit."""
    cpu: Annotated[str, Meta(pattern=_CPU)] = ""
    """CPU limit of a build on a server. 150% is one and a half cores. Empty: no limit."""
    directory: Annotated[str, Meta(pattern=_DIRECTORY, max_length=200)] = ""
    """Directory in the repository that has mix.exs and gatling.toml. Empty: the root."""
    toolchain: Annotated[str, Meta(pattern=_TOOLCHAIN, max_length=60)] = ""
    """Installed Elixir and OTP to build with, such as 1.18 or 1.18.4/27. system: those of the host.
    Empty: the version that .tool-versions, mise.toml, elixir_buildpack.config or mix.exs asks for.
    """


class Migrate(Struct, frozen=True, forbid_unknown_fields=True):
    """Migrations that run before a new release goes live."""

    command: Annotated[str, Meta(pattern=_COMMAND, max_length=1024)] = "auto"
    """Command that runs the migrations, as for `gatling run`. auto: if there are new migrations,
    run bin/migrate (with Distillery: the command migrate) or migrate/0 of the Release module.
    Empty: run no migrations."""
    setup: Annotated[str, Meta(pattern=_COMMAND, max_length=1024)] = ""
    """Command that runs after the migrations of the first deployment, as for `gatling run`, for
    example to load seeds. It never runs again once it has succeeded. Empty: none."""
    timeout: Seconds = 600.0
    """Time limit for `migrate.command` and `migrate.setup`, in seconds."""
    rehearse: bool = False
    """Run new migrations on a fork of the database first, and stop the deployment if they fail."""

    def __post_init__(self) -> None:
        """Reject invalid command lines. msgspec reports a ValueError as a validation error."""
        processes.check("command", self.command)
        processes.check("setup", self.setup)


class Instance(Struct, frozen=True, forbid_unknown_fields=True):
    """How Gatling stops an instance."""

    drain: Annotated[float, Meta(ge=0, le=86400)] = 10.0
    """Time for requests and sockets of the previous instance to finish, in seconds."""
    drain_rate: Annotated[int, Meta(ge=0, le=100000)] = 0
    """Phoenix sockets of the previous instance that are asked to reconnect each second. The drain
    takes as long as that needs. 0: all of them reconnect when the instance stops."""
    stop: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """Time between SIGTERM and SIGKILL, in seconds."""


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of an instance on a server, applied at its next start."""

    memory: Annotated[str, Meta(pattern=_MEMORY)] = ""
    """Memory limit of an instance, such as 512M, 2G or 50%. An instance that exceeds it is killed
    and restarted. Empty: no limit."""
    tasks: Annotated[int, Meta(ge=0, le=4000000)] = 4096
    """Limit for the OS processes and threads of an instance, not BEAM processes. 0: no limit."""
    cpu: Annotated[str, Meta(pattern=_CPU)] = ""
    """CPU limit of an instance. 150% is one and a half cores. Empty: no limit."""


class Hot(Struct, frozen=True, forbid_unknown_fields=True):
    """Hot upgrades of the running node."""

    watch: Seconds = 1.0
    """Time after the switch in which a release that crashes, or that serves worse than the one
    before, is undone, in seconds or such as 90s, 5m or 1h. A push waits for 5 s of it at most."""
    suspend: Seconds = 5.0
    """Time limit for suspending a process, and for waiting until no process runs code that calls
    removed functions, in seconds."""
    boot_check: Literal["after", "before", "off"] = "after"
    """When to start the new release beside the running one, without traffic, to check its boot.
    after: beside the watch. A check that takes longer than the push waits continues in the
    background, and undoes the upgrade if it fails."""
    rehearse: bool = False
    """Try each upgrade on a throw-away instance of the live release first."""
    rerender: bool = True
    """Render the open LiveViews again after an upgrade, so that they show the new version."""
    structs: bool = False
    """Allow the fields of a struct to change in a hot upgrade. This is safe if no process keeps
    such a struct for long, as with Ecto schemas."""
    deny: Annotated[str, Meta(pattern=_DENY, max_length=4096)] = ""
    """Applications and modules, separated by commas, that a hot upgrade must not change."""


class Rolling(Struct, frozen=True, forbid_unknown_fields=True):
    """Rolling deployments."""

    watch: Annotated[float, Meta(ge=0, le=86400)] = 0.0
    """Time after the switch in which the previous instance keeps running, so that a rollback only
    switches the proxy, and in which a release that crashes or serves worse is undone, in seconds or
    such as 90s, 5m or 1h. Both instances need memory. 0: the previous instance stops after its
    drain."""


class Releases(Struct, frozen=True, forbid_unknown_fields=True):
    """Retention of releases."""

    keep: Annotated[int, Meta(ge=1, le=1000)] = 10
    """Number of releases to retain besides the live one."""


class Deploy(Struct, frozen=True, forbid_unknown_fields=True):
    """When and how a push is deployed."""

    branch: Annotated[str, Meta(pattern=_BRANCH, max_length=200)] = ""
    """Branch that a push deploys. Empty: main or master."""
    strategy: Literal["auto", "rolling", "restart"] = "auto"
    """How a release replaces the live one. auto: hot if it is safe, otherwise rolling."""
    second_instance: Literal["auto", "allow", "never"] = "auto"
    """Let a second instance run beside the live one, for a rolling deployment, a boot check or a
    rehearsal. auto: yes, unless the live instance has data or a port open that two instances cannot
    share."""
    figures: Literal["undo", "note", "off"] = "undo"
    """How the watch uses error rate and response times through the proxy. undo: undo a release that
    serves clearly worse than the one before. note: only report it. off: do not compare."""


class Proxy(Struct, frozen=True, forbid_unknown_fields=True):
    """How nginx handles requests for the app. Applied once a release is live."""

    body_limit: Annotated[str, Meta(pattern=_SIZE)] = "100m"
    """Size limit of a request body, such as 20m or 2g. Larger requests get status 413. 0: no limit.
    """
    read_timeout: Annotated[int, Meta(ge=1, le=proxy.MAX_SECONDS)] = 120
    """Longest pause of the app before or within a response, in seconds."""
    send_timeout: Annotated[int, Meta(ge=1, le=proxy.MAX_SECONDS)] = 60
    """Longest pause of the app while it reads a request, in seconds."""
    buffering: bool = False
    """Let nginx buffer responses. Delays server-sent events."""
    redirect_www: Literal["off", "to-apex", "to-www"] = "off"
    """Domain that browsers are redirected to, if the app has both a domain and its www. variant."""
    https: Literal["auto", "off", "redirect"] = "auto"
    """Redirect HTTP requests to HTTPS. auto: for domains with a certificate. redirect: for all, if
    a TLS proxy in front of Gatling serves HTTPS."""
    hsts: Annotated[int, Meta(ge=0, le=proxy.MAX_HSTS)] = 0
    """How long browsers use only HTTPS after an HTTPS response, in seconds. 0: as the app says."""
    http3: bool = False
    """Serve HTTP/3 as well, on a server whose nginx has it. Requests over HTTP/3 that are under way
    fail when nginx reloads its configuration, as with each change of a domain or certificate."""
    headers: Annotated[str, Meta(max_length=headers.MAX_LENGTH)] = ""
    """Response headers that replace those of the app: Name: value | Name: value."""
    maintenance_page: Annotated[str, Meta(pattern=_DIRECTORY, max_length=200)] = ""
    """HTML file of the project to show during maintenance, up to 256 KB. Empty: Gatling's page."""
    static: bool = True
    """Let nginx serve fingerprinted assets of priv/static, of the live and of previous releases."""
    static_keep: Annotated[int, Meta(ge=0, le=20)] = 3
    """Number of previous releases whose assets nginx serves, as long as they are retained."""

    def __post_init__(self) -> None:
        """Reject invalid headers. msgspec reports a ValueError as a validation error."""
        try:
            headers.parse(self.headers)
        except InvalidInput as error:
            raise ValueError(f"headers: {error.what} {error.hint}".rstrip(" .")) from None


class Certificates(Struct, frozen=True, forbid_unknown_fields=True):
    """Certificates from a CA, on a server with an account (`gatling certificates account`)."""

    obtain: bool = True
    """Obtain and renew certificates for the app's domains. Domains with a certificate of your own
    are left alone."""
    check: bool = True
    """Check that a domain leads to this server, or that its record in the DNS can be written,
    before the CA is asked for a certificate."""
    challenge: Literal["http", "dns"] = "http"
    """How the CA verifies a domain. http: over port 80. dns: by records that Gatling writes
    (`gatling certificates dns`). Domains with a `*` are always verified by DNS."""


class Cluster(Struct, frozen=True, forbid_unknown_fields=True):
    """Apps that run on a Kubernetes cluster."""

    instances: Annotated[int, Meta(ge=1, le=100)] = 1
    """Number of instances on a cluster. `gatling scale APP web=3` sets it. Ignored elsewhere."""
    issuer: Annotated[str, Meta(pattern=_ISSUER, max_length=253)] = ""
    """ClusterIssuer of cert-manager that obtains certificates for the app's domains on a cluster.
    `issuer/NAME` is an Issuer of the namespace. Default: the domains are served without HTTPS."""
    base: Annotated[str, Meta(pattern=_IMAGE, max_length=512)] = ""
    """Image that the images of releases are based on, for those that are built from then on. Each
    release keeps the digest that the tag has then. Default: the Debian packages of this machine."""
    tls: bool = False
    """Encrypt Erlang's distribution between the instances on a cluster, and verify both sides, with
    a certificate that Gatling creates for the app. The release needs the application `ssl`."""


class Stats(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers that `gatling stats` and `gatling metrics` show."""

    telemetry: bool = True
    """Count requests by route, LiveView events, queries and Oban jobs in the node, from what the
    app's libraries report over :telemetry."""


class Alerts(Struct, frozen=True, forbid_unknown_fields=True):
    """When `gatling watch` alerts: numbers of an app that are out of their range."""

    errors: Annotated[float, Meta(ge=0, le=100)] = 5.0
    """Percentage of the requests of five minutes that fail with a status of 500 or above. At least
    5 of at least 20 requests must fail. 0: no such alert."""
    latency: Annotated[int, Meta(ge=0, le=600000)] = 1000
    """Response time that 5 % of the requests of five minutes exceed (p95), in milliseconds. 0: no
    such alert."""
    latency_ratio: Annotated[float, Meta(ge=0, le=1000)] = 3.0
    """How many times as long as on the day before the p95 must also be. 0: do not compare."""
    memory: Annotated[int, Meta(ge=0, le=100)] = 90
    """Percentage of `limits.memory` that the instance uses for five minutes. 0: no such alert."""
    run_queue: Annotated[float, Meta(ge=0, le=100000)] = 4.0
    """Processes that wait for each scheduler for five minutes. 0: no such alert."""
    messages: Annotated[int, Meta(ge=0, le=1000000000)] = 10000
    """Messages in the queue of one process for two minutes. 0: no such alert."""
    quiet: Annotated[str, Meta(pattern=_HOURS)] = ""
    """Hours in which notifications of this app's alerts wait, such as 22:00-07:00, in the host's
    time. Empty: none."""

    def __post_init__(self) -> None:
        """Reject hours that end when they begin. msgspec reports it as a validation error."""
        if self.quiet and self.quiet[:5] == self.quiet[6:]:
            raise ValueError("quiet: the hours must end at another time than they begin")


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of an app."""

    deploy: Deploy = Deploy()
    build: Build = Build()
    health: Health = Health()
    migrate: Migrate = Migrate()
    instance: Instance = Instance()
    limits: Limits = Limits()
    hot: Hot = Hot()
    rolling: Rolling = Rolling()
    stats: Stats = Stats()
    alerts: Alerts = Alerts()
    releases: Releases = Releases()
    cluster: Cluster = Cluster()
    proxy: Proxy = Proxy()
    certificates: Certificates = Certificates()
    processes: Annotated[dict[Name, Process], Meta(max_length=MAX_NAMES)] = {}
    """Workers, by name."""
    schedule: Annotated[dict[Name, Job], Meta(max_length=MAX_NAMES)] = {}
    """Scheduled jobs, by name."""

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that deploy, the preferred one first."""
        return (self.deploy.branch,) if self.deploy.branch else ("main", "master")


NAMED = {"processes": Process, "schedule": Job}
"""Sections whose tables have names that the project chooses."""

HOST_ONLY = ("build.directory",)
"""Keys that only the host can set, because they locate gatling.toml."""


def parse(values: dict[str, str]) -> Settings:
    """Settings from dotted keys and texts, as they are stored; raises InvalidInput."""
    try:
        return decoding.convert(_tree(values), Settings, strict=False)
    except (msgspec.ValidationError, ValueError):
        raise setting_errors.explained(values, known(), tuple(NAMED), _reason, choices) from None


def _tree(values: dict[str, str]) -> dict[str, Any]:
    """Nested tables from dotted keys. Raises ValueError if one key is part of another."""
    tree: dict[str, Any] = {}
    for key, text in values.items():
        *sections, name = key.split(".", 2)
        at = tree
        for section in sections:
            at = at.setdefault(section, {})
            if not isinstance(at, dict):
                raise ValueError(key)
        at[name] = durations.seconds(key, text)
    return tree


def _reason(key: str, text: str) -> str:
    """The validation error of one setting alone, without patterns, or an empty string."""
    try:
        decoding.convert(_tree({key: text}), Settings, strict=False)
    except msgspec.ValidationError as error:
        return in_words(str(error)).replace("`$.", "`")
    return ""


def in_words(reason: str) -> str:
    """A message of msgspec with patterns replaced by words."""
    for pattern, words in EXPECTED.items():
        reason = reason.replace(f"`str` matching regex {pattern!r}", words)
    return reason


def describe(settings: Settings) -> dict[str, Any]:
    """Every setting with its value, by dotted key."""
    return flat(msgspec.to_builtins(settings))


def known() -> dict[str, Any]:
    """Every possible key with its default. NAME stands for a name that the project chooses."""
    named = {section: {"NAME": msgspec.to_builtins(model())} for section, model in NAMED.items()}
    return describe(Settings()) | flat(named)


def choices(key: str) -> list[str]:
    """The words that a setting accepts, if it accepts only certain words."""
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
