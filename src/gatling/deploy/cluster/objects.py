"""The objects of an app in its cluster: applied, followed until they serve, removed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling import times
from gatling.deploy.cluster import adopt
from gatling.errors import ClusterFailed, NotOnCluster, UnhealthyRelease
from gatling.platform.kubernetes import objects, pods, rollout
from gatling.platform.kubernetes.objects import WEB
from gatling.platform.kubernetes.page import PAGE
from gatling.project import settings as project_settings
from gatling.releases import distillery
from gatling.runtime import pods as spec
from gatling.state import databases

if TYPE_CHECKING:
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.kubernetes.pods import Object, Pods
    from gatling.platform.kubernetes.rollout import Problem, Progress
    from gatling.platform.open import Gatling
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.platforms import Platform
    from gatling.state.releases import Release

POLL_SECONDS = 0.5
PULL_SECONDS = 300.0
"""For scheduling and pulling, before the app of a pod starts; `health.timeout` counts from then."""
AWAY_SECONDS = 30.0
"""For so long the API server may not answer."""
LOG_LINES = 30
MANAGED = {"app.kubernetes.io/managed-by": "gatling"}
"""The label of all objects that are Gatling's."""
APP = "app.kubernetes.io/name"
"""The label with the name of the app."""
OF_APP = (
    "Deployment",
    "Job",
    "Ingress",
    "Service",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "Secret",
)


def check(gatling: Gatling, app: App, release: Release) -> None:
    """Raise NotOnCluster for what a release asks for and a cluster does not have yet."""
    tree = gatling.home.app(app.name).release(release.number)
    if settings_of(app, release).cluster.tls and not any(tree.glob("lib/ssl-*/ebin/ssl.app")):
        raise NotOnCluster(
            f"{release.label} lacks the application ssl, which `cluster.tls` needs.",
            hint="Add :ssl to extra_applications in mix.exs, or unset cluster.tls.",
        )
    unknown = (
        (distillery.made(tree, release), "Releases of Distillery do not run on a cluster."),
        (bool(app.passwords), "Passwords (`gatling auth`) do not work on a cluster yet."),
        (bool(databases.attachments(gatling.db, app=app.name)),
         "The databases of this machine cannot be reached from a cluster."),
    )  # fmt: skip
    for found, what in unknown:
        if found:
            raise NotOnCluster(what)


def settings_of(app: App, release: Release) -> Settings:
    """The settings of a release of the app."""
    return project_settings.parse(release.manifest | app.settings)


def apply(
    api: Api,
    app: App,
    release: Release,
    platform: Platform,
    deployment: int,
    *,
    runs: bool = True,
    upgraded: bool = False,
    restart: bool = False,
) -> Pods:
    """Apply all objects of a release, the Deployment last: the cluster follows it from then on.

    Without `runs` no instance runs. With `upgraded` the pods that there are run the release, or
    are brought to it, and none is replaced. With `restart`, all pods end before new ones start.
    """
    settings = settings_of(app, release)
    described = spec.described(app, release, settings, platform, deployment)
    apply_config(api, app, release, platform, described)
    serves = objects.WEB if app.maintenance is None else PAGE
    for one in (
        objects.service(described, serves), objects.nodes(described), objects.network(described),
    ):  # fmt: skip
        api.apply(one)
    try:
        api.apply(objects.budget(described))
    except ClusterFailed as error:
        if error.reason != "missing":  # Kubernetes before 1.21
            raise
    apply_domains(api, app, settings.cluster.issuer)
    count = settings.cluster.instances if runs else 0
    alone = restart or settings.deploy.strategy == "restart"
    wanted = objects.instances(described, spec.health(app, settings), count, alone=alone)
    if upgraded:
        adopt.apply(api, app.name, wanted)
    else:
        api.apply(wanted)
    return described


def apply_config(api: Api, app: App, release: Release, platform: Platform, described: Pods) -> None:
    """Apply the Secrets that pods of a release need: config, certificate, the registry's login."""
    apply_login(api, platform)
    env = spec.environment(app, release, settings_of(app, release), platform)
    api.apply(objects.config(described, env))
    if described.distribution:
        from gatling.platform.kubernetes import distribution  # which loads cryptography

        distribution.ensure(api, app.name)


def apply_login(api: Api, platform: Platform) -> None:
    """Apply the Secret with which nodes pull images."""
    store = platform.registry
    if store is not None and store.user:
        host = store.place.partition("/")[0]
        api.apply(objects.registry_login(api.namespace, host, store.user, store.password))


def apply_domains(api: Api, app: App, issuer: str) -> None:
    """Apply the Ingress of the domains that are not on this machine alone."""
    served = [domain for domain in app.domains if not domain.endswith(".localhost")]
    if served:
        api.apply(objects.ingress(api.namespace, app.name, served, issuer))
    else:
        api.remove("Ingress", app.name)


def remove(api: Api, app: str, *, keep: Pods | None = None) -> None:
    """Delete the objects of an app; with `keep` only Secrets that no pod needs."""
    selector = MANAGED | {APP: app}
    kept = {keep.config, keep.distribution, *_used(api, app)} if keep is not None else set()
    if keep is None:
        api.remove("Secret", objects.certificate_name(app))  # cert-manager's own leaves it
    for kind in ("Secret",) if keep is not None else OF_APP:
        try:
            found = api.every(kind, selector)
        except ClusterFailed as error:
            if error.reason == "missing":  # an API that an older cluster does not have
                continue
            raise
        for one in found:
            shown = keep is not None and _component(one) == PAGE  # the maintenance page is not its
            if one["metadata"]["name"] not in kept and not shown:
                api.remove(kind, one["metadata"]["name"])


def _component(one: Object) -> str:
    return str(one["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


def _used(api: Api, app: str) -> set[str]:
    """The Secrets that pods have as their environment or as files.

    After a hot upgrade these are of an earlier release, and a container that starts again needs it.
    """
    there = pods_of(api, app)
    environments = {
        source["secretRef"]["name"]
        for pod in there
        for container in pod["spec"].get("containers") or ()
        for source in container.get("envFrom") or ()
        if "secretRef" in source
    }
    return environments | {
        volume["secret"]["secretName"]
        for pod in there
        for volume in pod["spec"].get("volumes") or ()
        if "secret" in volume
    }


def pods_of(api: Api, app: str) -> list[Object]:
    """The pods of an app's instances."""
    return api.every("Pod", pods.labels(app, WEB))


def pods_and_workers(api: Api, app: str) -> list[Object]:
    """The pods of an app's instances and workers."""
    found = api.every("Pod", MANAGED | {APP: app})
    return [one for one in found if rollout.shown(one).process]


def wait(api: Api, app: App, settings: Settings, number: int, replicas: int) -> Progress:
    """Wait until all instances are those of the deployment of that number, and serve.

    Raises UnhealthyRelease with the log of the pod that does not; nothing is undone here.
    """
    began = changed = answered = time.monotonic()
    before = (-1, -1)
    while True:
        now = time.monotonic()
        try:
            deployment = api.find("Deployment", app.name)
            found = pods_of(api, app.name)
        except ClusterFailed as error:
            if error.reason not in ("unreachable", "refused") or now - answered > AWAY_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        answered = now
        if deployment is None:
            raise UnhealthyRelease(f"Somebody has deleted the Deployment {app.name}.")
        seen = rollout.progress(deployment, found, number, replicas)
        if seen.done:
            return seen
        if (seen.ready, seen.begun) != before:
            before, changed = (seen.ready, seen.begun), now
        limit = settings.health.timeout
        if seen.begun <= seen.ready:
            limit = max(limit, PULL_SECONDS)
        problem = seen.problem
        if problem is not None and (problem.final or now - changed > limit):
            raise _failed(api, app, problem, settings, now - began)
        if now - changed > limit:
            raise UnhealthyRelease(
                f"The cluster did not replace the instances of {app.name} within {limit:.0f} s."
            )
        time.sleep(POLL_SECONDS)


def wait_for_none(api: Api, app: str, settings: Settings) -> None:
    """Wait until no instance is left; raises UnhealthyRelease."""
    limit = settings.instance.drain + settings.instance.stop + AWAY_SECONDS
    for _ in times.looks(limit, POLL_SECONDS):
        if not pods_of(api, app):
            return
    raise UnhealthyRelease(f"The instances of {app} did not end within {limit:.0f} s.")


def _failed(
    api: Api, app: App, problem: Problem, settings: Settings, seconds: float
) -> UnhealthyRelease:
    what = [problem.what]
    log: list[str] = []
    if problem.pod:
        what += _events(api, problem.pod)
        log = without_times(api.log(problem.pod, lines=LOG_LINES))
        before = without_times(api.log(problem.pod, lines=LOG_LINES, previous=True))
        log = log if len(log) >= len(before) else before
    hint = problem.hint
    if not problem.final:
        hint = hint or (
            f"It had {seconds:.0f} s. The settings health.path ({settings.health.path}) and"
            f" health.timeout say what is asked and for how long: `gatling settings {app.name}`."
        )
    return UnhealthyRelease(" ".join(what), hint=hint, log=log)


def _events(api: Api, pod: str) -> list[str]:
    """The last warning of Kubernetes about a pod, if there is one."""
    try:
        found = api.every("Event", {}, f"involvedObject.name={pod},type=Warning")
    except ClusterFailed:
        return []
    found.sort(key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""))
    return [f"Kubernetes says: {' '.join(str(one.get('message', '')).split())[:400]}"
            for one in found[-1:]]  # fmt: skip


def without_times(lines: list[str]) -> list[str]:
    """Lines of a log without their times."""
    return [line.partition(" ")[2] for line in lines]


def by_app(api: Api, app: str | None = None) -> dict[str, list[rollout.Pod]]:
    """The instances and workers by app, as they are now; with `app` those of one."""
    found: dict[str, list[rollout.Pod]] = {}
    for one in api.every("Pod", MANAGED | ({APP: app} if app else {})):
        shown = rollout.shown(one)
        if shown.process:
            found.setdefault(one["metadata"]["labels"].get(APP, ""), []).append(shown)
    for pods_ in found.values():
        pods_.sort(key=lambda pod: pod.name)
    return found
