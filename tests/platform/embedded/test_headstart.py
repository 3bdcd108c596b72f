"""The VM of a build that a hook starts before it loads the rest of Gatling."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from gatling import proc
from gatling.platform.base import Task
from gatling.platform.embedded import headstart
from gatling.platform.embedded.home import EmbeddedHome
from gatling.platform.embedded.tasks import LocalTasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD, NEW = "a" * 40, "b" * 40
MAIN = "refs/heads/main"
SAYS = 'echo "$COMMIT $SHARED $OWN"; read -r line; echo "$line"'


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """As the last push has started one."""
    monkeypatch.setenv("SHARED", "of then")
    home = EmbeddedHome(tmp_path)
    paths = home.app("shop")
    paths.root.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(home.database)) as db:
        db.execute("CREATE TABLE config (app, name, value)")
        values = {"SECRET": "hush", "OWN": "value", "RELEASE_COOKIE": "of instances"}
        db.executemany("INSERT INTO config VALUES ('shop', ?, ?)", values.items())
        db.execute("INSERT INTO config VALUES ('other', 'OTHER', '1')")
        db.commit()
    env = {"PATH": os.environ["PATH"], "COMMIT": OLD, "SHARED": "of then",
           "SECRET": "hush", "OWN": "value", "GATLING_CONFIG": "OWN SECRET"}  # fmt: skip
    return Task(paths, "build", ["sh", "-c", SAYS], env, tmp_path, mark="mark", nice=3)


@pytest.fixture
def noted(task: Task) -> Task:
    LocalTasks().expect(task, OLD, ["main", "master"])
    return task


def begin(task: Task, *lines: str) -> headstart.Headstart | None:
    words = lines or (f"{OLD} {NEW} {MAIN}\n",)
    return headstart.begin(str(task.paths.home), "shop", words)


def started(task: Task) -> list[int]:
    """The processes of deployments of the home."""
    mark = f"{proc.MARK}={task.paths.home}:".encode()
    found = []
    for pid in (int(each) for each in os.listdir("/proc") if each.isdigit()):  # noqa: PTH208
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
                if mark in file.read():
                    found.append(pid)
        except OSError:
            continue
    return found


@pytest.fixture
def waiting(noted: Task) -> Iterator[headstart.Headstart]:
    found = begin(noted)
    assert found is not None
    yield found
    found.close()
    assert not started(noted)


def wanted(task: Task, waiting: headstart.Headstart, **changed: Any) -> Task:
    env = task.env | {"COMMIT": NEW}
    return structs.replace(task, env=env, mark=waiting.mark, **changed)


def test_it_is_what_the_build_would_start(noted: Task, waiting: headstart.Headstart) -> None:
    assert waiting.mark.startswith(f"{noted.paths.home}:")
    taken = waiting.take(wanted(noted, waiting))
    assert taken is not None
    waiting.close()  # which leaves alone what was taken
    deadline = time.monotonic() + 30
    assert taken.line(deadline, 30) == f"{NEW} of then value"
    (pid,) = started(noted)
    assert os.getpriority(os.PRIO_PROCESS, pid) == max(3, os.getpriority(os.PRIO_PROCESS, 0))
    taken.say("begin")
    assert taken.line(deadline, 30) == "begin"
    taken.close()
    assert waiting.take(wanted(noted, waiting)) is None


@pytest.mark.parametrize(
    "changed",
    [{"argv": ["sh"]}, {"nice": 4}, {"env": {}}, {"cwd": "elsewhere"}, {"mark": "of another"}],
    ids=lambda changed: str(*changed),
)
def test_another_task_ends_it(
    noted: Task, waiting: headstart.Headstart, changed: dict[str, Any]
) -> None:
    other = structs.replace(wanted(noted, waiting), **changed)
    assert started(noted)
    assert waiting.take(other) is None
    assert not started(noted)


def test_variables_of_the_shell_are_those_of_the_push(
    noted: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    for now in ("of now", None):
        if now is None:
            monkeypatch.delenv("SHARED")
        else:
            monkeypatch.setenv("SHARED", now)
        found = begin(noted)
        assert found is not None
        env = {name: text for name, text in noted.env.items() if name != "SHARED"}
        env |= {"COMMIT": NEW} | ({"SHARED": now} if now else {})
        taken = found.take(structs.replace(noted, env=env, mark=found.mark))
        assert taken is not None
        taken.close()


@pytest.mark.parametrize(
    "lines",
    [
        [f"{OLD} {NEW} refs/heads/work\n"],
        [f"{OLD} {NEW} refs/tags/main\n"],
        [f"{OLD} {'0' * 40} {MAIN}\n"],
        [f"{OLD} {NEW} {MAIN}\n", f"{OLD} {NEW} refs/heads/master\n"],
        ["\n"],
        [],
    ],
    ids=["branch", "tag", "deletion", "two refs", "nothing", "no line"],
)
def test_no_other_push_starts_it(noted: Task, lines: list[str]) -> None:
    assert headstart.begin(str(noted.paths.home), "shop", lines) is None
    assert not started(noted)


def test_the_note_is_its_owners_and_written_when_it_changes(noted: Task) -> None:
    file = noted.paths.root / headstart.NAME
    assert file.stat().st_mode & 0o777 == 0o600
    assert "hush" not in file.read_text()
    assert "value" not in json.loads(file.read_text())["env"].values()
    before = file.stat().st_ino
    LocalTasks().expect(structs.replace(noted, mark="other"), OLD, ["main", "master"])
    assert file.stat().st_ino == before
    LocalTasks().expect(structs.replace(noted, nice=4), OLD, ["main", "master"])
    assert json.loads(file.read_text())["nice"] == 4


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"refs": 1}', "\0", "1" * 100_000])
def test_a_note_that_is_none(noted: Task, text: str) -> None:
    (noted.paths.root / headstart.NAME).write_text(text)
    assert headstart.noted(str(noted.paths.home), "shop")
    assert begin(noted) is None


@pytest.mark.parametrize(
    "changed", [{"argv": ["/no/such"]}, {"cwd": "/no/such"}, {"argv": []}, {"env": {"A": "\0"}}]
)
def test_what_cannot_be_started(noted: Task, changed: dict[str, Any]) -> None:
    file = noted.paths.root / headstart.NAME
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    assert begin(noted) is None


def test_a_link_or_nothing_is_no_note(noted: Task) -> None:
    file = noted.paths.root / headstart.NAME
    file.rename(file.with_name("other"))
    assert not headstart.noted(str(noted.paths.home), "shop")
    assert begin(noted) is None
    file.symlink_to(file.with_name("other"))
    assert begin(noted) is None
    assert not headstart.noted(str(noted.paths.home), "../shop/apps/shop")


def test_the_config_is_that_of_the_push(noted: Task) -> None:
    with contextlib.closing(sqlite3.connect(noted.paths.home / "state.db")) as db:
        db.execute("UPDATE config SET value = 'new' WHERE name = 'SECRET'")
        db.execute("DELETE FROM config WHERE name = 'OWN'")
        db.commit()
    found = begin(noted)
    assert found is not None
    env = {name: text for name, text in noted.env.items() if name != "OWN"}
    env |= {"COMMIT": NEW, "SECRET": "new", "GATLING_CONFIG": "SECRET"}
    taken = found.take(structs.replace(noted, env=env, mark=found.mark))
    assert taken is not None
    taken.close()


@pytest.mark.parametrize("content", [None, "no database"])
def test_records_that_cannot_be_read(noted: Task, content: str | None) -> None:
    file = noted.paths.home / "state.db"
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert begin(noted) is None
