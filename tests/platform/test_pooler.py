"""The configuration of PgBouncer, and its versions."""

from __future__ import annotations

import pytest

from gatling.errors import InvalidInput
from gatling.platform.postgres import pooler
from gatling.platform.server import pool_units


@pytest.mark.parametrize(("direct", "pooled"), [
    ("DATABASE_URL", "DATABASE_CONNECTION_POOL_URL"),
    ("SHOP_TRY_DATABASE_URL", "SHOP_TRY_DATABASE_CONNECTION_POOL_URL"),
    ("EVENTS_URL", "EVENTS_CONNECTION_POOL_URL"),
    ("EVENTS", "EVENTS_CONNECTION_POOL_URL"),
])  # fmt: skip
def test_the_variable_of_a_pool(direct: str, pooled: str) -> None:
    assert pooler.variable(direct) == pooled


@pytest.mark.parametrize(("said", "version"), [
    ("PgBouncer 1.18.0\nlibevent 2.1.12-stable\n", (1, 18)),
    ("PgBouncer 1.24.1", (1, 24)),
    ("pgbouncer: not found", None),
    ("", None),
])  # fmt: skip
def test_a_version(said: str, version: tuple[int, int] | None) -> None:
    assert pooler.version(said) == version


@pytest.mark.parametrize("text", ["", "0", "-1", "1001", "20.5", "many", "\u0661", "2\n"])
def test_a_size_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidInput, match="a number from 1 to 1000"):
        pooler.size(text)
    assert pooler.size("1000") == 1000


def test_the_configuration() -> None:
    databases = {"shop": "/run/it's here/shop", "my-shop": "/run/d/my-shop", "pgbouncer": "/x"}
    text = pooler.configuration("gatling-shop", "/run/p/shop", databases, 7, prepared=False)
    lines = text.splitlines()
    assert lines[1:5] == [
        "[databases]",
        "my-shop = host='/run/d/my-shop' port=5432 dbname=my-shop user=gatling-shop",
        "shop = host='/run/it''s here/shop' port=5432 dbname=shop user=gatling-shop",
        "[pgbouncer]",
    ]
    assert "pool_mode = transaction" in lines
    assert "default_pool_size = 7" in lines
    assert "unix_socket_dir = /run/p/shop" in lines
    # older versions refuse what they do not know; nothing listens on the network
    assert not any(line.startswith(("max_prepared", "listen_addr", "pidfile")) for line in lines)
    text = pooler.configuration("r", "/s", databases, 7, prepared=True, pid_file="/s/pid")
    assert "max_prepared_statements = 200" in text
    assert "pidfile = /s/pid" in text


def test_the_unit_of_a_server() -> None:
    lines = pool_units.service("shop").splitlines()
    assert "User=gatling-shop" in lines
    assert "PrivateNetwork=yes" in lines
    assert "RuntimeDirectoryMode=0700" in lines
    assert "ExecStart=/usr/sbin/pgbouncer /etc/gatling-pools/shop.ini" in lines
