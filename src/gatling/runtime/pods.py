"""A release as the pods of a cluster: image, command, limits, environment. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import names
from gatling.platform.kubernetes import objects
from gatling.platform.kubernetes.pods import (
    CURRENT,
    DISTRIBUTION,
    DISTRIBUTION_FILES,
    NODE,
    Health,
    Pods,
    distribution_name,
    secret_name,
)
from gatling.platform.limits import Limits
from gatling.releases import distillery
from gatling.runtime import spec

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.platforms import Platform
    from gatling.state.releases import Release

# pods reach each other, so distribution listens on the pod's address; a NetworkPolicy guards it
NODE_FLAGS = f"-start_epmd false -erl_epmd_port {NODE} -proto_dist"
PLAIN = "inet_tcp"
ENCRYPTED = f"inet_tls -ssl_dist_optfile {DISTRIBUTION}/{DISTRIBUTION_FILES[-1]}"


def described(
    app: App, release: Release, settings: Settings, platform: Platform, deployment: int
) -> Pods:
    """The pods of a release; `deployment` is the deployment that they belong to."""
    limits = Limits(settings.limits.memory, settings.limits.tasks, settings.limits.cpu)
    return Pods(
        app=app.name,
        namespace=platform.cluster.namespace,
        release=release.number,
        image=release.image,
        command=(f"bin/{release.name}", "start"),
        node=release.name,
        limits=limits,
        stop_seconds=settings.instance.stop,
        drain_seconds=settings.instance.drain,
        pulls=platform.registry is not None and bool(platform.registry.user),
        config=secret_name(app.name, release.number, environment(app, release, settings, platform)),
        deployment=deployment,
        distribution=distribution_name(app.name) if settings.cluster.tls else "",
    )


def health(app: App, settings: Settings) -> Health:
    """The request by which a pod shows that it is ready."""
    return Health(settings.health.path, names.host(app.primary_domain))


def environment(
    app: App, release: Release, settings: Settings, platform: Platform
) -> dict[str, str]:
    """The variables that Gatling suggests, those of the release, and those that Gatling sets."""
    own = release.config.get(distillery.FLAGS, "")
    suggested = {
        "LANG": "C.UTF-8",
        "MIX_ENV": "prod",
        "PHX_SERVER": "true",
        "PHX_HOST": app.primary_domain,
        "DNS_CLUSTER_QUERY": objects.nodes_domain(app.name, platform.cluster.namespace),
        "ERL_CRASH_DUMP": f"/tmp/{spec.CRASH_DUMP}",  # noqa: S108 (of the pod alone)
        "ERL_CRASH_DUMP_SECONDS": "0",
    }
    flags = f"{NODE_FLAGS} {ENCRYPTED if settings.cluster.tls else PLAIN}"
    return suggested | release.config | {distillery.FLAGS: f"{own} {flags}".lstrip()}


def words(pods: Pods, command: tuple[str, ...], *, program: bool) -> tuple[str, ...]:
    """The command line of a one-off command: a program of the release, or its main script's."""
    if program:
        return (f"bin/{command[0]}", *command[1:])
    return (pods.command[0], *command)


def once(pods: Pods, tree: Path, command: tuple[str, ...]) -> tuple[str, ...]:
    """The same for a release whose tree lies here, which says whether it is a program."""
    program = "/" not in command[0] and spec.executable(tree, command[0])
    return words(pods, command, program=program)


def beside(pods: Pods, command: tuple[str, ...], *, term: str = "") -> tuple[str, ...]:
    """The command line of a command of the release's script that runs beside an instance.

    It prints its process id in a first line, so that it can be stopped. `term` is the type of its
    terminal, if it has one.
    """
    start = 'echo "$$"; TERM=$1; export TERM' if term else 'echo "$$"'
    # the port of distribution is the instance's
    script = f'{start}; shift; ERL_ZFLAGS="$ERL_ZFLAGS -dist_listen false" exec "$@"'
    return ("/bin/sh", "-c", script, "sh", term, f"{CURRENT}/{pods.command[0]}", *command)
