"""The types of routes, and of the requests that they take. No HTTP library is used here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct

from gatling.operations.deployments import DeploymentEntry  # noqa: TC001 (msgspec reads it)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.open import Gatling
    from gatling.ssh.policy import Grant

VERSION = "v1"
APP = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
MAX_BODY = 1 << 20
"""Bytes of a request's body."""
MAX_ID = 2**53
"""The largest number that every reader of JSON keeps exactly."""

Release = Annotated[
    str, Meta(pattern=r"^v?[1-9][0-9]{0,8}$", description="A release, such as `v7`.")
]
Strategy = Literal["auto", "hot", "rolling", "restart"]
Ident = Annotated[int, Meta(ge=1, le=MAX_ID)]


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Limited(Struct, frozen=True, forbid_unknown_fields=True):
    """How many entries are listed."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    """The number of entries, at most."""


class Since(Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of time that ends now."""

    since: Annotated[str, Meta(max_length=40)] = "5m"
    """Count requests from then on: `15m`, `2h`, `1d`, or a time such as `2026-01-31T12:00Z`."""


class Planned(Struct, frozen=True, forbid_unknown_fields=True):
    """The deployment that is planned."""

    release: Release | None = None
    """The release. Default: the newest retained one."""
    strategy: Strategy | None = None
    """Overrides the setting `deploy.strategy`."""
    files: bool = False
    """Compare only files and records, and start nothing. A reader's token is limited to this."""


class Restarting(Struct, frozen=True, forbid_unknown_fields=True):
    """When a change of the config takes effect."""

    restart: bool = True
    """Replace the running release with one that has the new config. false: store the change for
    the next deployment."""


class Watched(Struct, frozen=True, forbid_unknown_fields=True):
    """The deployments that are watched."""

    app: Annotated[str, Meta(pattern=APP)] | None = None
    """Only those of this app."""


class Restart(Struct, frozen=True, forbid_unknown_fields=True):
    """A restart of an app, or of one of its workers."""

    process: Annotated[str, Meta(max_length=64)] | None = None
    """Restart only this worker: `worker`, or `worker.1`."""


class Rollback(Struct, frozen=True, forbid_unknown_fields=True):
    """A return to an earlier release."""

    release: Release | None = None
    """The release. Default: the one that was live before."""
    strategy: Strategy | None = None
    """Overrides the setting `deploy.strategy`. `hot` fails if it is not safe."""
    rehearse: bool = False
    """Try a hot upgrade on a throw-away instance of the live release first."""
    confirm: str = ""
    """The app's name, if the live release has migrations that the other one does not know."""


class Maintenance(Struct, frozen=True, forbid_unknown_fields=True):
    """The maintenance page."""

    message: Annotated[str, Meta(max_length=1000)] = ""
    """Text for Gatling's page. Empty: the project's page, or Gatling's own text."""


class Caller(Struct, frozen=True):
    """The token of a request."""

    name: str
    role: Literal["admin", "deployer", "reader"]
    apps: list[str]
    """`*` stands for all."""
    expires_at: str


class Variable(Struct, frozen=True):
    """A variable of an app's config. No route returns its value."""

    name: str
    waiting: bool
    """Whether the stored value waits for the next deployment."""


class ConfigChange(Struct, frozen=True):
    """The result of a change of the config."""

    changed: bool
    """false: the variables had these values already."""
    waiting: list[str]
    """Variables whose stored value waits for the next deployment."""
    deployment: DeploymentEntry | None
    """The deployment that replaced the running release."""


class DeploymentEvent(Struct, frozen=True):
    """The data of an event."""

    app: str
    deployment: DeploymentEntry


class ErrorDetail(Struct, frozen=True):
    """The cause of an error, and the way out."""

    code: str
    """The kind of error. It never changes."""
    message: str
    hint: str
    log: list[str]
    """The last lines of the log that belongs to the error."""


class Error(Struct, frozen=True):
    """An error, as commands with `--json` print it."""

    error: ErrorDetail


class Call(NamedTuple):
    """A request that is permitted and well formed."""

    grant: Grant
    app: str
    """Empty for a route that is about no single app."""
    ident: int
    query: Any
    body: Any
    token: Caller


class Route(NamedTuple):
    """A method of a path."""

    name: str
    """The operation's name, which clients are generated with."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    """After `/v1`, with `{app}` and `{id}`."""
    command: str
    """The command whose permission it needs."""
    summary: str
    call: Callable[[Gatling, Call], object]
    result: Any
    """The type of the answer; None for one that is no JSON."""
    query: type[Struct] = Nothing
    body: Any = None
    body_required: bool = False
    kind: Literal["read", "work", "text", "events", "description"] = "read"
    """`work` is done by a process of its own."""

    @property
    def of_app(self) -> bool:
        """Whether it is about one app."""
        return "{app}" in self.path
