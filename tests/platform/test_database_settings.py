"""Settings of a database that a dump lacks: read, checked and set again."""

from __future__ import annotations

import json

import pytest

from gatling.errors import InvalidInput
from gatling.platform.postgres import database_settings
from gatling.platform.postgres.database_settings import OwnSettings, Setting


def test_each_is_set_for_the_sessions_that_it_was_for() -> None:
    own = database_settings.parse(json.dumps({"connections": 7, "settings": [
        [False, "", ["jit=on"]],
        [False, "gatling-shop", ["role=gatling_owner", "work_mem=9MB",
                                 "default_transaction_read_only=on"]],
        [True, "", ["search_path=\"$user\", public, \"a \"\"b, c\"", "app.name=it's \\ = 1\n"]],
        [True, "gatling-shop", ["role=x", "search_path=\"\""]],
        [True, "gatling-blog", ["work_mem=1MB"]],
    ], "comment": "it's \\ mine;\nDROP"}))  # fmt: skip
    sql = [script for _, script in
           database_settings.statements('my "shop"', own.of(["gatling-shop"]))]  # fmt: skip
    lists = 'ALTER DATABASE "my ""shop""" SET "search_path" TO'
    assert sql == [
        "ALTER ROLE ALL SET \"jit\" TO E'on';\n",
        'ALTER ROLE "gatling-shop" SET "work_mem" TO E\'9MB\';\n',
        f"{lists} E'$user', E'public', E'a \"b, c';\n",
        'ALTER DATABASE "my ""shop""" SET "app.name" TO E\'it\'\'s \\\\ = 1\n\';\n',
        'ALTER ROLE "gatling-shop" IN DATABASE "my ""shop""" SET "role" TO E\'x\';\n',
        'ALTER ROLE "gatling-shop" IN DATABASE "my ""shop""" SET "search_path" TO E\'\';\n',
        'ALTER DATABASE "my ""shop""" CONNECTION LIMIT 7;\n',
        'COMMENT ON DATABASE "my ""shop""" IS E\'it\'\'s \\\\ mine;\nDROP\';\n',
    ]
    assert database_settings.from_json(json.loads(json.dumps(own))) == own
    assert database_settings.statements("shop", OwnSettings()) == []
    # the dump of an earlier Gatling
    assert database_settings.from_json([own.connections, own.settings]) == own._replace(comment="")


@pytest.mark.parametrize("wrong", [
    Setting(True, "postgres", "work_mem", "1MB"), Setting(True, "gatling-x\" SUPERUSER", "a", "b"),
    Setting(True, "", "work_mem TO 1; DROP", "1"), Setting(True, "", "", "1"),
    Setting(True, "", "a", "\0"), Setting(False, "", "a..b", "1"),
])  # fmt: skip
def test_a_setting_that_cannot_be(wrong: Setting) -> None:
    with pytest.raises(InvalidInput, match="cannot be a setting"):
        database_settings.from_json([-1, [wrong]])


@pytest.mark.parametrize("wrong", [None, [], [1], [1, [["a"]]], ["x", []], {"a": 1, "b": 2}])
def test_what_are_no_settings(wrong: object) -> None:
    with pytest.raises(InvalidInput, match="are not settings"):
        database_settings.from_json(wrong)


def test_a_comment_that_cannot_be() -> None:
    with pytest.raises(InvalidInput, match="comment"):
        database_settings.from_json([-1, [], "a\0b"])
