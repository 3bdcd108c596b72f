"""`gatling db repository`: where backups of databases are kept."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import click

from gatling.cli.common import as_json, opened, progress
from gatling.cli.visitor import may_install
from gatling.errors import InvalidInput, Misused
from gatling.ui.output import echo, print_json

if TYPE_CHECKING:
    from gatling.platform.postgres.repository import Repository

MAX_READ = 8192
SECRETS = ("key", "key-secret", "passphrase")


@click.command("repository")
@click.argument("place", metavar="[PLACE]", required=False)
@click.option("--endpoint", metavar="HOST[:PORT]", help="The S3 server.")
@click.option("--region", help="The region of the S3 bucket.")
@click.option("--path-style", is_flag=True, help="The S3 server wants the bucket in the path.")
@click.option("--ca-file", metavar="PATH", help="The CA certificates for the S3 server (PEM).")
@click.option("--key-file", metavar="PATH", help="The private SSH key for SFTP.")
@click.option("--fingerprint", metavar="SHA256:…", help="The fingerprint of the SFTP server's key.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the secrets from stdin.")
@click.option("--no-encryption", is_flag=True, help="Store the backups as they are.")
@click.option("--encrypt", is_flag=True, help="Encrypt the backups in the directory.")
@as_json
def repository_command(
    place: str | None, endpoint: str | None, region: str | None, path_style: bool,
    ca_file: str | None, key_file: str | None, fingerprint: str | None, from_stdin: bool,
    no_encryption: bool, encrypt: bool, as_json: bool,
) -> None:  # fmt: skip
    """Keep backups of databases in an S3 bucket or on another machine, or show where they are kept.

    PLACE is s3://BUCKET/PATH, sftp://USER@HOST:PORT/PATH, or `directory` for this machine. It holds
    for all databases of this host, each from its next backup on, which is a full one. Earlier
    backups stay where they are. PLACE is tried first, and nothing is changed if it cannot be used.

    The secrets are lines of stdin, such as `key=…`, `key-secret=…` (S3) and `passphrase=…`. Backups
    elsewhere are encrypted (AES-256), and those in a directory of this machine with --encrypt.
    Without a passphrase of yours, one is created and printed once. Keep it, because the backups
    cannot be read without it.

    \b
    Examples:
      gatling db repository
      gatling db repository s3://backups --endpoint s3.example --region eu --stdin < keys
      gatling db repository sftp://me@nas/shop --key-file /srv/key --fingerprint SHA256:…
      gatling db repository directory
      gatling db repository directory --encrypt
    """
    from gatling.operations import repositories

    options = (endpoint, region, ca_file, key_file, fingerprint, from_stdin)
    if place is None:
        if any(options) or path_style or no_encryption or encrypt:
            raise Misused("A place is missing, such as s3://BUCKET/PATH.")
        with opened() as gatling:
            shown = repositories.show(gatling)
        if as_json:
            print_json(shown)
        else:
            echo(f"Backups are kept in {shown.url}." if shown.url
                 else "Backups are kept in a directory of this machine"
                 f"{', encrypted' if shown.encrypted else ''}.")  # fmt: skip
        return
    wanted = _wanted(
        place, endpoint, region, path_style=path_style, ca_file=ca_file, key_file=key_file,
        fingerprint=fingerprint, secrets=_secrets() if from_stdin else {}, encrypt=encrypt,
    )  # fmt: skip
    with opened() as gatling:
        done = repositories.change(gatling, wanted, progress(), encrypt=not no_encryption,
                                   may_install=may_install())  # fmt: skip
    if as_json:
        print_json(done)
        return
    echo(f"Backups are kept in {done.url or 'a directory of this machine'} from now on. The next"
         " backup of each database is a full one: `gatling db backup APP`.")  # fmt: skip
    if done.passphrase:
        echo("They are encrypted with the passphrase below. It is shown once. Keep it in a safe"
             " place elsewhere, because the backups cannot be read without it.",
             f"passphrase={done.passphrase}")  # fmt: skip


def _wanted(
    place: str, endpoint: str | None, region: str | None, *, path_style: bool, ca_file: str | None,
    key_file: str | None, fingerprint: str | None, secrets: dict[str, str], encrypt: bool,
) -> Repository:  # fmt: skip
    from gatling.platform.postgres import repository

    found = repository.from_url(place)
    s3, sftp = (endpoint, region, ca_file), (key_file, fingerprint)
    if (found.kind != repository.S3 and (any(s3) or path_style)) or (
        found.kind != repository.SFTP and any(sftp)
    ):
        raise Misused(f"An option is not for {place}.")
    if found.is_remote and encrypt:
        raise Misused("Backups elsewhere are encrypted without --encrypt.")
    if not found.is_remote and secrets and not (encrypt and set(secrets) == {"passphrase"}):
        raise Misused("A directory of this machine needs no secrets.")
    changes: dict[str, object] = {"passphrase": secrets.get("passphrase", "")}
    if encrypt:
        changes["encrypted"] = True
    if found.kind == repository.S3:
        host, port = repository.endpoint(endpoint or "")
        changes |= {"host": host, "port": port, "region": region or "", "path_style": path_style,
                    "ca_file": ca_file or "", "key": secrets.get("key", ""),
                    "key_secret": secrets.get("key-secret", "")}  # fmt: skip
    elif found.kind == repository.SFTP:
        digits = repository.fingerprint(fingerprint or "")
        changes |= {"key_file": key_file or "", "fingerprint": digits}
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def _secrets() -> dict[str, str]:
    found = {}
    for line in sys.stdin.read(MAX_READ).splitlines():
        name, has_value, value = line.partition("=")
        if not line.strip():
            continue
        if not has_value or name.strip() not in SECRETS:
            raise InvalidInput(
                "A line of the secrets has another form.",
                hint=f"Use {', '.join(SECRETS)}: NAME=VALUE.",
            )
        found[name.strip()] = value.strip()
    return found
