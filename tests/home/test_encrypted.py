"""Encrypted backups in a directory of this machine."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.home.test_databases import Home

pytestmark = pytest.mark.skipif(shutil.which("pgbackrest") is None, reason="needs pgBackRest")
OWN, OTHER = "passphrase=a-long-passphrase\n", "passphrase=another-passphrase\n"


def test_encrypted_backups_of_a_directory() -> None:
    home = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        home.run("load", "shop")
        home.run("db", "create", "shop")
        home.sql("shop", "CREATE TABLE orders AS SELECT i FROM generate_series(1, 9) i")
        assert "in a directory of this machine." in home.run("db", "repository")
        words = ("db", "repository", "directory", "--stdin")
        assert "needs no secrets" in home.run(*words, stdin=OWN, ok=False)
        said = home.run("db", "repository", "directory", "--encrypt")
        passphrase = said.partition("passphrase=")[2].strip()
        assert len(passphrase) > 40
        assert "machine, encrypted." in home.run("db", "repository")
        made = home.facts("db", "backup", "shop")["backup"]
        assert (made["kind"], made["state"]) == ("full", "proved")
        place = home.home / "databases/.backups/encrypted"
        (manifest,) = place.glob(f"backup/*/{made['label']}/backup.manifest")
        assert manifest.read_bytes().startswith(b"Salted__")
        # the same place keeps the passphrase, and the backups
        assert "passphrase=" not in home.run("db", "repository", "directory", "--encrypt")
        assert [one["label"] for one in home.json("db", "backups", "shop")] == [made["label"]]
        home.run("db", "restore", "shop")
        restored = ("db", "psql", "shop", "--name", "shop-restored", "--", "-XqAt", "-c")
        assert home.run(*restored, "SELECT count(*) FROM orders").strip() == "9"

        home.run("db", "repository", "directory")
        assert home.json("db", "backups", "shop") == []
        assert "cannot be decrypted" in home.run(*words, "--encrypt", stdin=OTHER, ok=False)
        assert "in a directory of this machine." in home.run("db", "repository")
        home.run(*words, "--encrypt", stdin=f"passphrase={passphrase}\n")
        assert [one["label"] for one in home.json("db", "backups", "shop")] == [made["label"]]
    finally:
        home.close()
