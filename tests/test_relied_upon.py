"""Parts of dependencies that Gatling uses beyond what they document, tried with the real ones.

A version that lacks one fails here, by the name of the part, and pyproject.toml keeps it out until
then. What nginx, nft and dpkg print is tried likewise.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import tomllib
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import click
import msgspec
import pytest
from cronsim import CronSim
from supervisor.process import Subprocess
from supervisor.states import ProcessStates
from supervisor.xmlrpc import Faults

from gatling.host import debian, reach
from gatling.platform.embedded import supervisord
from gatling.platform.server import firewall
from gatling.platform.server.firewall import Owned
from gatling.proxy import parts
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPENDENCIES = PYPROJECT["project"]["dependencies"]
API = PYPROJECT["project"]["optional-dependencies"]["api"]
"""Packages for the HTTP API, which a server has and a laptop need not have."""
PINNED = re.compile(r"^([a-z-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n", re.MULTILINE)
BUILD_REQUIRES = PYPROJECT["build-system"]["requires"]


@pytest.mark.parametrize("dependency", [*DEPENDENCIES, *API])
def test_a_dependency_has_both_bounds(dependency: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+>=[\d.]+,<[\d.]+", dependency)


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-build.txt"])
def test_what_root_installs_is_pinned_with_hashes(file: str) -> None:
    text = (ROOT / file).read_text()
    entries = re.findall(
        r"^([a-z0-9-]+)==(\S+)( ; [\w !=<>.'()]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n",
        text,
        re.MULTILINE,
    )
    comment, rest = text.split("\n", 1)
    assert comment.startswith("# ")
    # nothing else: no name of an index, and no package without a hash
    assert rest == "".join(
        f"{package}=={version}{marker}{hashes}\n" for package, version, marker, hashes in entries
    )
    tested = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    locked = {name: version for name, version, _, _ in entries}
    assert {name: tested.get(name, version) for name, version in locked.items()} == locked
    wanted = [*DEPENDENCIES, *API] if file == "requirements.txt" else BUILD_REQUIRES
    assert {re.split("[<>=]", one)[0] for one in wanted} <= locked.keys()


def test_supervisord_s_codes() -> None:
    assert (supervisord.BAD_NAME, supervisord.NOT_RUNNING) == (Faults.BAD_NAME, Faults.NOT_RUNNING)


def test_a_process_of_supervisord_has_what_the_log_sink_sets() -> None:
    assert list(inspect.signature(Subprocess.finish).parameters) == ["self", "pid", "sts"]
    assert {"state", "backoff", "delay", "laststart", "pid"} <= vars(Subprocess).keys()
    assert ProcessStates.BACKOFF == 30
    # `delay` is the time of the next start, which nothing else of supervisord's computes before it
    assert "now > self.delay" in inspect.getsource(Subprocess.transition)


def test_click_takes_words_apart_without_converting_them() -> None:
    @click.command()
    @click.argument("app")
    @click.option("--file", type=click.File())
    def command() -> None:
        """Nothing."""

    parser = command.make_parser(click.Context(command))
    given, _, _ = parser.parse_args(args=["shop", "--file", "/no/such/file"])
    assert given == {"app": "shop", "file": "/no/such/file"}


def test_cronsim_s_fields() -> None:
    parsed = CronSim("5 3 1 * mon", datetime(2024, 1, 1))
    assert (parsed.minutes, parsed.hours, parsed.days) == ({5}, {3}, {1})
    assert (parsed.months, parsed.weekdays) == (set(range(1, 13)), {1})
    assert parsed.day_and is False


class Model(msgspec.Struct, forbid_unknown_fields=True):
    """Has one key of each kind of error that is put into other words."""

    number: int = 0
    name: str = ""
    table: dict[str, int] = {}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"number": "x"}, "Expected `int`, got `str` - at `$.number`"),
        ({"nunber": 1}, "Object contains unknown field `nunber`"),
        ({"table": {"a": "x"}}, "Expected `int`, got `str` - at `$.table[...]`"),
    ],
)
def test_msgspec_s_words(tree: dict[str, object], said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(tree, Model)
    assert str(caught.value) == said


def test_nginx_names_what_it_takes_only_once(tmp_path: Path) -> None:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program
    server = "server { listen unix:a.sock default_server; }"
    for twice, part in ((server, parts.DEFAULT_SERVER), *((f"{one} 512;", one) for one in SIZES)):
        (tmp_path / "nginx.conf").write_text(
            f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ {twice} {twice} }}"
        )
        refused = subprocess.run(
            [program, "-t", "-p", tmp_path, "-c", "nginx.conf"],
            check=False, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert refused.returncode
        assert parts.conflicts(refused.stderr.splitlines()) == {part}


SIZES = ("server_names_hash_bucket_size", "server_names_hash_max_size")


def test_nft_lists_the_ports_of_apps(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("nft") is None:
        pytest.skip("a table needs root, and the package nftables")
    # the id of an app's user is no port
    table = firewall.table([Owned(4004, (4001, 4002, 4003))], callers=[4005])
    listed = subprocess.run(
        ["unshare", "--net", "sh", "-ec", f"nft -f - && nft --json list set inet gatling {SET}"],
        input=table, check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    app = SimpleNamespace(every_port=(4001, 4003, 4004, 4005))
    assert reach.missing_ports([app], listed) == [4004, 4005]  # type: ignore[list-item]
    assert reach.missing_ports([app], "") == [4001, 4003, 4004, 4005]  # type: ignore[list-item]


SET = firewall.PORTS


def test_dpkg_says_whether_a_package_is_installed() -> None:
    if shutil.which("dpkg-query") is None:
        pytest.skip("needs Debian's dpkg")
    assert debian._installed("dpkg")
    assert not debian._installed("gatling-no-such-package")
