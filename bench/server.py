"""What a server costs: installation, idle, access, boot. In a booted Debian box; as root.

    PYTHONPATH=. .venv/bin/python bench/server.py [--apps 20]

Prints one line for each figure. What is compared is measured in turn, in the same run.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import until
from tests.server import image as images
from tests.server.bed import Bed
from tests.server.server import Server, install

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.box import Box
    from tests.server.server import Person

ROUNDS = 30
UNITS = ("gatling@app1.1.service", "gatling-recover.service", "gatling-helper@x.service")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--apps", type=int, default=20)
    wanted = parser.parse_args()
    bed = Bed()
    try:
        box = bed.box("host", images.clean_image()).up()
        idle = box.memory().rss
        seconds = timed(lambda: install(box))
        print(f"installation on a clean machine, packages included: {seconds:.1f} s")
        measure(Server(box, Path(tempfile.mkdtemp())), idle, wanted.apps)
    finally:
        bed.close()


def measure(server: Server, idle_before: int, apps: int) -> None:
    """All that is measured on an installed host."""
    box = server.box
    box.reboot()
    until(lambda: not server.processes("gatling"), "an idle host", 60)
    grown = box.memory().rss - idle_before
    print(f"idle: 0 processes of Gatling's; {grown >> 20} MiB more than the clean machine (nginx)")
    person = server.admin("ann")
    access(box, person)
    pushes = [timed(person.project(f"app{n}").push) for n in range(1, apps + 1)]
    print(f"first pushes of {apps} apps: median {statistics.median(pushes):.1f} s each")
    project = person.project("again")
    project.push()
    seconds = []
    for n in range(5):
        project.title(f"Title {n}")
        seconds.append(timed(project.push))
    print(f"a later push, hot: median {statistics.median(seconds):.1f} s until it has ended")
    for unit in UNITS:
        text = box.exec(["systemd-analyze", "security", "--no-pager", unit]).stdout
        found = re.search(r"exposure level for \S+: ([\d.]+)", text)
        print(f"systemd-analyze security {unit}: {found[1] if found else text}")
    boot(server, apps)


def access(box: Box, person: Person) -> None:
    """`ssh host apps` against a forced command that does nothing, in turn."""
    box.exec(["useradd", "--create-home", "--shell", "/bin/sh", "bare"])
    public = person.key.with_name(f"{person.key.name}.pub").read_text()
    box.authorize("bare", f'restrict,command="/bin/true" {public}')
    bare, apps = [], []
    for _ in range(ROUNDS):
        bare.append(timed(lambda: box.ssh("bare", ["x"], key=person.key)))
        apps.append(timed(lambda: box.ssh("gatling", ["apps"], key=person.key)))
    a, b = statistics.median(bare), statistics.median(apps)
    print(f"ssh host apps: {b * 1000:.0f} ms; a bare forced command: {a * 1000:.0f} ms")


def boot(server: Server, apps: int) -> None:
    """From the start of the boot until every app has answered."""
    hosts = [f"app{n}" for n in range(1, apps + 1)]
    server.box.stop()
    started = time.monotonic()
    server.box.start(None)
    until(lambda: all(server.serves("", app) for app in hosts), "all apps", 300)
    print(f"boot until all of {apps} apps serve: {time.monotonic() - started:.1f} s")
    print(f"memory of all of it then: {server.box.memory().rss >> 20} MiB")


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


if __name__ == "__main__":
    main()
