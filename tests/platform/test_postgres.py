"""PostgreSQL clusters as names, settings, SQL and text: pure."""

from __future__ import annotations

import io

import pytest

from gatling.errors import InvalidInput
from gatling.platform import users
from gatling.platform.postgres import clusters, dump, settings, sql
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.server import cluster_units


def test_names_of_a_cluster() -> None:
    cluster = Cluster("my-shop", 15, 2)
    assert cluster.name == "gatling.my_shop.2"  # systemd reads a hyphen as a slash
    assert cluster_units.unit(cluster) == "postgresql@15-gatling.my_shop.2.service"
    assert str(cluster_units.data(cluster)) == "/var/lib/postgresql/15/gatling.my_shop.2"
    assert str(cluster_units.sockets(cluster)) == "/run/gatling-databases/my-shop.2"
    for wrong in (("../shop", 15, 1), ("Shop", 15, 1), ("shop", 14, 1), ("shop", 15, 0)):
        with pytest.raises(InvalidInput):
            Cluster(*wrong)


def test_the_longest_names_fit_into_a_socket_s_path() -> None:
    cluster = Cluster("a" * 63, 15, 999_999)
    assert len(str(cluster_units.sockets(cluster))) <= clusters.SOCKET_BYTES
    assert len(users.of_app("a" * 63)) == 32


def test_versions() -> None:
    assert clusters.version("17") == 17
    for wrong in ("9", "14", "15.2", "017", "17; id", ""):
        with pytest.raises(InvalidInput):
            clusters.version(wrong)


def test_the_url_that_ecto_reads() -> None:
    assert clusters.url("gatling-shop", "shop", "/home/a b/current/socket") == (
        "ecto://gatling-shop@localhost/shop?socket_dir=/home/a%20b/current/socket"
    )


@pytest.mark.parametrize(("memory", "buffers", "connections"), [
    (512, "64MB", "50"), (1024, "128MB", "50"), (8192, "1024MB", "100"), (262144, "4096MB", "100"),
])  # fmt: skip
def test_settings_fit_the_machine(memory: int, buffers: str, connections: str) -> None:
    text = settings.configuration("/run/it's", memory, "/own/it's 100%/archive")
    assert f"\nshared_buffers = {buffers}\n" in text
    assert f"\nmax_connections = {connections}\n" in text
    assert "\nlisten_addresses = ''\n" in text
    # quoted for the shell, then for PostgreSQL, which replaces %
    quoted = """'/own/it''"''"''s 100%%/archive'"""
    assert f"\narchive_command = 'test ! -e '{quoted}' || /bin/sh" in text
    assert "\nunix_socket_directories = '/run/it''s'\n" in text


def test_only_users_of_the_machine_may_connect() -> None:
    text = settings.authentication("my-shop")
    assert text.splitlines()[1:] == [
        "local all postgres peer",
        "local replication postgres peer",
        'local "my-shop" gatling_reader peer map=gatling_reader',
        'local "my-shop" all peer',
    ]
    mapped = settings.identities("gatling", "ann", ["postgres", "gatling-shop"])
    assert mapped.splitlines()[1:] == [
        'gatling "ann" "gatling-shop"', 'gatling "ann" "postgres"'
    ]  # fmt: skip


def test_roles_are_those_of_apps() -> None:
    with pytest.raises(ValueError, match="postgres"):
        sql.access("shop", {"postgres": "write"})
    with pytest.raises(ValueError, match="x"):
        sql.access("shop", {'gatling-x"; DROP': "write"})
    nobody = sql.access("shop", {})
    assert "NOT IN ('')" in nobody
    assert "LOGIN NOSUPERUSER" not in nobody


def test_the_socket_is_for_the_apps_of_the_database() -> None:
    text = cluster_units.temporary_files(Cluster("shop", 15), ["gatling-shop", "gatling-blog"])
    assert (
        "a /run/gatling-databases/shop.1 - - - - user::rwx,group::---,other::---,mask::--x,"
        "user:gatling-blog:--x,user:gatling-shop:--x\n"
    ) in text
    assert "L+ /run/gatling-databases/shop - - - - shop.1\n" in text
    assert "r! /var/lib/postgresql/15/gatling.shop.1/postmaster.pid\n" in text


COPIED = b"""\
--
SET row_security = off;
COPY public.orders (id, name) FROM stdin;
1\tx
2\tCOPY public.orders (id) FROM stdin;
\\\\.
\\.


COPY "my schema"."a (b" (id) FROM stdin;
\\.
COPY public.empty  FROM stdin;


\\.
"""


def test_rows_of_a_copy() -> None:
    found = dump.rows(io.BytesIO(COPIED))
    assert found == {"public.orders": 3, '"my schema"."a (b"': 0, "public.empty": 2}
    assert dump.difference(found, found) == ""
    assert dump.difference({"public.orders": 4}, found) == (
        "public.orders has 4 rows, and the copy has 3"
    )
    assert "public.lost has 1 rows" in dump.difference({"public.lost": 1}, found)


def test_a_row_that_is_longer_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "PIECE", 8)
    long = b"COPY a.b (c) FROM stdin;\n" + b"x" * 100 + b"\\.\n" + b"y\n\\.\n"
    monkeypatch.setattr(dump, "PIECE", 64)
    assert dump.rows(io.BytesIO(long)) == {"a.b": 2}
