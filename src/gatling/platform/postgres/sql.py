"""The scripts that the superuser runs in a cluster with psql. Each can be run again.

The superuser works in the database `postgres`, where apps can create nothing. In an app's own
database it only counts rows: everything else could run functions of the app with all rights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform.postgres.clusters import OWNER, READ, ROLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


NOT_CONNECTED = 2
"""The exit status of psql(1) without a connection, also of one that is lost."""


def identifier(name: str) -> str:
    """A name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a constant."""
    return "'" + text.replace("'", "''") + "'"


def setup(database: str) -> str:
    """Create the owner and the database, unless they are there, for nobody else to enter."""
    name = identifier(database)
    return (
        f"SELECT 'CREATE ROLE {OWNER} NOLOGIN'"
        f" WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{OWNER}') \\gexec\n"
        f"SELECT 'CREATE DATABASE {name} OWNER {OWNER}'"
        f" WHERE NOT EXISTS (SELECT 1 FROM pg_database WHERE datname = {literal(database)})"
        " \\gexec\n"
        f"REVOKE ALL ON DATABASE {name}, postgres, template1 FROM PUBLIC;\n"
    )


def access(database: str, roles: Mapping[str, str]) -> str:
    """Let these roles use the database, to write or only to read, and no other role of an app.

    Sessions of those that may do less than before are ended.
    """
    known = ", ".join(map(literal, roles)) or "''"
    closed = f"""\
SELECT format('ALTER ROLE %I NOLOGIN', rolname) FROM pg_roles
  WHERE rolname LIKE 'gatling-%' AND rolname NOT IN ({known}) \\gexec
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
  WHERE usename LIKE 'gatling-%' AND usename NOT IN ({known});
"""
    each = [_one(database, role, reads=kind == READ) for role, kind in sorted(roles.items())]
    return closed + "".join(each)


def _one(database: str, role: str, *, reads: bool) -> str:
    if not ROLE.fullmatch(role):
        raise ValueError(role)
    name, text = identifier(role), literal(role)
    common = f"""\
SELECT 'CREATE ROLE {name}'
  WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = {text}) \\gexec
ALTER ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
GRANT CONNECT, TEMPORARY ON DATABASE {identifier(database)} TO {name};
"""
    if reads:
        return f"""\
{common}SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
  WHERE usename = {text} AND pg_has_role({text}, '{OWNER}', 'MEMBER');
REVOKE {OWNER} FROM {name};
GRANT pg_read_all_data TO {name};
ALTER ROLE {name} RESET role;
ALTER ROLE {name} SET default_transaction_read_only = on;
"""
    # all apps that write create objects of the same owner, so that each can change them
    return f"""\
{common}GRANT {OWNER} TO {name};
REVOKE pg_read_all_data FROM {name};
ALTER ROLE {name} SET role = '{OWNER}';
ALTER ROLE {name} RESET default_transaction_read_only;
"""


NUMBERS = 2**31
"""Transactions after which the oldest row would be taken for one of the future, so that PostgreSQL
takes no writes before (PostgreSQL's documentation, "Preventing Transaction ID Wraparound")."""


def facts(database: str) -> str:
    """One line of JSON: the fields of clusters.Facts, without DEAD and the room on the disk."""
    name = literal(database)
    return f"""\
SELECT json_build_object(
  'version', current_setting('server_version'),
  'bytes', pg_database_size({name}),
  'connections', (SELECT count(*) FROM pg_stat_activity WHERE datname = {name}),
  'active', (SELECT count(*) FROM pg_stat_activity WHERE datname = {name} AND state = 'active'),
  'max_connections', current_setting('max_connections')::int,
  'started_at', to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC',
                        'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
  'cache_hits', (SELECT blks_hit::float / nullif(blks_hit + blks_read, 0)
                 FROM pg_stat_database WHERE datname = {name}),
  'longest_query', (SELECT coalesce(extract(epoch FROM max(now() - query_start)), 0)::float
                    FROM pg_stat_activity WHERE datname = {name} AND state = 'active'),
  'longest_transaction', (SELECT coalesce(extract(epoch FROM max(now() - xact_start)), 0)::float
                          FROM pg_stat_activity WHERE datname = {name}),
  'checksums', current_setting('data_checksums') = 'on',
  'log_bytes', (SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()),
  'log_limit', pg_size_bytes(current_setting('max_wal_size')),
  'log_waiting', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
  'archiving_failed', (SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'),
                                       false) FROM pg_stat_archiver),
  'slot_bytes', (SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::bigint
                 FROM pg_replication_slots),
  'age', (SELECT max(greatest(age(datfrozenxid), mxid_age(datminmxid)))::float / {NUMBERS}
          FROM pg_database)
)::text;
"""


DEAD = """\
SELECT json_build_object('dead_bytes', coalesce(sum(
  pg_relation_size(relid) * (n_dead_tup::float / greatest(n_live_tup + n_dead_tup, 1))
), 0)::bigint)::text FROM pg_stat_user_tables;
"""
"""One line of JSON about the database in which it runs."""


TABLES = """\
SELECT coalesce(json_agg(format('%I.%I', n.nspname, c.relname)), '[]')::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
                  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass);
"""
"""One line of JSON: the tables whose rows a dump holds, with their schemas, quoted."""


def counts(tables: Iterable[str]) -> str:
    """A line for each of these quoted tables: its number of rows."""
    # rules and policies do not concern a superuser's reading of a table, and no function is called
    return "".join(f"SELECT pg_catalog.count(*) FROM ONLY {table};\n" for table in tables)
