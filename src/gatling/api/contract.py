"""The types of routes, and of the requests that they take. No HTTP library is used here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct

from gatling.deploy.migrations.written import Lost  # noqa: TC001 (msgspec reads it)
from gatling.operations.deployments import DeploymentEntry  # noqa: TC001
from gatling.operations.pools import Pooled  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.open import Gatling
    from gatling.ssh.policy import Grant

VERSION = "v1"
APP = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
CHANNEL = r"^[a-z0-9][a-z0-9_-]{0,30}$"
JOB = r"^[a-z][a-z0-9_-]{0,30}$"
MAX_BODY = 1 << 20
"""Bytes of a request's body."""
MAX_ID = 2**53
"""The largest number that every reader of JSON keeps exactly."""

Release = Annotated[
    str, Meta(pattern=r"^v?[1-9][0-9]{0,8}$", description="A release, such as `v7`.")
]
Strategy = Literal["auto", "hot", "rolling", "restart"]
Ident = Annotated[int, Meta(ge=1, le=MAX_ID)]
DatabaseName = Annotated[str, Meta(pattern=APP)]

NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "job": ("The name of the job.", {"type": "string", "pattern": JOB}),
    "domain": ("The domain.", {"type": "string", "minLength": 1, "maxLength": 300}),
    "channel": ("The name of the channel.", {"type": "string", "pattern": CHANNEL}),
}
"""The names in paths below an app or beside it: meaning and schema. Operations check them."""


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
    with_data: bool = False
    """Return to the data of that time as well, in a new database. `GET /v1/apps/{app}/rewind`
    returns what has been written since then."""
    confirm: str = ""
    """The app's name, if the live release has migrations that the other one does not know, and
    always together with `with_data`."""


class OfRelease(Struct, frozen=True, forbid_unknown_fields=True):
    """A release to return to."""

    release: Release | None = None
    """The release. Default: the one that was live before."""


class Maintenance(Struct, frozen=True, forbid_unknown_fields=True):
    """The maintenance page."""

    message: Annotated[str, Meta(max_length=1000)] = ""
    """Text for Gatling's page. Empty: the project's page, or Gatling's own text."""


class OfDatabase(Struct, frozen=True, forbid_unknown_fields=True):
    """One of the databases of an app."""

    name: DatabaseName | None = None
    """The database. Default: the one that `DATABASE_URL` names, or the only one."""


class OfJob(Struct, frozen=True, forbid_unknown_fields=True):
    """The runs of all jobs, or of one."""

    job: Annotated[str, Meta(pattern=JOB)] | None = None
    """Only those of this job."""


class Past(Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of time that ends now, in points."""

    since: Annotated[str, Meta(max_length=40)] = "2h"
    """The beginning: `30m`, `2h`, `7d`, or a time such as `2026-01-31T12:00Z`."""
    points: Annotated[int, Meta(ge=1, le=1000)] = 24
    """The number of points, at most."""


class DomainAdded(Struct, frozen=True, forbid_unknown_fields=True):
    """A domain for an app."""

    domain: Annotated[str, Meta(min_length=1, max_length=300)]
    """A host name such as `shop.example.com`, or an IP address."""
    other_app: Annotated[str, Meta(pattern=APP)] | None = None
    """Take the domain from this app. The token needs access to both."""


class Backup(Struct, frozen=True, forbid_unknown_fields=True):
    """A backup of a database."""

    name: DatabaseName | None = None
    """The database. Default: the one that `DATABASE_URL` names, or the only one."""
    full: bool = False
    """Copy everything, and not only changes."""


class PoolWanted(Struct, frozen=True, forbid_unknown_fields=True):
    """A pool of connections."""

    name: DatabaseName | None = None
    """The database. Default: the one that `DATABASE_URL` names, or the only one."""
    size: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """The connections that the pool opens to the database, at most. Default: the present number,
    or 20."""
    restart: bool = True
    """Replace the running release with one that has the URL of the pool. false: store the URL for
    the next deployment."""


class NewChannel(Struct, frozen=True, forbid_unknown_fields=True):
    """A channel for notifications."""

    name: Annotated[str, Meta(pattern=CHANNEL)]
    target: Annotated[str, Meta(min_length=1, max_length=2000)]
    """The https:// address of a webhook, mailto:ADDRESS, or a chat service in the form of
    apprise."""
    apps: Annotated[list[Annotated[str, Meta(pattern=APP)]], Meta(max_length=100)] = []
    """Only about these apps. Empty: all, and the host."""
    events: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=100)] = []
    """Only these events. Empty: all but deployment.succeeded."""
    quiet: Annotated[str, Meta(max_length=11)] = ""
    """Alerts wait in these hours of the host's time, such as `22:00-07:00`."""


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


class RewindPlan(Struct, frozen=True):
    """A return to a release and its data, that can be made."""

    release: str
    live: str
    """The release that is live now."""
    database: str
    """The database that the app uses now. It is kept."""
    before: str
    """The data is that of the moment before the migrations of this release."""
    at: str
    """When that was."""
    lost: Lost | None
    """The changes since then. null: they are not known."""


class PoolChange(Struct, frozen=True):
    """A pool of connections after a change."""

    changed: bool
    pool: Pooled | None
    """null: the app uses the database without a pool."""
    notes: list[str]
    """Advice on the configuration of the app, as sentences."""
    deployment: DeploymentEntry | None
    """The deployment that replaced the running release."""


class SettingsDone(Struct, frozen=True):
    """The changed settings, by the time at which they take effect."""

    applied: list[str]
    """Keys that are in effect now."""
    waiting: list[str]
    """Keys that the next deployment applies."""
    notes: list[str]
    """Why a setting has no effect on this host."""


class Domains(Struct, frozen=True):
    """The domains of an app after a change."""

    changed: bool
    """false: the app had the domain already."""
    domains: list[str]
    notes: list[str]
    """The effects on HTTPS and on PHX_HOST, as sentences."""


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
    name: str = ""
    """The name in the path that is in NAMED: of a job, a domain or a channel."""


class Route(NamedTuple):
    """A method of a path."""

    name: str
    """The operation's name, which clients are generated with."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    """After `/v1`, with `{app}`, `{id}` and one of NAMED."""
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
