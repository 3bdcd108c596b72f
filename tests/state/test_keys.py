"""Keys as they are recorded."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from gatling.errors import GatlingError, InvalidInput, NotFound
from gatling.state import database, keys, schema
from gatling.state.database import open_database

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.state.database import Database
    from gatling.state.keys import Key, Role


def add(db: Database, name: str, number: int = 1, role: Role = "deployer", *apps: str) -> Key:
    print_ = f"SHA256:{number}"
    return keys.add(
        db, name, kind="ssh-ed25519", blob=f"AAAA{number}", fingerprint=print_, role=role, apps=apps
    )


def test_what_is_added_comes_back(db: Database) -> None:
    made = add(db, "ann@laptop", 1, "deployer", "shop", "blog", "shop")
    assert (made.name, made.type, made.blob) == ("ann@laptop", "ssh-ed25519", "AAAA1")
    assert (made.fingerprint, made.role, made.apps) == ("SHA256:1", "deployer", ("blog", "shop"))
    other = add(db, "0", 2, "admin", keys.EVERY_APP)
    assert keys.get(db, "ann@laptop") == made
    assert keys.every(db) == [other, made]


def test_what_is_removed_is_gone_and_its_name_and_key_are_free(db: Database) -> None:
    add(db, "ann")
    keys.remove(db, "ann")
    assert keys.every(db) == []
    with pytest.raises(NotFound, match="no key 'ann'"):
        keys.get(db, "ann")
    with pytest.raises(NotFound, match="no key 'ann'"):
        keys.remove(db, "ann")
    add(db, "ann")


def test_a_name_or_a_key_that_is_taken(db: Database) -> None:
    first = add(db, "ann", 1)
    with pytest.raises(InvalidInput, match="already a key ann"):
        add(db, "ann", 2)
    with pytest.raises(InvalidInput, match="already exists, as ann"):
        add(db, "bob", 1)
    assert keys.every(db) == [first]


@pytest.mark.parametrize("name", ["a", "0", "ann@laptop", "a.b_c-d@e", "a" * 64])
def test_names_that_will_do(db: Database, name: str) -> None:
    assert add(db, name).name == name


@pytest.mark.parametrize(
    "name",
    ["", "Ann", "-a", ".a", "@a", "a b", "a\n", "a\nb", 'a"', "a$b", "a;b", "a/b", "a\\b", "é",
     "a" * 65, "a\0"],
)  # fmt: skip
def test_names_that_are_refused(db: Database, name: str) -> None:
    assert not keys.is_name(name)
    with pytest.raises(InvalidInput, match="cannot be a key's name"):
        add(db, name)
    assert keys.every(db) == []


def test_there_are_three_roles(db: Database) -> None:
    wrong: Role = "root"  # type: ignore[assignment]
    with pytest.raises(GatlingError):
        add(db, "ann", 1, wrong)
    assert keys.every(db) == []


def test_a_state_from_before_there_were_keys(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = schema.SCHEMA
    monkeypatch.setattr(database, "SCHEMA", newest[:2])
    with contextlib.closing(open_database(file)) as old:
        old.execute("INSERT INTO home VALUES ('kept', '1')")
        assert old.row("SELECT 1 FROM sqlite_master WHERE name = 'keys'") is None
    monkeypatch.setattr(database, "SCHEMA", newest)
    with contextlib.closing(open_database(file)) as db:
        assert keys.every(db) == []
        add(db, "ann")
        assert db.value("SELECT value FROM home WHERE key = 'kept'") == "1"
