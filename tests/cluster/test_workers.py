"""Workers and scheduled jobs on a real cluster."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from gatling.errors import Exit
from tests.cluster.conftest import Cluster, load
from tests.conftest import until
from tests.home.workers import WORKER

if TYPE_CHECKING:
    from tests.conftest import World

MANIFEST = """\
[processes]
worker = "eval 'Counter.Worker.run(\\"sorting\\")'"

[processes.patient]
command = "eval Counter.Worker.patient()"
instances = 0

[schedule.report]
cron = "0 4 * * *"
command = "eval 'IO.puts(\\"report of \\" <> System.get_env(\\"GATLING_PROCESS\\"))'"

[schedule.broken]
cron = "0 5 * * *"
command = "eval System.halt(5)"

[schedule.endless]
cron = "0 6 * * *"
command = "eval 'IO.puts(:begun); Process.sleep(:infinity)'"
"""


def workers(cluster: Cluster, name: str = "worker") -> list[Any]:
    component = f"worker-{name}"
    return [one for one in cluster.pods("yard")
            if one["metadata"]["labels"]["app.kubernetes.io/component"] == component]  # fmt: skip


def test_workers_and_jobs(world: World, cluster: Cluster) -> None:
    project = load(world, "yard")
    project.write("lib/counter/worker.ex", WORKER)
    project.write("gatling.toml", MANIFEST)
    project.commit("with workers")
    project.push()
    until(
        lambda: "worker does sorting" in world.run("logs", "yard", "--process", "worker"),
        "the worker",
    )
    assert not workers(cluster, "patient")

    # the number, and back to none
    world.run("scale", "yard", "worker=2", "patient=1")
    assert (len(workers(cluster)), len(workers(cluster, "patient"))) == (2, 1)
    assert [(one["process"], one["instances"]) for one in world.json("scale", "yard")] == [
        ("web", 1), ("worker", 2), ("patient", 1),
    ]  # fmt: skip
    assert len(world.status("yard")["processes"]) == 4
    assert world.status("yard")["instance"] == "1 of 1 ready on prod"
    assert "no worker 'mailer'" in world.run("scale", "yard", "mailer=1", ok=False)
    before = {one["metadata"]["name"] for one in workers(cluster)}
    world.run("restart", "yard", "--process", "worker")
    assert not before & {one["metadata"]["name"] for one in workers(cluster)}
    world.run("scale", "yard", "worker=0", "patient=0")
    assert not workers(cluster)
    assert "runs no worker" in world.run("restart", "yard", "--process", "worker", ok=False)
    world.run("scale", "yard", "worker=1")

    # jobs
    assert [one["job"] for one in world.json("jobs", "list", "yard")] == [
        "report", "broken", "endless",
    ]  # fmt: skip
    assert world.run("jobs", "run", "yard", "report") == "report of report\n"
    failed = world.try_run("jobs", "run", "yard", "broken")
    assert (failed.returncode, "ended with status 5" in failed.stdout) == (Exit.FAILURE, True)
    going = world.start("jobs", "run", "yard", "endless")
    assert going.stdout is not None
    assert going.stdout.readline() == "begun\n"
    world.run("jobs", "cancel", "yard", "endless")
    going.communicate()
    assert cluster.get("jobs", "-l", "app.kubernetes.io/name=yard")["items"] == []
    # its process is killed: the next command ends what is left of it
    going = world.start("jobs", "run", "yard", "endless")
    assert going.stdout is not None
    assert going.stdout.readline() == "begun\n"
    os.killpg(going.pid, signal.SIGKILL)
    going.communicate()
    assert [one["outcome"] for one in world.json("jobs", "runs", "yard")] == [
        "interrupted", "cancelled", "failed", "succeeded",
    ]  # fmt: skip
    assert cluster.get("jobs", "-l", "app.kubernetes.io/name=yard")["items"] == []
    assert "report of report" in world.run("logs", "yard", "--job", "report")

    world.run("stop", "yard")
    until(lambda: not cluster.pods("yard"), "the end of all pods")
    assert world.json("jobs", "list", "yard")[0]["next"] is None
    world.run("start", "yard")
    until(lambda: len(workers(cluster)) == 1, "the worker")

    # a release without them
    project.write("gatling.toml", "")
    project.commit("without workers")
    project.push()
    until(lambda: not workers(cluster), "the end of the worker")
    assert world.json("jobs", "list", "yard") == []
    world.run("unload", "yard", "--confirm", "yard")
