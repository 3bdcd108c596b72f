"""A machine on which Gatling was installed, for `bin/test-machine SUITE` alone."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, cast

import pytest

from tests.machines import disk
from tests.machines.lan import MachineLan, sweep
from tests.machines.machine import Machine
from tests.server.host import ensure_host_packages, why_not
from tests.server.server import Server, install

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.server.box import Box
    from tests.server.server import Checkout, Person

SUITE = os.environ.get("GATLING_MACHINE")
"""The Debian of the machine; without it these tests, which take ten minutes, are not run."""
STARTED = pytest.StashKey[Machine]()

collect_ignore_glob = [] if SUITE else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All is ten times as slow there."""
    for item in items:
        if "machines" in item.path.parts and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what its machine has to say."""
    report = yield
    if report.failed and (machine := item.session.stash.get(STARTED, None)) is not None:
        with contextlib.suppress(Exception):  # what matters is the failure
            report.sections.append((f"machine {machine.name}", machine.logs()))
    return report


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A fresh Debian server that has booted."""
    assert SUITE is not None
    if reason := why_not():
        pytest.skip(reason)
    ensure_host_packages(disk.HOST_PACKAGES)
    sweep()
    lan = MachineLan(f"gtm{os.getpid()}")
    image = disk.image(SUITE)
    made = Machine(lan, 0, image, disk.directory() / "run" / lan.name)
    try:
        lan.up()
        made.start()
        request.session.stash[STARTED] = made
        yield made
    finally:
        made.destroy()
        lan.close()


@pytest.fixture(scope="session")
def ann(server: Server) -> Person:
    """Who deploys each app."""
    return server.let_in("ann", "*")


@pytest.fixture(scope="session")
def shop(ann: Person) -> Checkout:
    """An app, pushed once. Its instances have the time that they need to boot there."""
    ann.run("load", "shop")
    ann.run("settings", "set", "shop", "health.timeout=600")
    project = ann.project("shop")
    project.push()
    return project


@pytest.fixture(scope="session")
def server(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The machine, after Gatling was installed on it as the README says."""
    box = cast("Box", machine)  # all of a box that is used here it has
    assert "Add an SSH key" in install(box)
    return Server(box, tmp_path_factory.mktemp("server"))
