"""Migrations: once, with the new release's code, before anything of the live one is touched."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Client, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World

pytestmark = pytest.mark.usefixtures("on_demand", "shared_builds")

# As Ecto's: each file of priv/repo/migrations that has not been run yet, in order. The database is
# a file with the names of those that were.
RELEASE = """
defmodule Counter.Release do
  def migrate do
    database = System.fetch_env!("DATABASE")
    directory = Application.app_dir(:counter, "priv/repo/migrations")
    done = if File.exists?(database), do: File.read!(database), else: ""
    for file <- Enum.sort(File.ls!(directory)), not (done =~ file) do
      IO.puts("migrating #{file} of #{System.get_env("RELEASE_VSN")}")
      Code.eval_file(Path.join(directory, file))
      File.write!(database, file <> "\\n", [:append])
    end
  end
end
"""


class Migrated:
    """An app with migrations, and its database."""

    def __init__(self, project: Project) -> None:
        self.project, self.world = project, project.world
        self.database = self.world.root / "database"

    def migration(self, name: str, code: str = ":ok") -> None:
        self.project.write(f"priv/repo/migrations/{name}.exs", code + "\n")

    def done(self) -> list[str]:
        return self.database.read_text().split() if self.database.exists() else []

    def steps(self) -> list[str]:
        return [step["name"] for step in self.world.last()["steps"]]


@pytest.fixture(scope="module")
def migrated() -> Iterator[Migrated]:
    with new_world() as world:
        app = Migrated(world.load(strategy="auto"))
        world.run("settings", "set", "shop", "hot.watch=0.05")
        world.run("config", "set", "shop", f"DATABASE={app.database}")
        app.project.write("lib/counter/release.ex", RELEASE)
        app.migration("1_first")
        app.project.commit()
        output = app.project.push()
        assert "migrating 1_first.exs of 0.1.0" in output
        assert app.done() == ["1_first.exs"]
        assert app.steps().index("migrate") < app.steps().index("start_instance")
        yield app


def test_only_new_ones_are_a_reason_to_start_it(migrated: Migrated) -> None:
    migrated.project.title("nothing to migrate")
    migrated.project.push()
    assert "migrate" not in migrated.steps()
    migrated.migration("2_second")
    migrated.project.commit()
    migrated.project.push()
    assert migrated.done()[-1] == "2_second.exs"
    assert migrated.steps().index("migrate") < migrated.steps().index("hot_swap")
    assert migrated.world.last()["strategy"] == "hot"


def test_one_that_fails_leaves_the_old_release(migrated: Migrated) -> None:
    world = migrated.world
    before, done = world.status(), migrated.done()
    migrated.migration("3_third", 'raise "column exists already"')
    migrated.project.title("never seen")
    with Client(world) as client:
        output = migrated.project.push(ok=False)
    assert "column exists already" in output
    assert "The migrations of v" in output
    assert client.failures == []
    after = world.status()
    assert (after["pid"], after["release"]) == (before["pid"], before["release"])
    assert migrated.done() == done
    (failed, *_) = world.json("releases", "shop")
    plan = world.json("plan", "shop", failed["release"])
    assert plan["migrations"] == [{"file": "counter/repo/migrations/3_third.exs", "warnings": []}]
    assert "3_third.exs" in world.run("plan", "shop", failed["release"])
    again = world.try_run("deploy", "shop", failed["release"])
    assert again.returncode == 9
    migrated.migration("3_third")
    migrated.project.commit()
    migrated.project.push()
    assert migrated.done()[-1] == "3_third.exs"


def kill(app: Migrated, step: str) -> None:
    """Push, and kill the deploying process at a step; nobody recovers it."""
    push = app.project.start_push()
    app.world.at_step(step)
    os.kill(app.world.hook(), signal.SIGKILL)
    push.communicate(timeout=60)
    app.world.settled()
    assert not [line for line in app.world.processes() if " eval " in line]
    last = app.world.last()
    assert last["outcome"] == "interrupted"
    assert f"killed during {step}." in last["error"]


def test_killed_while_they_run(migrated: Migrated) -> None:
    before, done = migrated.world.status(), migrated.done()
    migrated.migration("3_5_killed", "Process.sleep(60_000)")
    migrated.project.commit()
    kill(migrated, "migrate")
    assert "were running: some may stay applied" in migrated.world.last()["error"]
    after = migrated.world.status()
    assert (after["pid"], after["release"]) == (before["pid"], before["release"])
    assert migrated.done() == done
    migrated.migration("3_5_killed")  # runs with the next one


def test_one_that_takes_too_long_is_ended(migrated: Migrated) -> None:
    migrated.project.write("gatling.toml", "[migrate]\ntimeout = 2\n")
    migrated.migration("4_slow", "Process.sleep(60_000)")
    migrated.project.commit()
    output = migrated.project.push(ok=False)
    assert "did not end within 2 seconds" in output
    assert "4_slow.exs" not in migrated.done()
    assert not [line for line in migrated.world.processes() if " eval " in line]
    migrated.migration("4_slow")
    migrated.project.write("gatling.toml", "")
    migrated.project.commit()
    migrated.project.push()


def test_going_back_past_migrations_is_asked_first_and_runs_none(migrated: Migrated) -> None:
    world = migrated.world
    before = world.status()["release"]
    migrated.migration("5_fifth")
    migrated.project.commit()
    migrated.project.push()
    live, done = world.status(), migrated.done()
    refused = world.run("rollback", "shop", ok=False, stdin="no\n")
    assert (
        f"Deploy {before} on a database with migrations that it does not have (5_fifth.exs)?"
        in refused
    )
    assert world.status()["release"] == live["release"]
    world.run("rollback", "shop", "--confirm", "shop")
    assert world.status()["release"] == before
    assert "migrate" not in migrated.steps()
    world.run("rollback", "shop")  # forth again: nothing is new to the database
    assert migrated.done() == done


ALTER = """
quote do
  alter table(:users), do: remove(:name)
end
"""
"""Looks like Ecto's to whom parses it, and can be run without Ecto."""


def test_what_the_running_release_may_not_live_with_is_told(migrated: Migrated) -> None:
    migrated.migration("5_5_remove", ALTER)
    migrated.project.commit()
    output = migrated.project.push()
    warning = "line 3 drops column users.name: running code may still use it"
    assert f"5_5_remove.exs, {warning}" in output
    assert "Use two deployments" in output
    assert output.index(warning) < output.index("       migrate\n")
    world = migrated.world
    release = world.status()["release"]
    world.run("rollback", "shop", "--confirm", "shop")
    (planned,) = world.json("plan", "shop", release)["migrations"]
    assert planned == {
        "file": "counter/repo/migrations/5_5_remove.exs",
        "warnings": [
            {
                "line": 3,
                "what": "drops column users.name",
                "why": "running code may still use it",
            }
        ],
    }
    assert warning in world.run("plan", "shop", release)
    world.run("rollback", "shop", release)


def test_a_release_that_cannot_tell_fails_nothing(migrated: Migrated) -> None:
    # whatever the reason is: no VM of it starts for this
    refusal = 'if System.get_env("GATLING_MIGRATIONS"), do: raise("cannot tell")'
    before = (migrated.project.directory / "config/runtime.exs").read_text()
    migrated.project.write("config/runtime.exs", f"{before}\n{refusal}\n")
    migrated.migration("5_6_another")
    migrated.project.commit()
    output = migrated.project.push()
    assert "the migrations could not be checked: counter exited with status 1" in output
    assert migrated.done()[-1] == "5_6_another.exs"
    migrated.project.write("config/runtime.exs", before)


def test_what_runs_them_can_be_said(migrated: Migrated) -> None:
    marker = migrated.world.root / "marker"
    call = f"""eval 'File.write!("{marker}", "migrated", [:append])'"""
    migrated.project.write("gatling.toml", f"[migrate]\ncommand = {json.dumps(call)}\n")
    migrated.project.title("a command of its own, each time")
    migrated.project.push()
    assert marker.read_text() == "migrated"
    migrated.project.write("gatling.toml", '[migrate]\ncommand = ""\n')
    migrated.migration("6_sixth")
    migrated.project.commit()
    migrated.project.push()
    assert "6_sixth.exs" not in migrated.done()
    migrated.project.write("gatling.toml", "")
    migrated.project.write("rel/overlays/bin/migrate", f"#!/bin/sh\necho mine >>{marker}\n")
    (migrated.project.directory / "rel/overlays/bin/migrate").chmod(0o755)
    migrated.migration("7_seventh")
    migrated.project.commit()
    migrated.project.push()
    assert marker.read_text() == "migratedmine\n"
    assert "7_seventh.exs" not in migrated.done()


def test_nothing_that_could_run_them_is_said(migrated: Migrated) -> None:
    for path in ("rel/overlays/bin/migrate", "lib/counter/release.ex"):
        (migrated.project.directory / path).unlink(missing_ok=True)
    migrated.migration("8_eighth")
    migrated.project.commit()
    output = migrated.project.push()
    assert "1 new migration, and nothing in the release runs them" in output
    migrated.project.write("lib/counter/release.ex", RELEASE)


def test_setup_is_run_once_after_the_first_migrations(world: World) -> None:
    """Until it has succeeded; and then never again, whatever becomes of the deployment."""
    shop = Migrated(world.load())
    seeded = world.root / "seeded"
    setup = f"""eval 'File.write!("{seeded}", File.read!("{shop.database}"), [:append])'"""
    world.run("config", "set", "shop", f"DATABASE={shop.database}")
    application = (shop.project.directory / "lib/counter/application.ex").read_text()
    broken = application.replace("children = ", 'raise "never up"\n    children = ')
    shop.project.write("lib/counter/application.ex", broken)
    shop.project.write("gatling.toml", """[migrate]\nsetup = "eval 'raise \\"no seeds\\"'"\n""")
    shop.project.write("lib/counter/release.ex", RELEASE)
    shop.migration("1_first")
    shop.project.commit()
    output = shop.project.push(ok=False)
    assert "The setup (migrate.setup) of v1 failed" in output
    assert "no seeds" in output
    assert [s["name"] for s in world.last()["steps"]][-2:] == ["migrate", "setup"]
    shop.project.write("gatling.toml", """[migrate]\nsetup = "eval Process.sleep(60_000)"\n""")
    shop.project.commit()
    kill(shop, "setup")
    shop.project.write("gatling.toml", f"[migrate]\nsetup = {json.dumps(setup)}\n")
    shop.project.commit()
    output = shop.project.push(ok=False)
    assert "never up" in output
    assert seeded.read_text() == "1_first.exs\n"
    shop.project.write("lib/counter/application.ex", application)
    shop.project.commit()
    shop.project.push()
    assert "migrate" in shop.steps()
    assert "setup" not in shop.steps()
    shop.migration("2_second")
    shop.project.commit()
    shop.project.push()
    assert shop.done() == ["1_first.exs", "2_second.exs"]
    assert seeded.read_text() == "1_first.exs\n"
