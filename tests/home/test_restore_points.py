"""Restore points before migrations: a real PostgreSQL, pgBackRest, and pushes that migrate."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import Project, until
from tests.home.test_databases import UNPRIVILEGED, Home, warm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.warm import Warm

pytestmark = pytest.mark.skipif(shutil.which("pgbackrest") is None, reason="needs pgBackRest")

# As Ecto's migrator: each file of priv/repo/migrations that schema_migrations does not have, in
# order, each in a transaction. A file is the SQL, so psql can run it.
RELEASE = """
defmodule Counter.Release do
  def migrate do
    directory = Application.app_dir(:counter, "priv/repo/migrations")
    sql("CREATE TABLE IF NOT EXISTS schema_migrations (version text PRIMARY KEY)")
    done = sql("SELECT version FROM schema_migrations")
    for file <- Enum.sort(File.ls!(directory)), not (done =~ file) do
      {script, _} = Code.eval_file(Path.join(directory, file))
      sql("BEGIN; #{script}; INSERT INTO schema_migrations VALUES ('#{file}'); COMMIT")
      if script =~ "then wait", do: Process.sleep(60_000)
    end
  end

  defp sql(script) do
    url = URI.parse(System.fetch_env!("DATABASE_URL"))
    %{"socket_dir" => sockets} = URI.decode_query(url.query)
    words = ~w[-XqAt -v ON_ERROR_STOP=1 -h #{sockets} -U #{url.userinfo}]
    words = words ++ ["-d", String.trim_leading(url.path, "/"), "-c", script]
    {said, status} = System.cmd("psql", words, stderr_to_stdout: true)
    if status != 0, do: raise(said)
    said
  end
end
"""


class Unprivileged(Project):
    """A project that is pushed by a user who is not root."""

    def _start_push(
        self, refs: tuple[str, ...], options: tuple[str, ...], env: dict[str, str]
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*UNPRIVILEGED, "git", "push", *options, "gatling", *(refs or ("main",))],
            cwd=self.directory, env=env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def forks(self) -> Warm:
        """See Project: a process of that user forks it."""
        return warm()


class Shop:
    """An app with a database, and one version of its project after the other."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.project = home.load()
        self.project.__class__ = Unprivileged
        home.run("db", "create", "shop")
        self.project.write("lib/counter/release.ex", RELEASE)

    def migration(self, name: str, script: str) -> None:
        self.project.write(f"priv/repo/migrations/{name}.exs", f'"{script}"\n')
        self.project.commit()

    def restored(self, to: str, *statements: str) -> str:
        """What psql prints in the database as it was at a moment."""
        self.home.run("db", "restore", "shop", "--to", to, "--as", "shop-before")
        words = [word for each in statements for word in ("-c", each)]
        said = self.home.run("db", "psql", "shop", "--name", "shop-before", "--", "-XqAt", *words)
        self.home.run("db", "destroy", "shop", "--name", "shop-before", "--confirm", "shop-before")
        return said.strip()

    def points(self) -> dict[int, str]:
        """The releases that ran migrations, with the backup that is restored for each."""
        found = self.home.json("db", "backups", "shop")
        return {point["release"]: one["label"] for one in found for point in one["restore_points"]}


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    home = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        yield Shop(home)
    finally:
        home.close()


def test_before_the_first_backup_nothing_can_be_restored(shop: Shop) -> None:
    shop.migration("1_orders", "CREATE TABLE orders (id serial, name text)")
    said = shop.project.push()
    assert (
        "shop has no backup, so it cannot be restored as it is now: gatling db backup shop" in said
    )
    shop.home.run("db", "backup", "shop")
    refused = shop.home.try_run("db", "restore", "shop", "--to", "v1")
    assert refused.returncode == Exit.NOT_FOUND
    assert "No backup of shop goes back to the moment before v1" in refused.stdout
    assert "No restore point can be used" in refused.stdout
    assert "restore point" not in shop.home.run("db", "backups", "shop")


def test_rows_of_before_and_after_a_migration(shop: Shop) -> None:
    shop.home.sql("shop", "INSERT INTO orders (name) VALUES ('before')")
    shop.migration("2_price", "ALTER TABLE orders RENAME name TO title")
    said = shop.project.push()
    assert "restore shop as it is now: gatling db restore shop --to v2" in said
    shop.home.sql("shop", "INSERT INTO orders (title) VALUES ('after')")
    shop.project.title("no migrations")
    assert "--to v3" not in shop.project.push()
    # a later backup starts after the moment, and is not the one that is restored for it
    first = shop.home.json("db", "backups", "shop")[0]["label"]
    shop.home.run("db", "backup", "shop", "--full")
    assert shop.points() == {2: first}
    listed = shop.home.run("db", "backups", "shop")
    assert "gatling db restore shop --to v2" in listed

    rows = shop.restored("v2", "SELECT string_agg(name, ',' ORDER BY id) FROM orders",
                         "SELECT string_agg(version, ',') FROM schema_migrations")  # fmt: skip
    assert rows == "before\n1_orders.exs"
    assert shop.home.sql("shop", "SELECT count(title) FROM orders") == "2"

    for number in ("v3", "v99"):
        refused = shop.home.run("db", "restore", "shop", "--to", number, ok=False)
        assert f"{number} has no restore point in shop: it ran no migrations there" in refused
        assert "Restore points that can be used: v2." in refused
    for wrong in ("v", "v0", "2", "v2 ", "V2", "v2x"):
        assert "not a release" in shop.home.run("db", "restore", "shop", "--to", wrong, ok=False)


def test_migrations_that_run_again_do_not_move_the_moment(shop: Shop) -> None:
    """The first attempt is killed when a part of the migrations has run."""
    shop.home.sql("shop", "INSERT INTO orders (title) VALUES ('third')")
    shop.migration("3_note", "ALTER TABLE orders ADD note text /* then wait */")
    shop.migration("4_more", "ALTER TABLE orders ADD more text")
    push = shop.project.start_push()
    shop.home.at_step("migrate")
    done = "SELECT count(*) FROM schema_migrations"
    until(lambda: shop.home.sql("shop", done) == "3", "the first of the two")
    os.kill(shop.home.hook(), signal.SIGKILL)
    push.communicate(timeout=60)
    shop.home.settled()
    (failed, *_) = shop.home.json("releases", "shop")
    release = failed["release"]
    number = int(release[1:])
    # the same release once more: killed when the point is made, and when it is recorded
    shop.home.sql("shop", "INSERT INTO orders (title) VALUES ('fourth')")
    for module, after in (
        ("gatling.platform.embedded.databases", "OwnDatabases.point"),
        ("gatling.state.restore_points", "add"),
    ):
        shop.home.killed(module, after, "deploy", "shop", release)
    shop.home.run("recover", "shop")
    shop.home.run("deploy", "shop", release)
    assert shop.home.sql("shop", done) == "4"
    assert sorted(shop.points()) == [2, number]
    columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'orders'"
    assert shop.restored(release, "SELECT count(*) FROM orders", columns) == "3\n2"


def test_a_failure_is_a_note(shop: Shop) -> None:
    """The function that makes it is taken away from the superuser, too."""
    shop.migration("5_last", "ALTER TABLE orders ADD last text")
    sockets = shop.home.home / "databases/shop/current/socket"
    gone = "ALTER FUNCTION pg_create_restore_point(text) RENAME TO gone"
    back = "ALTER FUNCTION gone(text) RENAME TO pg_create_restore_point"

    def superuser(statement: str) -> None:
        psql = ["psql", "-Xq", "-h", str(sockets), "-U", "postgres", "-c", statement]
        subprocess.run([*UNPRIVILEGED, *psql], env=shop.home.env, check=True)

    superuser(gone)
    try:
        said = shop.project.push()
    finally:
        superuser(back)
    assert "the database shop has no restore point before v" in said
    assert shop.home.sql("shop", "SELECT count(last) FROM orders") == "0"


def test_restore_points_end_with_the_last_backup_from_before(shop: Shop) -> None:
    shop.home.run("db", "schedule", "shop", "--keep", "1", "--days", "0")
    shop.home.run("db", "backup", "shop", "--full")
    assert shop.points() == {}
    refused = shop.home.run("db", "restore", "shop", "--to", "v2", ok=False)
    assert "No backup of shop goes back to the moment before v2" in refused
    assert "No restore point can be used" in refused


def test_a_database_in_the_place_of_another(shop: Shop) -> None:
    """The restore points of the other one are found by its name."""
    shop.home.run("db", "restore", "shop")
    shop.home.run("db", "promote", "shop")
    refused = shop.home.run("db", "restore", "shop", "--to", "v2", ok=False)
    assert "v2 has no restore point in shop-restored" in refused
    assert "The database shop has one: `--name shop`." in refused
