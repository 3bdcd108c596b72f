"""The settings of a database and its roles, which a dump of the database lacks. Pure.

`ALTER DATABASE … SET`, `ALTER ROLE … IN DATABASE … SET`, `ALTER ROLE … SET` and `COMMENT ON
DATABASE` write to catalogs of the whole cluster. They are read as text, checked, and set again by
the superuser.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from gatling.errors import InvalidInput
from gatling.platform.postgres.clusters import OWNER, ROLE
from gatling.platform.postgres.sql import identifier

if TYPE_CHECKING:
    from collections.abc import Collection

READ = """\
SELECT json_build_object('connections', d.datconnlimit, 'settings', (
  SELECT coalesce(json_agg(json_build_array(s.setdatabase <> 0, coalesce(r.rolname, ''),
                                            s.setconfig)
                           ORDER BY s.setdatabase <> 0, r.rolname), '[]')
  FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
  WHERE s.setdatabase IN (0, d.oid)
    AND (s.setrole = 0 OR r.rolname LIKE 'gatling-%' OR r.rolname = 'gatling_owner')),
  'comment', (SELECT coalesce(min(c.description), '') FROM pg_catalog.pg_shdescription c
              WHERE c.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass
                AND c.objoid = d.oid AND octet_length(c.description) <= 1048576))::text
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database();
"""
"""One line of JSON: the limit of connections of the current database, its settings, those of the
roles of apps, and the comment on the database. A comment of more than a megabyte is left out: the
line has a largest size."""
UNLIMITED = -1
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*")
_LISTS = frozenset({
    "local_preload_libraries", "search_path", "session_preload_libraries",
    "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories",
})  # fmt: skip
"""Settings whose value is a list of quoted names (GUC_LIST_QUOTE, as in pg_dump)."""
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,"]*))\s*(?:,|$)')
_OWN = ("role", "default_transaction_read_only")
"""Settings of an app's role that sql.access sets."""


class Setting(NamedTuple):
    """A setting, and the sessions that it is for."""

    in_database: bool
    """Whether it is for sessions of the database only."""
    role: str
    """The role whose sessions it is for; empty: those of all."""
    name: str
    value: str


class OwnSettings(NamedTuple):
    """The settings of a database."""

    connections: int = UNLIMITED
    """The number of sessions that it may have."""
    settings: tuple[Setting, ...] = ()
    comment: str = ""

    def of(self, roles: Collection[str]) -> OwnSettings:
        """Those of a database that has only these roles of apps."""
        known = {"", OWNER, *roles}
        return self._replace(settings=tuple(one for one in self.settings if one.role in known))


NONE = OwnSettings()


def parse(line: str) -> OwnSettings:
    """The settings that `READ` has printed. Raises InvalidInput for what cannot be one."""
    found = json.loads(line)
    return from_json([
        found["connections"],
        [[in_database, role, *text.split("=", 1)]
         for in_database, role, texts in found["settings"] for text in texts],
        found["comment"],
    ])  # fmt: skip


def from_json(value: Any) -> OwnSettings:
    """Settings that json.dumps has written. Raises InvalidInput for what cannot be one.

    Those of an earlier Gatling have no comment.
    """
    try:
        connections, rows, *more = value
        settings = tuple(
            Setting(bool(in_database), str(role), str(name), str(text))
            for in_database, role, name, text in rows
        )
        own = OwnSettings(int(connections), settings, *map(str, more[:1]))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"These are not settings of a database: {error}") from None
    for one in own.settings:
        if not _NAME.fullmatch(one.name) or "\0" in one.value or not (
            one.role in ("", OWNER) or ROLE.fullmatch(one.role)
        ):  # fmt: skip
            raise InvalidInput(f"{one.name} of {one.role!r} cannot be a setting of a database.")
    if "\0" in own.comment:
        raise InvalidInput("The comment on the database cannot be one.")
    kept = (one for one in own.settings
            if one.in_database or not ROLE.fullmatch(one.role) or one.name not in _OWN)  # fmt: skip
    return own._replace(settings=tuple(kept))


def statements(database: str, own: OwnSettings) -> list[tuple[str, str]]:
    """SQL of the superuser that sets each of them, with the words for what it sets."""
    name = identifier(database)
    found = []
    for one in own.settings:
        script = f"{_target(name, one)} SET {identifier(one.name)} TO {_value(one)};\n"
        found.append((f"{one.name} = {one.value}", script))
    if own.connections != UNLIMITED:
        limit = f"CONNECTION LIMIT {own.connections}"
        found.append((limit, f"ALTER DATABASE {name} {limit};\n"))
    if own.comment:
        comment = f"COMMENT ON DATABASE {name} IS {_literal(own.comment)};\n"
        found.append(("COMMENT ON DATABASE", comment))
    return found


def _target(database: str, one: Setting) -> str:
    if not one.role:
        return f"ALTER DATABASE {database}" if one.in_database else "ALTER ROLE ALL"
    within = f" IN DATABASE {database}" if one.in_database else ""
    return f"ALTER ROLE {identifier(one.role)}{within}"


def _value(one: Setting) -> str:
    if one.name.lower() not in _LISTS or not one.value.strip():
        return _literal(one.value)
    parts = [(quoted.replace('""', '"'), bare.strip())
             for quoted, bare in _ELEMENT.findall(one.value)]  # fmt: skip
    elements = [quoted or bare for quoted, bare in parts]
    # the pattern also matches the empty rest at the end
    return ", ".join(_literal(element) for element in elements[: _length(one.value)])


def _length(value: str) -> int:
    """The number of elements of a list: one more than the commas outside of quotes."""
    return re.sub(r'"(?:[^"]|"")*"', "", value).count(",") + 1


def _literal(text: str) -> str:
    """A constant that means the same whatever standard_conforming_strings is."""
    quoted = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{quoted}'"
