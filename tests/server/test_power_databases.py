"""A power cut at each step of what changes the database that an app uses, or its place.

tests/server/test_databases.py cuts the power during a creation, a proof and a restore.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from gatling.errors import Exit
from gatling.platform.server.helper.volumes import UNIT
from tests.conftest import until
from tests.home.test_restore_points import RELEASE
from tests.home.test_upgrades import LATER
from tests.scale import LONG
from tests.server.server import Server, download
from tests.server.test_databases import sql
from tests.server.test_upgrades import add_loop_devices, install_first, install_later
from tests.server.whole import newest_log, recovered, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.server.conftest import Boxes
    from tests.server.image import Image
    from tests.server.server import Person

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not LONG, reason="takes 20 minutes: `bin/test --long` runs it"),
]

FIRST = 15
"""Debian 12's PostgreSQL."""
WAITING_SECONDS = 240
ROWS = "SELECT count(*) || ' ' || coalesce(sum(id), 0) FROM orders"
COLUMN = (
    "SELECT column_name FROM information_schema.columns"
    " WHERE table_name = 'orders' AND column_name <> 'id'"
)
BEFORE, AFTER = "20 210", "25 325"
"""What `ROWS` is before and after the migrations of v2."""
TAKE_BACK = f"""
systemctl stop 'postgresql@*' {UNIT}
rm /etc/systemd/system/local-fs.target.wants/{UNIT} /etc/systemd/system/{UNIT}
systemctl daemon-reload
rmdir /var/lib/postgresql
mv /var/lib/postgresql.before /var/lib/postgresql
rm /var/lib/gatling-databases.xfs
systemctl start postgresql@15-gatling.shop.1
"""
"""No command removes a volume."""


class Step(NamedTuple):
    """A step, and whether it has begun."""

    name: str
    begun: Callable[[], bool]


class Pair(NamedTuple):
    """What an app serves with."""

    release: int
    """The release whose code is live: the first or the second."""
    database: str
    column: str
    rows: str


class Shop:
    """An app whose second release has renamed a column."""

    def __init__(self, server: Server, amy: Person, commits: Sequence[str] = ()) -> None:
        self.server, self.amy, self.commits = server, amy, commits
        self.root = server.box.root
        self.data = self.root / "var/lib/postgresql"
        self.configurations = self.root / "etc/postgresql"

    def state(self, query: str) -> str:
        """Ask Gatling's state for one value; empty if there is none."""
        file = self.root / "var/lib/gatling/home/state.db"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            try:
                row = db.execute(query).fetchone()
            except sqlite3.OperationalError:  # it is being written
                return ""
        return "" if row is None else str(row[0])

    def version(self) -> int:
        """The major version of the database other, as Gatling's state has it."""
        return int(self.state("SELECT version FROM databases WHERE name = 'other'") or 0)

    def pair(self) -> Pair:
        """Release and data that are live; the state, the config and the instance agree."""
        config = self.amy.run("config", "get", "shop", "DATABASE_URL").strip()
        name = config.partition("localhost/")[2].partition("?")[0]
        used = [one["name"] for one in self.amy.json("db", "list")
                for use in one["used_by"] if use["variable"] == "DATABASE_URL"]  # fmt: skip
        assert used == [name]
        config_of_release = self.state(
            "SELECT config FROM releases"
            " WHERE number = (SELECT live_release FROM apps WHERE name = 'shop')"
        )
        assert f"/{name}?" in config_of_release
        live = self.server.status()
        instance = self.server.box.exec(["cat", f"/proc/{live['pid']}/environ"]).stdout
        assert f"DATABASE_URL={config}" in instance.split("\0")
        column, rows = self.read(name, COLUMN), self.read(name, ROWS)
        return Pair(self.commits.index(live["commit"]) + 1, name, column, rows)

    def read(self, database: str, statement: str) -> str:
        """What psql prints in a database."""
        words = ("db", "psql", "shop", "--name", database, "--", "-XqAt", "-c", statement)
        return self.amy.run(*words).strip()

    def steps(self, names: Iterable[str]) -> list[Step]:
        """Steps of the next deployment."""
        return [Step(name, self._step(name)) for name in names]

    def _step(self, name: str) -> Callable[[], bool]:
        before: list[int] = []

        def begun() -> bool:
            if not before:
                before.append(newest_log(self.server)[0])
            number, log = newest_log(self.server)
            return bool(log and number > before[0]
                        and f"   --> {name}\n" in log.read_text(errors="replace"))  # fmt: skip

        return begun

    def names_of_steps(self) -> list[str]:
        """Those of the newest deployment."""
        log = newest_log(self.server)[1]
        assert log is not None
        return re.findall(r"^   --> (\w+)$", log.read_text(errors="replace"), re.MULTILINE)

    def cut(self, step: Step, *words: str) -> None:
        """Run a command, cut the power once a step has begun, and boot."""
        pid1, begun = self.server.box.pid1(), time.monotonic()
        assert pid1 is not None
        assert not step.begun(), f"{step.name}: before the command"
        with self.amy.session(*words) as session:
            while not step.begun():
                if session.poll() is not None:
                    pytest.fail(f"no step {step.name}: {session.communicate()[0]}")
                assert time.monotonic() < begun + WAITING_SECONDS, step.name
                time.sleep(0.0005)
            over = session.poll() is not None
            os.kill(pid1, signal.SIGKILL)  # at once: some steps take a millisecond
            after = time.monotonic() - begun
            self.server.box.crash()
        booting = time.monotonic()
        self.server.box.start()
        recovered(self.server)
        until(lambda: shown(self.server), "the app after the boot", WAITING_SECONDS)
        print(f"{' '.join(words[:2])}, {step.name}: cut after {after:.2f} s{' (over)' * over},"
              f" served {time.monotonic() - booting:.1f} s after power")  # fmt: skip

    def await_rows(self, database: str = "shop", wanted: str = AFTER) -> None:
        """Wait until a database, which a boot starts, answers."""

        def found() -> bool:
            words = ("db", "psql", "shop", "--name", database, "--", "-XqAt", "-c", ROWS)
            done = self.amy.try_run(*words)
            assert done.returncode or done.stdout.strip() == wanted, done.stdout
            return done.returncode == 0

        until(found, "the database after the boot", 60)


@pytest.fixture(scope="module")
def shop(
    module_boxes: Boxes, database_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Shop:
    server = Server(module_boxes(None, database_image), tmp_path_factory.mktemp("server"))
    download(server.box, "xfsprogs")
    amy = server.admin("amy")
    amy.run("load", "shop")
    amy.run("settings", "set", "shop", "releases.keep=100")
    amy.run("db", "create", "shop")
    project = amy.project()
    project.write("lib/counter/release.ex", RELEASE)
    first = '"CREATE TABLE orders (id int, name text)"\n'
    project.write("priv/repo/migrations/1_first.exs", first)
    commits = [project.commit()]
    project.push()
    sql(amy, "shop", "INSERT INTO orders SELECT generate_series(1, 20)")
    amy.run("db", "backup", "shop")
    project.write("priv/repo/migrations/2_second.exs",
                  '"ALTER TABLE orders RENAME name TO title"\n')  # fmt: skip
    commits.append(project.commit())
    project.push()
    sql(amy, "shop", "INSERT INTO orders SELECT generate_series(21, 25)")
    return Shop(server, amy, commits)


def test_a_promotion(shop: Shop) -> None:
    """The app uses the one database or the other, each with its rows, and code that is for both."""
    copy = Pair(2, "shop-copy", "title", BEFORE)
    own = Pair(2, "shop", "title", AFTER)
    shop.amy.run("db", "restore", "shop", "--to", "v2", "--as", "shop-copy")
    rename = "ALTER TABLE orders RENAME name TO title"
    shop.amy.run("db", "psql", "shop", "--name", "shop-copy", "--", "-XqAt", "-c", rename)
    promote = ("db", "promote", "shop", "--name")
    shop.amy.run(*promote, "shop-copy")
    assert shop.pair() == copy
    now, live = copy, {copy: 0, own: 0}
    for step in shop.steps(shop.names_of_steps()):
        other = own if now == copy else copy
        shop.cut(step, *promote, other.database)
        found = shop.pair()
        live[found] += 1
        print(f"  {found.database}, before: {now.database}")
        now = found
    if now != copy:
        shop.amy.run(*promote, "shop-copy")
    assert shop.pair() == copy
    shop.amy.run(*promote, "shop")
    assert shop.pair() == own
    assert shop.read("shop-copy", ROWS) == BEFORE
    shop.amy.run("db", "destroy", "shop", "--name", "shop-copy", "--confirm", "shop-copy")
    assert sum(live.values()) == len(shop.names_of_steps())
    print(f"promotion: {live}")


def test_a_rewind(shop: Shop) -> None:
    """Release and data fit: both are those of v2, or both those of v1."""
    rewind = ("rollback", "shop", "v1", "--with-data", "--confirm", "shop")
    forward = ("rollback", "shop", "v2", "--confirm", "shop")
    shop.amy.run(*rewind)
    names = shop.names_of_steps()
    shop.amy.run(*forward)
    tidy(shop)
    restoring = [
        Step(
            "record", lambda: bool(shop.state("SELECT 1 FROM databases WHERE state = 'creating'"))
        ),
        Step("files", lambda: there(shop.data, "*/gatling.shop_v1*.new/PG_VERSION")),
        Step("data", lambda: there(shop.data, "*/gatling.shop_v1.*[0-9]/PG_VERSION")),
        Step("cluster", lambda: there(shop.configurations, "*/gatling.shop_v1*/conf.d/*")),
    ]
    own, gone_back = Pair(2, "shop", "title", AFTER), 0
    for step in (*restoring, *shop.steps(names)):
        if step.begun():
            tidy(shop)
        shop.cut(step, *rewind)
        found = shop.pair()
        print(f"  v{found.release}, {found.database}")
        if found.release == 1:
            assert (found.column, found.rows) == ("name", BEFORE)
            assert shop.read("shop", ROWS) == AFTER
            gone_back += 1
            shop.amy.run(*forward)
            assert shop.pair() == own
        else:
            assert found == own
        if step in restoring[:-1]:  # the same command completes it
            continue
        tidy(shop)
    shop.amy.run(*rewind)
    assert shop.pair() == Pair(1, "shop-v1", "name", BEFORE)
    shop.amy.run(*forward)
    assert shop.pair() == own
    tidy(shop)
    print(f"rewind: gone back in {gone_back} of {len(names) + len(restoring)}")


def tidy(shop: Shop) -> None:
    """Remove all databases but one."""
    for one in shop.amy.json("db", "list"):
        if one["name"] != "shop":
            name = one["name"]
            shop.amy.run("db", "destroy", "shop", "--name", name, "--confirm", name)


def there(place: Path, pattern: str) -> bool:
    return any(place.glob(pattern))


@pytest.fixture
def upgradable(new_server: Server) -> Shop:
    """An app with a database without backups, which Debian 12's pgBackRest could not go on with."""
    install_first(new_server)
    amy = new_server.admin("amy")
    amy.project().push()
    amy.run("db", "create", "shop", "--name", "other", "--as", "OTHER_URL")
    install_later(new_server)
    fill = "CREATE TABLE orders AS SELECT i AS id, '' AS title FROM generate_series(1, 25) i"
    amy.run("db", "psql", "shop", "--name", "other", "--", "-XqAt", "-c", fill)
    return Shop(new_server, amy)


def test_an_upgrade(upgradable: Shop) -> None:
    """The app's database serves in the one version or the other, and always with all its rows."""
    shop = upgradable
    upgrade = ("db", "upgrade", "shop", "--name", "other", "--to", str(LATER))
    undo = ("db", "upgrade", "shop", "--name", "other", "--undo", "--confirm", "other")
    generation = 2  # of the next upgrade: an undone one keeps its cluster
    old = shop.configurations / f"{FIRST}/gatling.other.1/start.conf"
    notes = shop.root / "var/lib/gatling/databases"

    def new(place: Path) -> Path:
        return place / f"{LATER}/gatling.other.{generation}"

    def decided() -> bool:
        return shop.version() == LATER

    proof = ".gatling-proof/other.*.upgrade"
    steps = [
        Step("copy for the rehearsal", lambda: there(shop.data, f"{proof}/old/PG_VERSION")),
        Step("rehearsal", lambda: there(shop.data, f"{proof}/new/PG_VERSION")),
        Step("stop", lambda: there(notes, f"restoring-{LATER}-*")
             and not (shop.data / f"{FIRST}/gatling.other.1/postmaster.pid").exists()),
        Step("pg_upgrade", lambda: there(shop.data, f"{LATER}/*.new/pg_upgrade_output.d")),
        Step("data", lambda: there(new(shop.data), "PG_VERSION")),
        Step("decision", decided),
        Step("cluster", lambda: there(new(shop.configurations), "conf.d/gatling.conf")),
        Step("statistics", lambda: decided() and not there(notes, f"restoring-{LATER}-*")),
    ]  # fmt: skip
    for step in steps:
        shop.cut(step, *upgrade)
        shop.await_rows("other")
        version = shop.read("other", "SHOW server_version_num")[:2]
        print(f"  PostgreSQL {version}")
        assert int(version) == shop.version()
        if decided():
            assert "already" in shop.amy.run(*upgrade, status=Exit.INVALID)
            shop.amy.run(*undo)
            shop.await_rows("other")
            generation += 1
    shop.amy.run(*upgrade)
    back = [
        Step("stop", lambda: not there(shop.data, f"{LATER}/gatling.other.*/postmaster.pid")),
        Step("decision", lambda: shop.version() == FIRST),
        Step("start", lambda: old.read_text().strip() == "auto"),
    ]
    for step in back:
        if not decided():
            shop.amy.run(*upgrade)
        shop.cut(step, *undo)
        shop.await_rows("other")
        version = shop.read("other", "SHOW server_version_num")[:2]
        print(f"  PostgreSQL {version}")
        assert int(version) == shop.version()
    if decided():
        shop.amy.run(*undo)
    shop.await_rows("other")
    shop.amy.run("db", "destroy", "shop", "--name", "other", "--confirm", "other")


def test_a_move_to_a_volume(shop: Shop) -> None:
    """All rows are on the one file system or the other, and the same command completes it."""
    add_loop_devices(shop.server)
    move = ("db", "volume", "create", "--size", "1280M", "--move")
    units = shop.root / "etc/systemd/system"
    data = "15/gatling.shop.1/postmaster.pid"

    def mounted() -> bool:
        mounts = Path(f"/proc/{shop.server.box.pid1()}/mounts").read_text()
        return " /var/lib/postgresql xfs " in mounts

    def started() -> bool:
        place = Path(f"/proc/{shop.server.box.pid1()}/root/var/lib/postgresql")
        return mounted() and (place / data).exists()

    steps = [
        Step("file", (shop.root / "var/lib/gatling-databases.xfs").exists),
        Step("copy", lambda: not (shop.data / data).exists()),
        Step("rename", (shop.root / "var/lib/postgresql.before").exists),
        Step("decision", (units / UNIT).exists),
        Step("link", (units / "local-fs.target.wants" / UNIT).is_symlink),
        Step("mount", mounted),
        Step("start", started),
    ]
    for step in steps:
        shop.cut(step, *move)
        moved = shop.amy.json("db", "volume")["there"]
        print(f"  {'on the volume' if moved else 'where they were'}")
        if not (shop.root / "var/lib/postgresql.before").exists() or moved:
            shop.await_rows()
        if moved:
            assert mounted()
            assert "There is a volume already" in shop.amy.run(*move, status=Exit.INVALID)
            shop.server.box.exec(["sh", "-ec", TAKE_BACK])
            shop.await_rows()
    shop.amy.run(*move)
    shop.await_rows()
    assert shop.amy.json("db", "volume")["there"]
