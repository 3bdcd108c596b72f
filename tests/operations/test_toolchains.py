"""Toolchains between a build that uses one, a push that installs one, and their removal."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from gatling.build import environment
from gatling.build import toolchain as chooser
from gatling.build.toolchain import MissingToolchain
from gatling.deploy import new_release
from gatling.deploy.journal import Journal
from gatling.errors import BuildFailed, InvalidInput
from gatling.operations import toolchains
from gatling.platform import lock
from gatling.platform.open import Gatling
from gatling.platform.toolchains import order
from gatling.platform.toolchains.store import Installed
from gatling.project import settings, toolchain_files
from gatling.project.toolchains import version
from gatling.state import apps, deployments, home_settings
from gatling.state.database import open_database
from gatling.ui.progress import Progress
from tests.places import embedded_home, surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.platform.base import Surroundings
    from gatling.platform.toolchains.order import Order


def made(elixir: str, otp: str) -> Installed:
    one, other = version(elixir), version(otp)
    assert one
    assert other
    return Installed(f"{elixir}-otp-{otp}", one, other, 1, "here")


class Chains:
    """Toolchains of which there are records only."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.there: list[Installed] = [made("1.17.3", "26.2.5")]
        self.orders: list[Order] = []
        self.next = made("1.18.4", "26.2.5")

    def installed(self) -> list[Installed]:
        return self.there

    def programs(self, name: str) -> Path:
        return self._root / name / "bin"

    def install(self, order: Order, _say: object) -> Installed:
        self.orders.append(order)
        if self.next not in self.there:
            self.there.append(self.next)
        return self.next

    def remove(self, name: str) -> None:
        self.there = [each for each in self.there if each.name != name]


class Host:
    """A home with an app, and a host without any Elixir."""

    def __init__(self, root: Path) -> None:
        self.home = embedded_home(root / "home")
        self.db = open_database(self.home.database)
        apps.create(self.db, "shop", lambda _: True)
        self.home.app("shop").root.mkdir(parents=True, exist_ok=True)
        self.chains = Chains(root / "chains")
        self.around = self._around(root)
        place: Any = SimpleNamespace(surroundings=lambda _: self.around)
        parts: Any = SimpleNamespace(apps=place, toolchains=self.chains)
        self.gatling = Gatling(self.home, self.db, parts, "tester")

    def _around(self, root: Path) -> Surroundings:
        (root / "path").mkdir()
        found = surroundings(root / "home")
        return replace(found, build={**found.build, "PATH": str(root / "path")})

    def deployment(self) -> deployments.Deployment:
        return deployments.begin(
            self.db, "shop", cause="push", actor="tester", mark="m", commit="b" * 40
        )

    def prepare(self, project: Path) -> Surroundings:
        """What a push does before it builds."""
        journal = Journal(self.db, self.deployment().id, Progress(io.StringIO()))
        context: Any = SimpleNamespace(
            app=apps.get(self.db, "shop"), settings=settings.parse({}), journal=journal
        )
        return new_release._with_toolchain(self.gatling, context, project)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    started = Host(tmp_path)
    yield started
    started.db.close()


def test_no_toolchain_is_removed_while_an_app_is_built(host: Host) -> None:
    begun = host.deployment()
    deployments.begin_step(host.db, begun.id, 0, "export_source")
    with lock.hold(host.home.app("shop").lock, lambda: None):
        with pytest.raises(InvalidInput, match=r"shop is being built, perhaps with 1.17.3") as no:
            toolchains.remove(host.gatling, "1.17")
        assert "once the deployment has ended" in no.value.hint
        assert len(host.chains.there) == 1
    # it was killed: nothing uses the toolchain
    assert toolchains.remove(host.gatling, "1.17") == "1.17.3-otp-26.2.5"


def test_a_deployment_without_a_build_uses_no_toolchain(host: Host) -> None:
    begun = host.deployment()
    deployments.begin_step(host.db, begun.id, 0, "start")
    with lock.hold(host.home.app("shop").lock, lambda: None):
        toolchains.remove(host.gatling, "1.17")


def test_a_build_takes_no_other_elixir_than_the_chosen_one(host: Host, tmp_path: Path) -> None:
    other = tmp_path / "path/elixir"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    chosen = host.chains.there[0]
    own = host.chains.programs(chosen.name) / "elixir"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    around = chooser.surround(host.around, host.chains, chosen.plain)
    assert environment.program_in(around, ["elixir", "x"]) == [str(own), "x"]
    own.unlink()
    with pytest.raises(BuildFailed, match=r"The toolchain in .* has no elixir"):
        environment.program_in(around, ["elixir", "x"])
    assert environment.program_in(host.around, ["elixir"]) == [str(other)]


def test_a_host_without_elixir_gets_the_one_that_is_needed(host: Host, tmp_path: Path) -> None:
    (tmp_path / "mix.exs").write_text('[elixir: "~> 1.18"]\n')
    with pytest.raises(MissingToolchain) as missing:
        host.prepare(tmp_path)
    assert "requires Elixir ~> 1.18 (mix.exs), and this host has no toolchain" in missing.value.what
    assert "`gatling toolchain install 1.18`" in missing.value.hint
    home_settings.put(host.db, order.AUTOMATIC, "on")
    around = host.prepare(tmp_path)
    assert around.build["PATH"].startswith(str(host.chains.programs("1.18.4-otp-26.2.5")))
    # what is there is not downloaded again
    assert [each.wanted for each in host.chains.orders] == ["1.18"]
    assert host.chains.orders[0].present == ("1.17.3-otp-26.2.5",)
    host.prepare(tmp_path)
    assert len(host.chains.orders) == 1


def test_a_wrapper_of_a_version_manager_is_left_to_the_build(host: Host, tmp_path: Path) -> None:
    wrapper = tmp_path / "path/elixir"
    wrapper.write_text("#!/bin/sh\n")
    wrapper.chmod(0o755)
    (tmp_path / "mix.exs").write_text('[elixir: "~> 1.18"]\n')
    assert host.prepare(tmp_path) == host.around


def test_one_that_is_installed_and_does_not_fit_is_said_to(host: Host, tmp_path: Path) -> None:
    (tmp_path / "mix.exs").write_text('[elixir: "~> 1.19"]\n')
    home_settings.put(host.db, order.AUTOMATIC, "on")
    with pytest.raises(BuildFailed, match=r"1.18.4-otp-26.2.5 is installed for it, but does not"):
        host.prepare(tmp_path)


def test_nothing_is_installed_for_a_project_that_only_excludes_versions(
    host: Host, tmp_path: Path
) -> None:
    (tmp_path / "mix.exs").write_text('[elixir: "< 1.15.0"]\n')
    assert toolchain_files.read(tmp_path).to_install == ""
    home_settings.put(host.db, order.AUTOMATIC, "on")
    with pytest.raises(MissingToolchain) as missing:
        host.prepare(tmp_path)
    assert "can install one: `gatling toolchain install VERSION`" in missing.value.hint
    assert host.chains.orders == []
