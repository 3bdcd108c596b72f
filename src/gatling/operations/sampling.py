"""The program behind `gatling watch`: samples of all apps, and the alerts that come of them."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, TypeVar

from gatling import files, visible
from gatling.errors import GatlingError
from gatling.operations import alerts, growth, metrics, overview
from gatling.operations.alerts import WINDOW_SECONDS
from gatling.platform.homes import is_missing
from gatling.project import settings as project_settings
from gatling.runtime import notifying
from gatling.state import alert_notices, apps, audit, notices, samples
from gatling.state.samples import SERIES, Measured, Sample
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from gatling.beam.sight import Sight
    from gatling.operations.alerts import Judged
    from gatling.operations.cluster_samples import ClusterSampler
    from gatling.platform.open import Gatling
    from gatling.platform.usage import Usage
    from gatling.proxy.request_totals import Totals
    from gatling.state.apps import App
    from gatling.state.samples import Samples

STEP = SERIES[0].step
LOOK_SECONDS = 60
"""How often queues of processes are looked at, alerts are judged, and what waits is sent."""
TIDY_SECONDS = 600
SIZES_SECONDS = 3600
"""How often the sizes of databases are recorded."""
USUAL_SECONDS, USUAL_REQUESTS = 86400, 500
"""The stretch of time, and the least requests in it, that say which latency is usual."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

Value = TypeVar("Value")


class Sampler:
    """Measures all apps again and again; what grows is counted from one time to the next."""

    def __init__(self, gatling: Gatling) -> None:
        self._gatling = gatling
        self._totals: dict[str, Totals] | None = None
        self._cpu: dict[tuple[str, int], float] = {}
        self._away: ClusterSampler | None = None
        self.schedulers: dict[str, int] = {}
        """Of each node, when it was last measured."""

    def sample(self, seconds: float, *, looks: bool) -> dict[str, Sample]:
        """The numbers of all apps in the last seconds. With `looks`, queues are looked at as well.

        An app whose node does not answer has the numbers that its node does not give. An app on a
        cluster that does not answer has none.
        """
        gatling = self._gatling
        every = apps.every(gatling.db)
        known = overview.statuses(gatling, every)
        used = gatling.instances.usages(known)
        nodes = metrics.measured(
            gatling, [app for app in every if _runs(app)], lambda node, _: _node(node, looks=looks)
        )
        requests = self._requests([app.name for app in every])
        found = {}
        for app in every:
            sample = requests.get(app.name, Sample())
            sample.seconds = seconds
            status = known.get((app.name, app.live_slot)) if app.live_slot else None
            sample.up = seconds if status is not None and status.process else 0
            if app.live_slot and (took := used.get((app.name, app.live_slot))):
                sample.memory, sample.cpu = took.memory, self._worked(app, took)
            if node := nodes.get(app.name):
                sample.node_memory, sample.processes = node.memory, node.processes
                sample.run_queue, sample.messages = node.run_queue, node.messages
                self.schedulers[app.name] = node.schedulers
            found[app.name] = sample
        return found | self._on_clusters(seconds, looks=looks)

    def _on_clusters(self, seconds: float, *, looks: bool) -> dict[str, Sample]:
        away = [one for one in apps.every(self._gatling.db, clusters=True) if one.platform]
        if not away and self._away is None:
            return {}
        if self._away is None:
            from gatling.operations.cluster_samples import ClusterSampler

            self._away = ClusterSampler()
        found = self._away.sample(
            self._gatling, away, seconds, lambda node: _node(node, looks=looks)
        )
        self.schedulers |= self._away.schedulers
        return found

    def _worked(self, app: App, used: Usage) -> float:
        """The processor time since the last sample; of a new instance, since its start."""
        key = (app.name, app.live_slot or 0)
        before = self._cpu.get(key)
        self._cpu[key] = used.cpu
        if before is None:
            return 0.0
        return round(used.cpu - before if used.cpu >= before else used.cpu, 2)

    def _requests(self, names: Sequence[str]) -> dict[str, Sample]:
        """The requests since the last sample; none the first time."""
        totals = metrics.totals(self._gatling, names)
        before, self._totals = self._totals, totals
        return {} if before is None else gained(before, totals)


def gained(before: dict[str, Totals], totals: dict[str, Totals]) -> dict[str, Sample]:
    """The requests by which counters have grown; all of a counter that began again. Pure."""
    found = {}
    for app, total in totals.items():
        old = before.get(app)
        fresh = old is None or sum(total.statuses.values()) < sum(old.statuses.values())
        statuses = {
            status: count - (0 if fresh or old is None else old.statuses.get(status, 0))
            for status, count in total.statuses.items()
        }
        grown = [
            count - (0 if fresh or old is None else old.histogram[at])
            for at, count in enumerate(total.histogram)
        ]
        ranges = [max(0, n - (grown[at - 1] if at else 0)) for at, n in enumerate(grown)]
        classes = [0] * 5
        for status, count in statuses.items():
            if 100 <= status < 600 and status != 101:
                classes[status // 100 - 1] += max(0, count)
        found[app] = Sample(classes=classes, ranges=ranges)
    return found


def run(gatling: Gatling) -> None:
    """Sample until it is stopped. Returns at once without a home, or where another process does."""
    if is_missing(gatling.home):
        return
    with files.open_lock(gatling.home.root / "watch.lock") as lock:
        if not files.try_lock(lock):
            return
        os.nice(5)
        with samples.opened(file_of(gatling), replace=True) as store:
            sampler = Sampler(gatling)
            for at, seconds in moments():
                step(gatling, store, sampler, at, seconds)


def step(gatling: Gatling, store: Samples, sampler: Sampler, at: float, seconds: float) -> None:
    """Take one sample, and judge it. A failure is printed; the next sample follows."""
    looks = _each(LOOK_SECONDS, at)
    try:
        store.add(at - STEP, sampler.sample(seconds, looks=looks))
        if looks:
            judge(gatling, store, sampler.schedulers, at)
            notifying.soon(gatling)
        if _each(SIZES_SECONDS, at):
            growth.record_all(gatling)
        if _each(TIDY_SECONDS, at):
            store.tidy(at, [app.name for app in apps.every(gatling.db, clusters=True)])
    except (GatlingError, OSError) as error:
        said = error.what if isinstance(error, GatlingError) else str(error)
        sys.stderr.write(f"{now()} {visible.one_line(said)}\n")
        sys.stderr.flush()


def moments(clock: Iterable[float] | None = None) -> Iterator[tuple[float, float]]:
    """The times of samples, each with the seconds since the last: whole steps of the clock.

    Steps in which the machine slept, or was too busy, are left out.
    """
    last = time.time()
    for moment in _steps() if clock is None else clock:
        elapsed, last = moment - last, moment
        yield moment, float(min(max(elapsed, 0), STEP)) if elapsed < 3 * STEP else float(STEP)


def _steps() -> Iterator[float]:
    while True:
        time.sleep(STEP - time.time() % STEP + 0.01)
        yield time.time() // STEP * STEP


def _each(seconds: int, at: float) -> bool:
    return int(at) // STEP * STEP % seconds == 0


def judge(gatling: Gatling, store: Samples, schedulers: dict[str, int], at: float) -> None:
    """Begin and end the alerts of all apps."""
    for app in apps.every(gatling.db, clusters=True):
        recent = [each for _, each in store.of_app(app.name, STEP, at - WINDOW_SECONDS, at)]
        settings = project_settings.parse(app.effective)
        facts = alerts.Facts(
            recent=recent,
            step=STEP,
            usual_p95=usual_p95(store, app.name, at),
            memory_limit=limit_in_bytes(settings.limits.memory),
            schedulers=schedulers.get(app.name, 1),
            bounds=settings.alerts,
        )
        on = begun(gatling, app.name)
        for one in alerts.judged(facts, on):
            if one.on != (one.rule in on):
                change(gatling, app.name, one)


def begun(gatling: Gatling, app: str) -> dict[str, dict[str, str]]:
    """The alerts of an app that are on: by rule, when each began (`at`), and its `text`."""
    place = f"{app}/alert/"
    found = notices.conditions(gatling.db, place)
    return {name.removeprefix(place): json.loads(value) for name, value in found.items()}


def change(gatling: Gatling, app: str, one: Judged) -> None:
    """Begin an alert or end it, and notify of that, in one transaction."""
    place = f"{app}/alert/{one.rule}"
    with gatling.db.transaction():
        if one.on:
            value = json.dumps({"at": now(), "text": one.text})
            notices.set_condition(gatling.db, place, value)
        else:
            notices.forget_condition(gatling.db, place)
        title = _title(app, one)
        hint = f"`gatling watch show {app}` has the numbers of the last hours."
        if one.on:
            notices.add(gatling.db, alert_notices.STARTED, title, f"The alert {one.rule}. {hint}",
                        app=app, data={"rule": one.rule})  # fmt: skip
        else:
            alert_notices.end(gatling.db, app, one.rule, title, hint)
    done = "alert started" if one.on else "alert ended"
    audit.record(gatling.db, "gatling", app, done, f"{one.rule}: {one.text}")


def _title(app: str, one: Judged) -> str:
    if one.on:
        return f"{app}: {one.text}"
    if one.off:
        return f"{app}: the alert {one.rule} was turned off ({one.text})"
    return f"{app}: within its range again: {one.text}"


def usual_p95(store: Samples, app: str, at: float) -> float | None:
    """The p95 of the day before the window that is judged; None with few requests."""
    step = SERIES[-1].step
    whole = Sample()
    for _, each in store.of_app(app, step, at - USUAL_SECONDS, at - WINDOW_SECONDS - step):
        whole.add(each)
    return alerts.quantile(whole, 0.95) if whole.requests >= USUAL_REQUESTS else None


def limit_in_bytes(setting: str) -> int | None:
    """The setting `limits.memory` in bytes; None without a limit."""
    if not setting:
        return None
    if setting.endswith("%"):
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return pages * size * int(setting[:-1]) // 100
    digits = setting.rstrip("KMGT")
    return int(digits) * _UNITS[setting[len(digits) :]]


def file_of(gatling: Gatling) -> Path:
    """The file of the samples."""
    return gatling.home.root / samples.FILE


def _runs(app: App) -> bool:
    return app.live_slot is not None and app.wanted == "running"


def _node(node: Sight, *, looks: bool) -> Measured:
    numbers = node.numbers(0)
    messages = -1
    if looks:
        rows, _ = node.processes("message_queue_len", 1)
        messages = rows[0].queue if rows else 0
    return Measured(
        memory=numbers.memory.total,
        processes=numbers.limits.process.count,
        run_queue=numbers.run_queues,
        schedulers=numbers.schedulers,
        messages=messages,
    )
