"""What holds for an app whatever has happened to its deployments: one release, whole, serves."""

from __future__ import annotations

import json
import os
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.conftest import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.server import Checkout, Server

TAKEN = re.compile(r"/var/lib/gatling/apps/([^/]+)/releases/(v\d+)/")
TASKS = "gatling-build-*", "gatling-release-*", "gatling-push-*"
# everything at once: each way into a box takes its time
GOES_ON = r"""
ps -eo pid=,args= | grep '[/]bin/beam'
echo --
systemctl list-units --all --plain --no-legend --no-pager {tasks}
echo --
"""
SAID = r"""
gatling status {app} --json && gatling deployments {app} --json && gatling releases {app} --json
echo
"""
LEFT = r"""
find /var/lib/gatling/apps/{app}/releases -mindepth 1 -maxdepth 1 -printf '%f\n'
echo --
cd /var/lib/gatling/routes/{app} && find 1 2 down 2>/dev/null
echo --
git -c safe.directory='*' --git-dir=/var/lib/gatling/apps/{app}/git rev-parse --verify --quiet main
"""


def seeded(what: str) -> random.Random:
    """Random numbers, whose seed is shown when a test fails; GATLING_SEED gives it."""
    seed = os.environ.get("GATLING_SEED") or str(random.SystemRandom().randrange(10**6))
    print(f"{what}: GATLING_SEED={seed}")
    return random.Random(seed)


@dataclass(frozen=True)
class Seen:
    """What a server says of an app and what there is of it, at one moment."""

    status: Any
    deployments: list[Any]
    releases: list[Any]
    instances: list[tuple[int, str]]
    """The pid of each instance's BEAM, and the release as which it was started."""
    tasks: str
    trees: set[str]
    route: list[str]
    """By what the proxy is pointed: one name."""
    branch: str

    @property
    def last(self) -> Any:
        """The newest deployment."""
        return self.deployments[0]


def look(server: Server, app: str = "shop") -> Seen:
    """Look at everything of an app; this is a `next command` as well."""
    script = (SAID + GOES_ON + LEFT).format(app=app, tasks=" ".join(f"'{name}'" for name in TASKS))
    done = server.box.exec(["sh", "-c", script], check=False)
    decoder, at, told = json.JSONDecoder(), 0, []
    for _ in range(3):
        assert done.stdout[at:].strip(), done.stdout + done.stderr
        begin = len(done.stdout) - len(done.stdout[at:].lstrip())
        value, at = decoder.raw_decode(done.stdout, begin)
        told.append(value)
    beams, tasks, trees, route, branch = done.stdout[at:].split("--\n")
    status, deployments, releases = told
    return Seen(
        status=status,
        deployments=deployments,
        releases=releases,
        instances=_instances(beams, app),
        tasks=tasks.strip(),
        trees=set(trees.split()),
        route=route.split(),
        branch=branch.strip(),
    )


def _instances(listed: str, app: str) -> list[tuple[int, str]]:
    found = [(int(line.split()[0]), TAKEN.search(line)) for line in listed.strip().splitlines()]
    return [(pid, tree[2]) for pid, tree in found if tree and tree[1] == app]


def is_alone(server: Server, app: str) -> bool:
    """Whether nothing goes on but one instance, by no command of Gatling: it takes longer."""
    script = GOES_ON.format(tasks=" ".join(f"'{name}'" for name in TASKS))
    beams, tasks, _ = server.box.exec(["sh", "-c", script], check=False).stdout.split("--\n")
    return not tasks.strip() and len(_instances(beams, app)) == 1


def title_of(project: Checkout, commit: str) -> str:
    """The title that the page of a commit has."""
    page = project.git("show", f"{commit}:lib/counter/page.ex")
    (title,) = re.findall(r'^  def title, do: "(.*)"$', page, re.MULTILINE)
    return str(title)


def shown(server: Server, app: str = "shop") -> str | None:
    """The title that is served now; None for anything but a page."""
    try:
        answer = server.get(host=f"{app}.localhost")
    except OSError:
        return None
    found = re.search(r"<h1>(.*)</h1>", answer.text)
    return found[1] if answer.status == 200 and found else None


def recovered(server: Server) -> None:
    """Wait for the end of what is done at boot; it must end well."""

    def state() -> str:
        shown = server.show("gatling-recover.service", "ActiveState", "Result")
        return "" if shown["ActiveState"] in ("inactive", "activating") else shown["Result"]

    assert until(state, "the end of gatling-recover.service", 12 * server.box.patience) == "success"


def was_undone(seen: Seen) -> bool:
    """Whether the app was started again before the boot check of the newest release had ended."""
    why = "was undone: its instance ended before its boot check did."
    return why in (seen.last["error"] or "")


def check_whole(server: Server, project: Checkout, *, old: str, new: str | None) -> Seen:
    """One of two commits serves, and is the one that is said to; nothing else is there or goes on.

    What the newest deployment is said to have come to fits to that.
    """
    app = project.app
    served = until(lambda: shown(server, app), f"a page of {app}", 30 * server.box.patience)
    seen = look(server, app)
    # a unit is there for a moment longer than the program in it, and a boot check goes on for one
    if seen.tasks or len(seen.instances) != 1:
        until(lambda: is_alone(server, app), f"the end of {seen.tasks} and of a boot check",
              6 * server.box.patience)  # fmt: skip
        seen = look(server, app)
    live = seen.status
    assert live["commit"] in {old, new}, live
    assert title_of(project, live["commit"]) == served
    assert shown(server, app) == served
    assert live["state"] == "running", live
    ((pid, _),) = seen.instances
    assert pid == live["pid"]
    kept = {r["release"] for r in seen.releases if r["kept"]}
    assert seen.trees == kept, "trees without a release, or the other way round"
    assert [r["release"] for r in seen.releases if r["live"]] == [live["release"]]
    assert seen.route == [str(live["slot"])], seen.route
    assert all(d["outcome"] != "running" for d in seen.deployments)
    if new is not None and seen.last["commit"] == new:  # a change of config has no commit
        lasts = seen.last["outcome"] == "succeeded" and not was_undone(seen)
        assert lasts == (live["commit"] == new), seen.last
    else:
        assert live["commit"] == old, "nothing says how this came to be live"
    return seen


def newest_log(server: Server, app: str = "shop") -> tuple[int, Path | None]:
    """The number and the log of the newest deployment, as the host sees it."""
    logs = server.box.root / f"var/lib/gatling/apps/{app}/logs"
    found = [(int(file.stem.split("-")[1]), file) for file in logs.glob("deployment-*.log")]
    return max(found, default=(0, None))


def steps_in(server: Server, after: int, app: str = "shop") -> list[str]:
    """The steps that a deployment newer than `after` has begun."""
    number, log = newest_log(server, app)
    if log is None or number <= after:
        return []
    return re.findall(r"^   --> (\w+)$", log.read_text(errors="replace"), re.MULTILINE)
