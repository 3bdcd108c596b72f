"""Challenges in the DNS (DNS-01; RFC 8555, section 8.4): the only module that knows dnspython.

Records get there by updates of a zone (RFC 2136) or by a program of the operator's. The CA is asked
once all name servers of the zone have them. Answers of name servers are data from outside.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import socket
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.tsig
import dns.update

from gatling import process
from gatling.errors import CertificateFailed, CommandFailed, InvalidInput, MissingProgram, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from gatling.state.issuance import Dns

PREFIX = "_acme-challenge."
TTL = 60
UPDATE_SECONDS = 15.0
QUERY_SECONDS = 4.0
LOOKUP_SECONDS = 10.0
PROGRAM_SECONDS = 300.0
VISIBLE_SECONDS = 180.0
"""How long the servers of a zone may take to have a record."""
PAUSE_SECONDS = 2.0
MAX_ALIASES = 8
MAX_SERVERS = 16
MAX_ADDRESSES = 4
"""Addresses of a name server that are asked."""
ALGORITHMS = ("hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,252}\.\Z")
_KEY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}\Z")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Records(Protocol):
    """Writes TXT records; names end with a dot."""

    def add(self, name: str, value: str) -> None:
        """Add a record, beside those that the name has. Raises CertificateFailed."""

    def remove(self, name: str, value: str) -> None:
        """Remove it, if it is there. Raises CertificateFailed."""


class DnsChallenge:
    """Implements `Challenge` by TXT records."""

    kind = "dns-01"

    def __init__(self, records: Records, lookup: Lookup) -> None:
        self._records, self._lookup = records, lookup
        self._presented: dict[tuple[str, str], tuple[str, str]] = {}

    def present(self, domain: str, token: str, answer: str) -> None:
        """See Challenge."""
        name = self._lookup.target(f"{PREFIX}{domain}.")
        digest = hashlib.sha256(answer.encode()).digest()
        value = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        self._presented[domain, token] = name, value  # also one that fails may be there
        self._records.add(name, value)

    def settle(self) -> None:
        """See Challenge: wait until all servers of the zone have the records."""
        self._lookup.wait(self._presented.values())

    def withdraw(self, domain: str, token: str) -> None:
        """See Challenge."""
        found = self._presented.pop((domain, token), None)
        if found is not None:
            self._records.remove(*found)


class Updates:
    """Implements `Records` by updates of a zone (RFC 2136), signed with a key (RFC 8945)."""

    def __init__(self, given: Dns) -> None:
        self._given = given
        self._key = dns.tsig.Key(given.key, given.secret, given.algorithm)

    def add(self, name: str, value: str) -> None:
        """See Records."""
        self._send(name, lambda update: update.add(name, TTL, "TXT", f'"{value}"'))

    def remove(self, name: str, value: str) -> None:
        """See Records."""
        self._send(name, lambda update: update.delete(name, "TXT", f'"{value}"'))

    def _send(self, name: str, change: Callable[[dns.update.UpdateMessage], object]) -> None:
        zone = self._zone(name)
        update = dns.update.UpdateMessage(zone, keyring=self._key)
        change(update)
        answer = self._ask(update)
        if answer.rcode() != dns.rcode.NOERROR:
            raise CertificateFailed(
                f"The DNS server {self._given.server} refused to change {name.rstrip('.')}:"
                f" {dns.rcode.to_text(answer.rcode())}.",
                hint=f"Let the key {self._given.key} update TXT records of"
                f" {zone.to_text(omit_final_dot=True)} there.",
            )

    def _zone(self, name: str) -> dns.name.Name:
        """The zone that a name is in, as the server itself has it."""
        question = dns.message.make_query(name, "SOA")
        question.use_tsig(self._key)
        answer = self._ask(question)
        for section in (answer.answer, answer.authority):
            for found in section:
                if found.rdtype == dns.rdatatype.SOA:
                    return found.name
        raise CertificateFailed(
            f"The DNS server {self._given.server} has no zone for {name.rstrip('.')}"
            f" ({dns.rcode.to_text(answer.rcode())}).",
            hint=_PRIMARY_HINT,
        )

    def _ask(self, message: dns.message.Message) -> dns.message.Message:
        server, port = self._given.server, self._given.port
        try:
            address = str(socket.getaddrinfo(server, port, type=socket.SOCK_STREAM)[0][4][0])
            return dns.query.tcp(message, address, UPDATE_SECONDS, port)
        except dns.tsig.PeerBadTime:
            said, hint = "the clocks differ", "Is this machine's clock right? See `timedatectl`."
        except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.tsig.BadKey):
            said = f"the key {self._given.key} is not the one that it knows"
            hint = "Give the key again: `gatling certificates dns --server … --key-file FILE`."
        except dns.exception.Timeout:
            said, hint = "no answer in time", _PORT_HINT
        except dns.exception.FormError:  # servers do not sign that they have no such zone
            said = "its answer is not signed, as if it did not have the zone"
            hint = _PRIMARY_HINT
        except (dns.exception.DNSException, EOFError) as error:
            said, hint = f"an answer that is none ({type(error).__name__})", ""
        except (OSError, UnicodeError) as error:
            said, hint = getattr(error, "strerror", None) or "no valid name", _PORT_HINT
        raise CertificateFailed(f"The DNS server {server} took no update: {said}.", hint=hint)


_PRIMARY_HINT = "Give the primary server of the zone: `gatling certificates dns --server …`."
_PORT_HINT = "`gatling certificates dns` shows the server. Its port must be open to this one (TCP)."


class Program:
    """Implements `Records` by a program: `PROGRAM present|cleanup NAME VALUE`, as lego runs it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def add(self, name: str, value: str) -> None:
        """See Records."""
        self._run("present", name, value)

    def remove(self, name: str, value: str) -> None:
        """See Records."""
        self._run("cleanup", name, value)

    def _run(self, verb: str, name: str, value: str) -> None:
        program = checked_program(self._path)
        env = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}
        try:
            process.run([program, verb, name, value], timeout=PROGRAM_SECONDS, cwd=Path("/"),
                        env=env)  # fmt: skip
        except (CommandFailed, MissingProgram, TimedOut) as error:
            last = next((line for line in reversed(error.log) if line.strip()), "")[:200]
            said = f" It printed: {last}" if last else ""
            raise CertificateFailed(
                f"{program} could not {verb} the record {name.rstrip('.')}: {error.what}{said}",
                hint=f"Run it as the user of Gatling: `{program} {verb} {name} test`.",
            ) from error


class Lookup:
    """Finds where the records of a name are, and which servers of the zone have them."""

    def __init__(self, resolver: dns.resolver.Resolver | None = None, port: int = 53) -> None:
        """`resolver` is the system's by default; `port` is that of the zone's servers."""
        self._given, self._port = resolver, port

    def target(self, name: str) -> str:
        """The name at which the records are: a name may be an alias (CNAME) of another one."""
        for _ in range(MAX_ALIASES):
            with _asking(name):
                try:
                    answer = self._resolver().resolve(
                        name, "CNAME", search=False, raise_on_no_answer=False
                    )
                except dns.resolver.NXDOMAIN:
                    answer = None
            if answer is None or answer.rrset is None:
                return name
            name = answer.rrset[0].target.to_text().lower()
            if not _NAME.match(name):
                raise CertificateFailed(f"{name!r} is no name for a record.")
        raise CertificateFailed(
            f"{name.rstrip('.')} is an alias of an alias, more than {MAX_ALIASES} times.",
            hint="Correct its CNAME record.",
        )

    def wait(
        self, records: Collection[tuple[str, str]], *, seconds: float = VISIBLE_SECONDS
    ) -> None:
        """Wait until all servers of the zones have these records, by name and value.

        A server that does not answer at all is waited for, and then left to itself. Raises
        CertificateFailed.
        """
        deadline = time.monotonic() + seconds
        servers: dict[str, dict[str, list[str]]] = {}
        for name, _ in records:
            if time.monotonic() >= deadline:
                raise _unknown(name, "no answer in time")
            servers[name] = self._servers(name)
        seen: dict[tuple[str, str, str], bool | None] = {}
        while True:
            for name, value in records:
                for server, addresses in servers[name].items():
                    has, asked = self._has(addresses, name, value, deadline), (name, server, value)
                    seen[asked] = seen.get(asked) if has is None else has
            if all(seen.values()):
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(PAUSE_SECONDS)
        without = sorted({server for (_, server, _), has in seen.items() if has is False})
        if without or not any(seen.values()):
            name = next(name for (name, _, _), has in seen.items() if not has)
            servers_ = ", ".join(without or sorted({server for _, server, _ in seen}))
            raise CertificateFailed(
                f"The record {name.rstrip('.')} was written, but {servers_} did not have it"
                f" after {seconds:.0f} s.",
                hint="Are the records written to the zone that the internet sees? `dig NS` and"
                f" `dig TXT {name}` show it.",
            )

    def _servers(self, name: str) -> dict[str, list[str]]:
        """The name servers of the zone of a name, with their addresses."""
        found: dict[str, list[str]] = {}
        with _asking(name):
            zone = dns.resolver.zone_for_name(name, resolver=self._resolver())
            for one in list(self._resolver().resolve(zone, "NS", search=False))[:MAX_SERVERS]:
                server = one.target.to_text()
                addresses = self._resolver().resolve_name(server)
                found[server.rstrip(".")] = list(addresses.addresses())[:MAX_ADDRESSES]
        return found

    def _has(
        self, addresses: Collection[str], name: str, value: str, deadline: float
    ) -> bool | None:
        """Whether a server has a record, at all of its addresses that answer; None: none does.

        After the deadline no address is asked: a zone may have many servers that are silent.
        """
        question = dns.message.make_query(name, "TXT", flags=dns.flags.Flag(0))
        heard = None
        for address in addresses:
            if time.monotonic() >= deadline:
                return heard
            try:
                answer, _ = dns.query.udp_with_fallback(
                    question, address, QUERY_SECONDS, self._port
                )
            except (dns.exception.DNSException, OSError, EOFError):
                continue
            texts = [
                b"".join(one.strings) for found in answer.answer
                if found.rdtype == dns.rdatatype.TXT for one in found
            ]  # fmt: skip
            if value.encode() not in texts:
                return False
            heard = True
        return heard

    def _resolver(self) -> dns.resolver.Resolver:
        if self._given is None:
            self._given = dns.resolver.Resolver()
            self._given.lifetime = LOOKUP_SECONDS
        return self._given


@contextmanager
def _asking(name: str) -> Iterator[None]:
    """The library's errors in Gatling's words."""
    try:
        yield
    except (dns.exception.DNSException, OSError, UnicodeError) as error:
        said = "no answer in time" if isinstance(error, dns.exception.Timeout) else "no such zone"
        if isinstance(error, (dns.resolver.NoNameservers, dns.resolver.NoResolverConfiguration)):
            said = "the resolvers of this machine (/etc/resolv.conf) fail"
        raise _unknown(name, said) from error


def _unknown(name: str, why: str) -> CertificateFailed:
    return CertificateFailed(
        f"The name servers of {name.rstrip('.')} cannot be found: {why}.",
        hint=f"`dig NS {name.removeprefix(PREFIX)}` shows more.",
    )


def challenge(given: Dns) -> DnsChallenge:
    """The challenge as a server is configured for it."""
    records: Records = Program(given.program) if given.program else Updates(given)
    return DnsChallenge(records, Lookup())


def parsed_key(text: str) -> tuple[str, str, str]:
    """Name, algorithm and secret of a key, as tsig-keygen (BIND) and keymgr (Knot) write them.

    Raises InvalidInput, which never shows a part of the text.
    """
    lines = (line.partition("#")[0].partition("//")[0] if "secret" not in line else line
             for line in text[:10_000].splitlines())  # fmt: skip
    plain = "\n".join(lines)
    name = re.search(r'\bkey\s+"?([^\s"{};]+)"?\s*\{|\bid:\s*"?([^\s"]+)', plain)
    algorithm = re.search(r'\balgorithm:?\s+"?([A-Za-z0-9-]+)', plain)
    secret = re.search(r'\bsecret:?\s+"?([A-Za-z0-9+/]+=*)', plain)
    if not name or not algorithm or not secret:
        raise InvalidInput(
            "The file has no key for updates (TSIG).",
            hint="`tsig-keygen NAME` (BIND) or `keymgr -t NAME` (Knot) writes one.",
        )
    named, kind = (name[1] or name[2]).rstrip("."), algorithm[1].lower()
    if kind not in ALGORITHMS:
        raise InvalidInput(
            f"The key's algorithm is not one of {', '.join(ALGORITHMS)}.",
            hint="`tsig-keygen -a hmac-sha256 NAME` writes one that is.",
        )
    try:
        long = len(base64.b64decode(secret[1], validate=True)) >= 16
    except binascii.Error:
        long = False
    if not long or not _KEY_NAME.match(named):
        raise InvalidInput("The key for updates (TSIG) is damaged, or shorter than 128 bits.")
    return named, kind, secret[1]


def checked_program(path: str) -> str:
    """A program that nobody but root and Gatling's user can have written; raises InvalidInput."""
    program = Path(path)
    try:
        resolved = program.resolve(strict=True)
        about: Any = resolved.stat()
    except (OSError, ValueError, RuntimeError):
        raise InvalidInput(f"There is no program {path!r}.") from None
    if not program.is_absolute() or not path.isprintable() or len(path) > 1000:
        raise InvalidInput(f"{path!r} is not the full path of a program.")
    trusted = (0, os.geteuid())
    for one in (resolved, *resolved.parents):
        info = one.stat()
        loose = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not info.st_mode & stat.S_ISVTX
        if info.st_uid not in trusted or loose:
            raise InvalidInput(
                f"{one} can be written by users other than root, so it is not run.",
                hint=f"`chown root:root {one}` and `chmod 755 {one}` protect it.",
            )
    if not stat.S_ISREG(about.st_mode) or not os.access(resolved, os.X_OK):
        raise InvalidInput(f"{path} is not an executable file.", hint=f"`chmod 755 {path}`")
    return str(resolved)
