"""The routes of the API."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gatling.api import calls, data_calls, host_calls
from gatling.api.contract import (
    VERSION,
    Backup,
    Caller,
    ConfigChange,
    DeploymentEvent,
    DomainAdded,
    Domains,
    Ident,
    Limited,
    Maintenance,
    NewChannel,
    OfDatabase,
    OfJob,
    OfRelease,
    Past,
    Planned,
    PoolChange,
    PoolWanted,
    Restart,
    Restarting,
    RewindPlan,
    Rollback,
    Route,
    SettingsDone,
    Since,
    Variable,
    Watched,
)
from gatling.operations import backups
from gatling.operations.audit import AuditEntry
from gatling.operations.certificates import Kept
from gatling.operations.databases import DatabaseEntry
from gatling.operations.deployments import DeploymentEntry
from gatling.operations.https import Https
from gatling.operations.jobs import JobEntry, RunEntry
from gatling.operations.notices import ChannelAdded, ChannelEntry
from gatling.operations.plans import PlanResult
from gatling.operations.processes import Process
from gatling.operations.releases import ReleaseEntry
from gatling.operations.settings import EffectiveSettings
from gatling.operations.stats import AppStats
from gatling.operations.status import AppDetails, AppStatus
from gatling.operations.timeline import Timeline, WatchStatus

VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
Variables = Annotated[
    dict[Annotated[str, Meta(pattern=VARIABLE)], Annotated[str, Meta(max_length=122880)] | None],
    Meta(min_length=1, max_length=500),
]
Counts = Annotated[
    dict[str, Annotated[int, Meta(ge=0, le=1000)]], Meta(min_length=1, max_length=100)
]
Values = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=200)],
        Annotated[str, Meta(max_length=4096)] | int | float | bool | None,
    ],
    Meta(min_length=1, max_length=200),
]

ROUTES = (
    Route("get_caller", "GET", "/me", "whoami", "The token of the request.",
          calls.caller, Caller),
    Route("list_apps", "GET", "/apps", "apps", "The apps that the token may see.",
          calls.list_apps, list[AppStatus]),
    Route("get_app", "GET", "/apps/{app}", "status", "The state of an app.",
          calls.get_app, AppDetails),
    Route("list_releases", "GET", "/apps/{app}/releases", "releases",
          "The releases of an app, the newest first.",
          calls.list_releases, list[ReleaseEntry]),
    Route("list_deployments", "GET", "/apps/{app}/deployments", "deployments",
          "The deployments of an app, the newest first.",
          calls.list_deployments, list[DeploymentEntry], Limited),
    Route("get_deployment", "GET", "/apps/{app}/deployments/{id}", "deployments",
          "One deployment, with its steps and its probe report.",
          calls.get_deployment, DeploymentEntry),
    Route("get_deployment_log", "GET", "/apps/{app}/deployments/{id}/log", "deployments",
          "The output of a deployment, as text.",
          calls.get_deployment_log, None, kind="text"),
    Route("get_plan", "GET", "/apps/{app}/plan", "plan",
          "How a release would replace the live one, and why. Nothing is changed.",
          calls.get_plan, PlanResult, Planned, kind="work"),
    Route("list_config", "GET", "/apps/{app}/config", "info",
          "The names of the variables of an app. Values are never returned.",
          calls.list_config, list[Variable]),
    Route("change_config", "PATCH", "/apps/{app}/config", "config set",
          "Set variables, and unset those whose value is null. Returns when the release that has"
          " them is live.",
          calls.change_config, ConfigChange, Restarting, Variables, body_required=True,
          kind="work"),
    Route("list_domains", "GET", "/apps/{app}/domains", "domains list", "The domains of an app.",
          calls.list_domains, list[str]),
    Route("add_domain", "POST", "/apps/{app}/domains", "domains add",
          "Serve an app under one more domain, or under one that another app had until now.",
          calls.add_domain, Domains, body=DomainAdded, body_required=True, kind="work"),
    Route("remove_domain", "DELETE", "/apps/{app}/domains/{domain}", "domains remove",
          "Serve an app no longer under a domain.",
          calls.remove_domain, Domains, kind="work"),
    Route("list_certificates", "GET", "/apps/{app}/certificates", "certificates list",
          "The certificates of an app.",
          calls.list_certificates, list[Kept]),
    Route("get_https", "GET", "/apps/{app}/https", "certificates show",
          "How HTTPS is with an app: its certificates, the next renewal, and the last error.",
          calls.get_https, Https),
    Route("get_stats", "GET", "/apps/{app}/stats", "stats",
          "The numbers of an app: requests, latencies, memory, processes.",
          calls.get_stats, AppStats, Since),
    Route("get_settings", "GET", "/apps/{app}/settings", "settings list",
          "All settings of an app, and where each comes from.",
          calls.get_settings, EffectiveSettings),
    Route("change_settings", "PATCH", "/apps/{app}/settings", "settings set",
          "Set settings, and unset those whose value is null. Those of alerts, proxy and schedule"
          " apply when it returns, others with the next deployment.",
          calls.change_settings, SettingsDone, body=Values, body_required=True, kind="work"),
    Route("list_processes", "GET", "/apps/{app}/processes", "status",
          "The workers of an app, and how many of each run.",
          calls.list_processes, list[Process]),
    Route("scale", "PATCH", "/apps/{app}/processes", "scale",
          "Let so many instances of each worker run.",
          calls.scale, list[Process], body=Counts, body_required=True, kind="work"),
    Route("list_audit", "GET", "/apps/{app}/audit", "audit",
          "The changes of an app with their authors, the newest first.",
          calls.list_audit, list[AuditEntry]),
    Route("restart", "POST", "/apps/{app}/restart", "restart",
          "Replace the running instance with a new one of the live release. Returns when it"
          " serves.",
          calls.restart, DeploymentEntry | None, body=Restart, kind="work"),
    Route("stop", "POST", "/apps/{app}/stop", "stop",
          "Stop an app. Its domains answer 503 until it is started or deployed.",
          calls.stop, AppDetails, kind="work"),
    Route("start", "POST", "/apps/{app}/start", "start", "Start an app after it was stopped.",
          calls.start, AppDetails, kind="work"),
    Route("rollback", "POST", "/apps/{app}/rollback", "rollback",
          "Make an earlier release live again, with the config that it had.",
          calls.rollback, DeploymentEntry | None, body=Rollback, kind="work"),
    Route("get_rewind", "GET", "/apps/{app}/rewind", "rollback",
          "The effects of a rollback with the data of that time. Nothing is changed.",
          data_calls.get_rewind, RewindPlan, OfRelease, kind="work"),
    Route("begin_maintenance", "PUT", "/apps/{app}/maintenance", "maintenance on",
          "Show the maintenance page instead of an app, which keeps running.",
          calls.begin_maintenance, AppDetails, body=Maintenance, kind="work"),
    Route("end_maintenance", "DELETE", "/apps/{app}/maintenance", "maintenance off",
          "Serve the app again.",
          calls.end_maintenance, AppDetails, kind="work"),
    Route("list_jobs", "GET", "/apps/{app}/jobs", "jobs list",
          "The scheduled jobs of an app, each with its last run.",
          data_calls.list_jobs, list[JobEntry]),
    Route("list_runs", "GET", "/apps/{app}/jobs/runs", "jobs runs",
          "The runs of an app's jobs, the newest first.",
          data_calls.list_runs, list[RunEntry], OfJob),
    Route("run_job", "POST", "/apps/{app}/jobs/{job}/run", "jobs run",
          "Run a job now. Returns when it has ended, whatever its outcome.",
          data_calls.run_job, RunEntry, kind="work"),
    Route("cancel_job", "POST", "/apps/{app}/jobs/{job}/cancel", "jobs cancel",
          "Stop the runs of a job that are in progress, and return them.",
          data_calls.cancel_job, list[RunEntry], kind="work"),
    Route("list_databases", "GET", "/databases", "db list",
          "The databases of the apps that the token may see.",
          data_calls.list_databases, list[DatabaseEntry]),
    Route("get_database", "GET", "/apps/{app}/database", "db info",
          "A database of an app: version, size, connections, faults.",
          data_calls.get_database, DatabaseEntry, OfDatabase),
    Route("list_backups", "GET", "/apps/{app}/database/backups", "db backups",
          "The backups of a database, the oldest first, and whether they are proved.",
          data_calls.list_backups, list[backups.BackupEntry], OfDatabase),
    Route("back_up", "POST", "/apps/{app}/database/backups", "db backup",
          "Back a database up. Returns when the backup is proved.",
          data_calls.back_up, backups.BackupDone, body=Backup, kind="work"),
    Route("set_pool", "PUT", "/apps/{app}/database/pool", "db pool",
          "Put a pool of connections (PgBouncer) between an app and a database, or change its size."
          " Returns when the release that uses it is live.",
          data_calls.set_pool, PoolChange, body=PoolWanted, kind="work"),
    Route("remove_pool", "DELETE", "/apps/{app}/database/pool", "db pool",
          "Let an app use a database without a pool again.",
          data_calls.remove_pool, PoolChange, OfDatabase, kind="work"),
    Route("get_timeline", "GET", "/apps/{app}/timeline", "watch show",
          "The numbers of an app over time, with deployments, restarts, jobs, backups and alerts.",
          host_calls.get_timeline, Timeline, Past),
    Route("get_watch", "GET", "/watch", "watch status",
          "The state of the sampler, and the alerts that are on.",
          host_calls.get_watch, WatchStatus),
    Route("get_metrics", "GET", "/metrics", "metrics",
          "The numbers of the apps that the token may see, in the text format of Prometheus.",
          host_calls.get_metrics, None, kind="text"),
    Route("list_channels", "GET", "/channels", "notify list",
          "The channels for notifications, with what waits for them and the last error.",
          host_calls.list_channels, list[ChannelEntry]),
    Route("add_channel", "POST", "/channels", "notify add",
          "Add a channel for notifications.",
          host_calls.add_channel, ChannelAdded, body=NewChannel, body_required=True, kind="work"),
    Route("test_channel", "POST", "/channels/{channel}/test", "notify test",
          "Send a notification through a channel. Returns when it is accepted.",
          host_calls.test_channel, ChannelEntry, kind="work"),
    Route("remove_channel", "DELETE", "/channels/{channel}", "notify remove",
          "Remove a channel and what waits for it, and return the others.",
          host_calls.remove_channel, list[ChannelEntry], kind="work"),
    Route("watch_deployments", "GET", "/events", "apps",
          "Deployments as they happen, as server-sent events.",
          calls.elsewhere, DeploymentEvent, Watched, kind="events"),
    Route("get_description", "GET", "/openapi.json", "help",
          "The description of the API (OpenAPI 3.1).",
          calls.elsewhere, None, kind="description"),
)  # fmt: skip
ON_CLUSTERS = frozenset((
    "get_app", "list_releases", "list_deployments", "get_deployment", "get_deployment_log",
    "list_config", "change_config", "list_domains", "add_domain", "remove_domain", "get_settings",
    "change_settings", "list_processes", "scale", "list_audit", "restart", "stop", "start",
    "rollback", "get_plan", "get_stats", "get_timeline", "list_jobs", "list_runs", "run_job",
    "cancel_job", "begin_maintenance", "end_maintenance",
))  # fmt: skip
"""The routes that work for an app on a cluster; others refuse it."""
BY_NAME = {route.name: route for route in ROUTES}
PREFIX = f"/{VERSION}"
ID = Ident
"""The type of `{id}`."""
