"""Boxes: booted Debian servers, for the tests of this directory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from gatling.platform.server.helper import database_packages
from tests.server import image as images
from tests.server.bed import Bed
from tests.server.host import run, why_not
from tests.server.server import SAID, Server, install, source_key

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.server.box import Box
    from tests.server.image import Image
    from tests.server.server import Checkout, Person

BED = pytest.StashKey[Bed]()
DATABASES = ("postgresql", "pgbackrest")
"""The packages of databases that most tests of them begin with."""


class Boxes(Protocol):
    """What the fixtures `boxes` and `module_boxes` give: makes boxes, and boots them."""

    def __call__(self, name: str | None = None, image: Image | None = None) -> Box: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test may have to wait for an image to be made."""
    here = f"{Path(__file__).parent}{os.sep}"
    for item in items:
        # all tests of a run: the parents of each path take a while
        if str(item.path).startswith(here) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1200))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what its boxes have to say."""
    report = yield
    if report.failed and (bed := item.session.stash.get(BED, None)) is not None:
        for box in list(bed.boxes):
            with contextlib.suppress(Exception):  # what matters is the failure
                report.sections.append((f"box {box.name}", box.logs()))
    return report


@pytest.fixture(scope="module", autouse=True)
def boots_quickly(on_demand: None) -> None:
    """Most tests are not about how instances load their code; test_server.py overrides this."""


@pytest.fixture(scope="session")
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """The network of this worker's boxes."""
    if reason := why_not():
        pytest.skip(reason)
    made = Bed()
    request.session.stash[BED] = made
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def clean_image(bed: Bed) -> Image:
    """A fresh Debian server."""
    return images.clean_image()


@pytest.fixture(scope="session")
def venv_image(bed: Bed) -> Image:
    """A Debian server with the package that an installation from the package index begins with."""
    return bed.layered_image("venv", "packages", _install_venv)


@pytest.fixture(scope="session")
def ssh_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; the public one is beside it, with `.pub`."""
    return new_key(tmp_path_factory.mktemp("ssh"), "tests")


@pytest.fixture(scope="session")
def server_image(bed: Bed) -> Image:
    """A Debian server on which Gatling was installed as the README says."""
    return _installed(bed)


@pytest.fixture(scope="session")
def database_image(bed: Bed) -> Image:
    """The same, with the packages of databases, which take 15 s of CPU to install.

    A module whose servers all have it overrides `server_image`. Gatling installs these packages
    itself in test_databases.py and on the second server of test_moving_databases.py.
    """
    return bed.layered_image(
        "databases", "-".join(DATABASES), _install_databases, base=_installed(bed)
    )


def _installed(bed: Bed) -> Image:
    return bed.layered_image("installed", f"{source_key()}-noted", _install)


def _install(box: Box) -> None:
    """Install where apt has fetched nothing yet: the clean image has its lists.

    test_install.py looks at what was printed, so that it need not install once more.
    """
    box.exec(["sh", "-c", "rm -rf /var/lib/apt/lists/*"])
    (box.root / SAID).write_text(install(box))


def _install_venv(box: Box) -> None:
    box.online(["apt-get", "update", "-qq"])
    box.online(["apt-get", "install", "-y", "-qq", "python3-venv"])


def _install_databases(box: Box) -> None:
    """Install PostgreSQL and pgBackRest, as Gatling does: without a cluster of Debian's own."""
    no_main = database_packages.NO_MAIN
    box.exec(["mkdir", "-p", str(no_main.parent)])
    box.exec(["sh", "-c", f"echo create_main_cluster = false > {no_main}"])
    words = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    box.online([*words, "postgresql-common", *DATABASES], timeout=600,
               env={"DEBIAN_FRONTEND": "noninteractive"})  # fmt: skip
    box.exec(["rm", str(no_main)])


@pytest.fixture(scope="module")
def server(
    module_boxes: Boxes, server_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """A Gatling host that the tests of one module share."""
    return Server(module_boxes(None, server_image), tmp_path_factory.mktemp("server"))


@pytest.fixture
def new_server(boxes: Boxes, server_image: Image, tmp_path: Path) -> Server:
    """A Gatling host for one test."""
    return Server(boxes(None, server_image), tmp_path)


def new_key(directory: Path, name: str) -> Path:
    """Make a key for ssh."""
    key = directory / name
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key)
    return key


@contextlib.contextmanager
def _factory(bed: Bed) -> Iterator[Boxes]:
    made: list[Box] = []

    def boxes(name: str | None = None, image: Image | None = None) -> Box:
        box = bed.box(name, image)
        made.append(box)
        return box.up()

    try:
        yield boxes
    finally:
        for box in made:
            if box in bed.boxes:
                box.destroy()


@pytest.fixture
def boxes(bed: Bed) -> Iterator[Boxes]:
    """Makes boxes that are destroyed after the test."""
    with _factory(bed) as factory:
        yield factory


@pytest.fixture(scope="module")
def module_boxes(bed: Bed) -> Iterator[Boxes]:
    """Makes boxes that the tests of one module share."""
    with _factory(bed) as factory:
        yield factory


@pytest.fixture(scope="module")
def ann(server: Server) -> Person:
    """Who deploys each app."""
    return server.let_in("ann", "*")


@pytest.fixture(scope="module")
def shop(ann: Person) -> Checkout:
    """An app, pushed once."""
    project = ann.project("shop")
    project.push()
    return project
