"""`gatling certificates …`: with what an app's domains are served over HTTPS."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, confirm, confirm_option, opened
from gatling.cli.groups import Group
from gatling.errors import Exit, InvalidInput
from gatling.ui.output import echo, print_json, table

if TYPE_CHECKING:
    from typing import TextIO

    from gatling.operations.certificates import Kept

MAX_READ = 1 << 20


@click.group("certificates", cls=Group)
def certificates_command() -> None:
    """Manage the certificates with which an app's domains are served over HTTPS.

    \b
    Examples:
      gatling certificates show shop
      cat fullchain.pem privkey.pem | gatling certificates add shop
    """


@certificates_command.command("account")
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


@certificates_command.command("authority")
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


@certificates_command.command("dns")
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


@certificates_command.command("show")
@app_argument
@as_json
def show_command(app: str, as_json: bool) -> None:
    """Show how APP is served over HTTPS: its certificates, the next renewal, the last error.

    \b
    Example:
      gatling certificates show shop
    """
    from gatling.operations import https

    with opened() as gatling:
        found = https.shown(gatling, app)
    if as_json:
        print_json(found)
        return
    for one in found.certificates:
        serves = ", ".join(one.domains) or "not in use"
        echo(f"{one.id[:8]}  {serves}: until {_until(one)}, from {one.issuer}, {one.key}")
    if not found.certificates:
        echo(f"{app} has no certificate: its domains are served over HTTP.")
    elif found.without:
        echo(f"Served over HTTP: {', '.join(found.without)}.")
    for problem in found.problems:
        echo(problem)
    if found.unverifiable:
        echo(
            f"Gatling cannot obtain a certificate for {', '.join(found.unverifiable)}:"
            f" give one with `gatling certificates add {app}`."
        )
        if any(one.startswith("*.") for one in found.unverifiable):
            echo(
                "For a `*`, it can also write records in the DNS: `gatling help certificates dns`."
            )
    if found.renew_at:
        echo(f"Renewal: {found.renew_at[:16].replace('T', ' ')} UTC, or soon after.")
    if found.error:
        echo(f"The last attempt failed. {found.error}")
        echo(*filter(None, [found.hint]))
        if found.retry_at:
            echo(f"Next attempt: {found.retry_at[:16].replace('T', ' ')} UTC.")


@certificates_command.command("issue")
@app_argument
@as_json
def issue_command(app: str, as_json: bool) -> None:
    """Obtain a certificate for the domains of APP now, even if none is needed.

    The certificate that serves is replaced when the new one serves. Domains with a certificate of
    your own are left out. CAs limit how many certificates they issue in a week.

    \b
    Example:
      gatling certificates issue shop
    """
    from gatling.operations import issuing

    with opened(app) as gatling:
        done = issuing.issue(gatling, app)
    if as_json:
        print_json(done)
        return
    echo(f"{', '.join(done.domains)}: served over HTTPS.")
    if done.error:
        echo(*filter(None, [done.error, done.hint]))


@certificates_command.command("renew")
@click.argument("app", metavar="[APP]", required=False)
@click.option("--scheduled", is_flag=True, hidden=True, help="Do nothing without an account.")
@as_json
@click.pass_context
def renew_command(context: click.Context, app: str | None, scheduled: bool, as_json: bool) -> None:
    """Obtain the certificates that APP, or any app, lacks or that are due.

    A systemd timer runs this twice a day. An app whose last attempt failed waits for its next one.

    \b
    Examples:
      gatling certificates renew
      gatling certificates renew shop
    """
    from gatling.operations import issuing

    with opened() as gatling:
        done = issuing.renew(gatling, app, scheduled=scheduled)
    if as_json:
        print_json(done)
    for one in done if not as_json else ():
        if one.domains:
            echo(f"{one.app}: {', '.join(one.domains)} served over HTTPS.")
        if one.error:
            echo(f"{one.app}: {one.error}", *filter(None, [one.hint]), err=True)
    if any(one.error for one in done):
        context.exit(int(Exit.HOST))


@certificates_command.command("list")
@app_argument
@as_json
def list_command(app: str, as_json: bool) -> None:
    """List the certificates of APP: which domains they serve, and until when.

    \b
    Example:
      gatling certificates list shop
    """
    from gatling.operations import certificates

    with opened() as gatling:
        found = certificates.of(gatling, app)
    if as_json:
        print_json(found)
        return
    if not found:
        echo(f"{app} has no certificate: its domains are served over HTTP.")
        return
    rows = [
        (one.id[:8], ", ".join(one.domains) or "not in use", _until(one),
         one.issuer, one.key)
        for one in found
    ]  # fmt: skip
    table(("certificate", "serves", "expires", "issuer", "key"), rows)


@certificates_command.command("add")
@app_argument
def add_command(app: str) -> None:
    """Serve APP over HTTPS with a certificate of your own, read from stdin.

    Give the certificate, its chain and its private key as PEM, in any order. It takes effect
    immediately, for those of APP's domains that it is for. If a domain has several, the one
    added last is used.

    \b
    Example:
      cat fullchain.pem privkey.pem | gatling certificates add shop
    """
    from gatling.operations import certificates

    pem = _pem()
    with opened(app) as gatling:
        done = certificates.add(gatling, app, pem)
    one = done.certificate
    if not done.changed:
        echo(f"{app} has this certificate already ({one.id[:8]}).")
        return
    echo(f"{', '.join(one.domains)}: served over HTTPS until {_until(one)}.")
    if done.without:
        echo(f"Without a certificate: {', '.join(done.without)}.")
    if one.self_signed:
        echo("Nobody but its maker vouches for it (self-signed): browsers will warn of it.")
    elif done.alone:
        echo(
            "It came without the certificate of its issuer. Clients that do not know that one will"
            " refuse the connection; a CA calls the file with both fullchain.pem."
        )


@certificates_command.command("remove")
@app_argument
@click.argument("certificate")
@confirm_option
def remove_command(app: str, certificate: str, given: str | None) -> None:
    """Remove CERTIFICATE and its private key from the host.

    CERTIFICATE is its id, or the beginning of that, as `gatling certificates list` shows it.

    \b
    Example:
      gatling certificates remove shop 5e2b9d10 --confirm shop
    """
    from gatling.operations import certificates

    with opened(app) as gatling:
        found = certificates.find(gatling, app, certificate)
        if found.domains:
            confirm(
                app, given, f"This removes the certificate that serves {', '.join(found.domains)}."
            )
        done = certificates.remove(gatling, app, found.id)
    echo(f"The certificate {done.id[:8]} of {app} was removed, and its key.")
    if done.without:
        echo(f"Served over HTTP from now on: {', '.join(done.without)}.")


def _until(one: Kept) -> str:
    days = one.days_left
    if days < 0:
        left = "expired"
    else:
        left = "today" if days == 0 else f"in {days} day{'' if days == 1 else 's'}"
    return f"{one.not_after} ({left})"


def _pem() -> str:
    """Certificate and key: never an argument, which everybody on the machine could read."""
    if sys.stdin.isatty():
        raise InvalidInput(
            "Certificate and key are read from stdin.",
            hint="For example `cat fullchain.pem privkey.pem | gatling certificates add shop`.",
        )
    data = sys.stdin.buffer.read(MAX_READ)
    return data.decode("utf-8", "replace")
