"""A project whose releases are made by the stand-in for Distillery."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Project, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDIN = Path(__file__).parent / "standin"

CONFIG = """\
use Distillery.Releases.Config, default_release: :default, default_environment: Mix.env()

environment :prod do
  set include_erts: true
  set cookie: :"not-the-one"
  set vm_args: "rel/vm.args"
end

release :counter do
  set version: current_version(:counter)
  set applications: [:runtime_tools]
  set config_providers: [
    {Distillery.Releases.Config.Providers.Elixir, ["${RELEASE_ROOT_DIR}/etc/runtime.exs"]}
  ]
  set overlays: [
    {:mkdir, "etc"},
    {:copy, "rel/runtime.exs", "etc/runtime.exs"},
    {:template, "rel/about.txt", "etc/about.txt"}
  ]
  set commands: [hello: "rel/hello.sh", migrate: "rel/migrate.sh"]
  set pre_configure_hooks: "rel/hooks/pre_configure"
  set pre_start_hooks: "rel/hooks/pre_start"
end
"""
FILES = {
    "rel/config.exs": CONFIG,
    "rel/vm.args": "-sname elsewhere\n-setcookie <%= cookie %>\n+Q 65536\n",
    "rel/about.txt": "<%= release_name %> <%= release_version %>\n",
    "rel/hello.sh": 'echo "hello $1, $(cat "$RELEASE_ROOT_DIR/etc/about.txt")"\n'
    'release_remote_ctl rpc "Counter.Page.title()"\n',
    "rel/migrate.sh": "release_ctl eval 'IO.puts(\"migrates by command\")'\n",
    "rel/hooks/pre_configure/10-greet.sh": 'export GREETING="from the hook"\n',
    "rel/hooks/pre_start/10-say.sh": 'echo "starts in $RELEASE_MUTABLE_DIR"\n',
}


def with_distillery(project: Project, version: str = "2.1.1") -> Project:
    """Give a project the stand-in as a dependency, in place of what mix does by itself."""
    shutil.copytree(STANDIN, project.directory / "vendor/distillery", dirs_exist_ok=True)
    project.replace("vendor/distillery/mix.exs", "2.1.1", version)
    project.replace("mix.exs", "deps: []", 'deps: [{:distillery, path: "vendor/distillery"}]')
    return project


def with_files(project: Project) -> Project:
    """Give it a rel/ of its own, which has something of everything."""
    for path, text in FILES.items():
        project.write(path, text)
    project.git("mv", "config/runtime.exs", "rel/runtime.exs")
    return project


@pytest.fixture(scope="module")
def deployed() -> Iterator[Project]:
    """An app whose first release Distillery has made."""
    with new_world() as world:
        project = with_files(with_distillery(world.load(strategy="auto")))
        project.write("gatling.toml", "[hot]\nwatch = 0.05\n")
        project.commit("with Distillery")
        project.push()
        yield project


@pytest.fixture
def shop(deployed: Project) -> Iterator[Project]:
    """The same, for a test that changes it: afterwards its sources are what they were."""
    before = deployed.git("rev-parse", "HEAD")
    yield deployed
    deployed.git("rm", "-rq", "--cached", ".")
    deployed.git("clean", "-fdq")
    deployed.git("checkout", "-q", before, "--", ".")
