"""`gatling certificates account`, `authority` and `dns`: where certificates come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling.cli.common import as_json, opened
from gatling.errors import InvalidInput
from gatling.ui.output import echo, print_json

if TYPE_CHECKING:
    from typing import TextIO

MAX_READ = 1 << 20


@click.command("account")
@click.option(
    "--email", metavar="ADDRESS", help="Create or change the account, and accept the CA's terms."
)
@click.option("--directory", metavar="URL", default="", help="The CA. Default: Let's Encrypt.")
@click.option(
    "--ca-file", type=click.File("r"), help="Certificates (PEM) that the CA's server is checked by."
)
@click.option("--new-key", is_flag=True, help="Open another account, with a new key.")
@click.option("--profile", metavar="NAME", help="The CA's profile of certificates; '': its own.")
@click.option("--eab-kid", metavar="KID", help="Your key ID with a CA that has customers only.")
@click.option("--eab-key-file", type=click.File("r"), help="The key of --eab-kid; `-` is stdin.")
@as_json
def account_command(
    email: str | None,
    directory: str,
    ca_file: TextIO | None,
    new_key: bool,
    profile: str | None,
    eab_kid: str | None,
    eab_key_file: TextIO | None,
    as_json: bool,
) -> None:
    """Show the account of this server with a certificate authority (CA), or create it.

    With an account Gatling obtains and renews certificates for the domains of all apps. By giving
    the address you accept the terms of the CA. Without --directory that is Let's Encrypt, or the CA
    of the present account. A CA may have several profiles of certificates. With Let's Encrypt's
    profile `shortlived` they are valid for six days, and renewed after three.

    Some CAs open accounts for their own customers only (external account binding). They give you a
    key ID and a key in base64url. The key signs one request, and is neither sent nor kept.

    \b
    Examples:
      gatling certificates account --email ops@example.com
      gatling certificates account --email ops@example.com --profile shortlived
      gatling certificates account --email ops@example.com --eab-kid k1 --eab-key-file key
      gatling certificates account
    """
    from gatling.operations import ca_account
    from gatling.runtime import obtaining

    if (eab_kid is None) != (eab_key_file is None):
        raise InvalidInput("--eab-kid and --eab-key-file belong together.")
    if email is None and (directory or ca_file or new_key or eab_kid or profile is not None):
        raise InvalidInput("To change the account, give its address as well: --email ADDRESS.")
    with opened() as gatling:
        if email is None:
            one = ca_account.shown(gatling)
        else:
            pem = ca_file.read() if ca_file else ""
            key = eab_key_file.read(MAX_READ) if eab_key_file else ""
            one = ca_account.use(
                gatling, email, directory, pem, profile=profile, new_key=new_key,
                binding=(eab_kid, key) if eab_kid is not None else None,
            )  # fmt: skip
            obtaining.later(gatling, None)
    if as_json:
        print_json(one)
        return
    echo(f"{one.email}: account with {one.directory}")
    if one.profile:
        echo(f"Profile of certificates: {one.profile}")
    if email is not None:
        echo("Certificates for the domains of all apps are being obtained.")


@click.command("authority")
@click.option("--new", is_flag=True, help="Replace it. Everybody has to trust the new one again.")
@click.option("--pem", is_flag=True, help="Print only its certificate, as PEM.")
@as_json
def authority_command(new: bool, pem: bool, as_json: bool) -> None:
    """Show the local authority of an embedded home, and how browsers trust it.

    `gatling up --tls` creates the authority. Gatling never changes what your system trusts: run the
    commands that this prints. The authority can vouch for the domains that its certificate names,
    and for no others. --new creates one for the domains that all apps have now.

    \b
    Examples:
      gatling certificates authority
      gatling certificates authority --pem > gatling.crt
      gatling certificates authority --new
    """
    from gatling.operations import authority

    with opened() as gatling:
        one = authority.replace(gatling) if new else authority.shown(gatling)
    if as_json:
        print_json(one)
        return
    if pem:
        for line in one.pem.splitlines():
            echo(line)
        return
    echo(f"{one.name}, valid until {one.not_after}")
    echo(f"Certificate: {one.file}")
    echo(f"SHA-256:     {one.fingerprint}")
    echo(f"Vouches for: {', '.join(one.domains)} and their subdomains")
    echo("")
    echo("To trust it, run the command for your system or browser. Restart the browser then.")
    for what, command in authority.trusting(one):
        echo("")
        echo(f"{what}:")
        echo(f"  {command}")
    echo("")
    echo("certutil is in the package libnss3-tools (macOS: nss).")


@click.command("dns")
@click.option("--server", metavar="HOST[:PORT]", help="The primary DNS server of the zones.")
@click.option("--key-file", type=click.File("r"), help="The key (TSIG) that signs updates.")
@click.option("--program", metavar="PATH", help="A program that writes the records instead.")
@click.option("--off", is_flag=True, help="Write no records any more.")
@as_json
def dns_command(
    server: str | None, key_file: TextIO | None, program: str | None, off: bool, as_json: bool
) -> None:
    """Show how this server writes records in the DNS, or set it.

    A CA verifies a domain with a `*` only by a record (DNS-01), and other domains as well if their
    app has the setting certificates.challenge=dns. Gatling adds a TXT record, waits until all
    servers of the zone have it, and removes it afterwards.

    With --server and --key-file it sends updates (RFC 2136) over TCP. The file is what tsig-keygen
    of BIND or `keymgr -t` of Knot writes; `-` is stdin. The key is stored with Gatling's records.

    With --program it runs `PROGRAM present NAME VALUE` and `PROGRAM cleanup NAME VALUE` as the
    user gatling, in the directory / and with PATH, HOME and LANG only, as lego's provider exec
    does. NAME ends with a dot. The program has 300 s. It must belong to root.

    \b
    Examples:
      gatling certificates dns --server ns1.example.com --key-file tsig.key
      gatling certificates dns --program /etc/gatling/dns-records
      gatling certificates dns
    """
    from gatling.operations import dns
    from gatling.runtime import obtaining

    ways = [server is not None or key_file is not None, program is not None, off]
    if sum(ways) > 1:
        raise InvalidInput("Give either --server with --key-file, or --program, or --off.")
    if (server is None) != (key_file is None):
        raise InvalidInput("--server and --key-file belong together.")
    with opened() as gatling:
        if off:
            dns.use_none(gatling)
            echo("Domains with a `*` get no new certificate from now on.")
            return
        if server is not None and key_file is not None:
            one = dns.use_updates(gatling, server, key_file.read(MAX_READ))
        elif program is not None:
            one = dns.use_program(gatling, program)
        else:
            one = dns.shown(gatling)
        if any(ways):
            obtaining.later(gatling, None)
    if as_json:
        print_json(one)
    elif one.program:
        echo(f"Records in the DNS are written by {one.program}.")
    else:
        echo(f"Records in the DNS are written on {one.server}, port {one.port}, with {one.key}.")
