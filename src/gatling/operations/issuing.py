"""Certificates from a CA: obtained when an app's domains change, and renewed in time.

One process at a time does it for an app. The CA's answer is kept by root, served and proved in a
handshake before an earlier certificate goes, so that an error or a kill leaves what served before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import CertificateFailed, GatlingError, InvalidInput, NotFound
from gatling.operations import certificates, changes, reachability
from gatling.paths import exclusively
from gatling.project import settings
from gatling.proxy.certificates import chosen
from gatling.proxy.challenges import HttpChallenge
from gatling.runtime import obtaining
from gatling.state import apps, audit, issuance
from gatling.state.issuance import Account
from gatling.times import stamp_of

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.proxy.authority import Authority
    from gatling.proxy.certificates import Certificate
    from gatling.state.apps import App
    from gatling.state.issuance import Issuance

ARI_SECONDS = 6 * 3600.0
"""How long a CA that did not answer is not asked again when to renew."""


class AccountShown(Struct, frozen=True):
    """The account with a CA, without its key."""

    email: str
    directory: str
    uri: str
    own_trust: bool
    """Whether the CA's server is checked with certificates that were given."""


class Obtained(Struct, frozen=True):
    """The result of an attempt for one app."""

    app: str
    domains: list[str]
    """The domains of the certificate that was obtained; none when none was needed."""
    error: str = ""
    hint: str = ""


class Https(Struct, frozen=True):
    """How HTTPS is with an app."""

    app: str
    certificates: list[certificates.Kept]
    without: list[str]
    """Domains that are served over HTTP."""
    unverifiable: list[str]
    """Domains for which no certificate can be obtained over HTTP, such as those with a `*`."""
    automatic: bool
    """Whether Gatling obtains certificates for the app."""
    renew_at: str | None
    error: str
    """The error of the last attempt; empty when it succeeded."""
    hint: str
    retry_at: str | None


def account(gatling: Gatling) -> AccountShown:
    """The account of this server; raises NotFound."""
    found = issuance.account(gatling.db)
    if found is None:
        raise NotFound("This server has no account with a CA.", hint=_HOW)
    return AccountShown(found.email, found.directory, found.uri, bool(found.trusted))


def use_account(gatling: Gatling, email: str, directory: str, trusted: str) -> AccountShown:
    """Create an account with the CA of a directory, whose terms are accepted, and use it.

    With the same CA the account stays, with another address. Raises InvalidInput,
    CertificateFailed.
    """
    if gatling.certificates.challenges() is None:
        raise InvalidInput(
            "The proxy of an embedded home serves HTTP only, so it needs no certificate.",
            hint="A server serves HTTPS: `gatling server install` (docs/operations.md).",
        )
    from gatling.proxy import authority

    before = issuance.account(gatling.db)
    url = authority.checked_directory(
        directory or (before.directory if before else authority.LETS_ENCRYPT)
    )
    same = before is not None and before.directory == url
    wanted = Account(
        email=_email(email),
        directory=url,
        key=before.key if before and same else authority.new_key(),
        uri="",
        trusted=trusted or (before.trusted if before and same else ""),
    )
    uri = authority.Authority(wanted).register(wanted.email)
    issuance.put_account(gatling.db, dataclasses.replace(wanted, uri=uri))
    audit.record(gatling.db, gatling.actor, None, "certificates account", f"{email} {url}")
    return account(gatling)


def issue(gatling: Gatling, app: str) -> Obtained:
    """Obtain a certificate for all domains of an app, be it needed or not.

    Raises NotFound; InvalidInput without an account or a domain that a CA could verify;
    CertificateFailed with everything as before.
    """
    if issuance.account(gatling.db) is None:
        raise InvalidInput("This server has no account with a CA.", hint=_HOW)
    with exclusively(gatling.home, f"certificates-{app}"):
        found = apps.get(gatling.db, app)
        if not obtaining.wanted(found.domains, gatling.certificates.of(app), time.time()):
            raise InvalidInput(
                f"{app} has no domain for which a certificate can be obtained.",
                hint=f"`gatling domains add {app} DOMAIN` comes first.",
            )
        return _attempt(gatling, found, forced=True)


def renew(gatling: Gatling, app: str | None = None) -> list[Obtained]:
    """Obtain what is missing or due, for one app or all. Errors are in the results.

    An app whose last attempt failed waits for the time of its next one.
    """
    if issuance.account(gatling.db) is None:
        return []
    done = []
    for name in [app] if app else [one.name for one in apps.every(gatling.db)]:
        with exclusively(gatling.home, f"certificates-{name}"):
            try:
                done.append(_attempt(gatling, apps.get(gatling.db, name), forced=False))
            except NotFound:  # the app has been removed
                continue
            except GatlingError as error:
                error.about(name)
                done.append(Obtained(name, [], error.what, error.hint))
    return done


def renew_later(gatling: Gatling) -> None:
    """Obtain what any app lacks, in the background."""
    for app in apps.every(gatling.db):
        if any(obtaining.obtainable(domain) for domain in app.domains):
            obtaining.later(gatling, app.name)


def shown(gatling: Gatling, app: str) -> Https:
    """How HTTPS is with an app; raises NotFound."""
    found, now = apps.get(gatling.db, app), time.time()
    kept, state = gatling.certificates.of(app), issuance.of_app(gatling.db, app)
    current = obtaining.newest(kept)
    automatic = issuance.account(gatling.db) is not None and _options(found).obtain
    own = [one.names for one in kept if not one.obtained and one.not_after >= now]
    return Https(
        app,
        certificates.of(gatling, app),
        certificates.without(found, kept),
        [one for one in certificates.without(found, kept) if not obtaining.obtainable(one)],
        automatic=automatic and not (own and not obtaining.wanted(found.domains, kept, now)),
        renew_at=stamp_of(obtaining.renew_at(current, state)) if current and automatic else None,
        error=state.error,
        hint=state.hint,
        retry_at=stamp_of(state.retry_at) if state.error else None,
    )


def tidy(gatling: Gatling, app: str) -> None:
    """Remove the obtained certificates of an app that serve no domain any more, with their keys."""
    found, kept = apps.get(gatling.db, app), gatling.certificates.of(app)
    serving = {one.id for one in chosen(kept, found.domains, time.time()).values()}
    useless = [one for one in kept if one.obtained and one.id not in serving]
    for one in useless:
        gatling.certificates.retire(app, one.id)
    if useless:
        gatling.configure_router()  # names none of them; asked so that none is read any more
        gatling.certificates.remove_retired(app)


_HOW = "`gatling certificates account --email ADDRESS` creates one with Let's Encrypt."


def _email(text: str) -> str:
    local, _, host = text.partition("@")
    if not local or not host or len(text) > 254 or not text.isascii() or not text.isprintable():
        raise InvalidInput(f"{text!r} is not an e-mail address.")
    if any(character in text for character in " ,;<>\"'?&"):
        raise InvalidInput(f"{text!r} is not an e-mail address.")
    return text


def _options(app: App) -> settings.Certificates:
    return settings.parse(app.effective).certificates


def _attempt(gatling: Gatling, app: App, *, forced: bool) -> Obtained:
    """Obtain a certificate, if one is needed and it is time; an error is recorded as well."""
    now, options = time.time(), _options(app)
    state = issuance.of_app(gatling.db, app.name)
    kept = gatling.certificates.of(app.name)
    wanted, current = obtaining.wanted(app.domains, kept, now), obtaining.newest(kept)
    if state.domains != " ".join(wanted):  # those that failed are others
        state = dataclasses.replace(state, domains=" ".join(wanted), failures=0, retry_at=0)
    if not forced and not options.obtain:
        return Obtained(app.name, [])
    if not forced and wanted and now < max(state.retry_at, state.blocked_until):
        return Obtained(app.name, [], state.error, state.hint)
    if now < state.blocked_until:
        raise CertificateFailed(
            f"The CA accepts no request for {app.name} before {stamp_of(state.blocked_until)}.",
            hint=state.error,
        )
    state = _with_ari(gatling, app.name, current, state)
    if not forced and not obtaining.is_needed(wanted, current, state, now):
        if state.error:
            issuance.put(gatling.db, dataclasses.replace(state, error="", hint="", failures=0))
        return Obtained(app.name, [])
    try:
        reachable, faults = _reachable(gatling, wanted, check=options.check)
    except GatlingError as error:
        _record_failure(gatling, state, error, at_the_ca=False)
        raise
    is_due = current is not None and now >= obtaining.renew_at(current, state)
    if not reachable or (faults and not forced and not is_due
                         and not obtaining.lacking(reachable, current)):  # fmt: skip
        _record_failure(gatling, state, faults[0], at_the_ca=False)
        raise faults[0]
    try:
        certificate = _obtained(gatling, app.name, reachable, current)
    except (GatlingError, OSError) as error:
        _record_failure(gatling, state, error, at_the_ca=True)
        raise
    state = dataclasses.replace(
        issuance.Issuance(app=app.name, domains=state.domains),
        failures=state.failures if faults else 0,
    )
    issuance.put(gatling.db, state)
    with contextlib.suppress(CertificateFailed):
        _with_ari(gatling, app.name, certificate, state)
    if faults:
        state = issuance.of_app(gatling.db, app.name)
        _record_failure(gatling, state, faults[0], at_the_ca=False)
        return Obtained(app.name, list(certificate.names), faults[0].what, faults[0].hint)
    return Obtained(app.name, list(certificate.names))


def _reachable(
    gatling: Gatling, domains: list[str], *, check: bool
) -> tuple[list[str], list[CertificateFailed]]:
    """The domains under which a CA will find this server, and why not under the others."""
    challenge = _challenge(gatling)
    public = gatling.router.public_address()
    faults = reachability.faults(domains, challenge, public) if check else {}
    return [one for one in domains if one not in faults], list(faults.values())


def _obtained(
    gatling: Gatling, app: str, domains: list[str], current: Certificate | None
) -> Certificate:
    """A certificate from the CA that serves; everything as before when this raises."""
    request = gatling.certificates.request(app, domains)
    replaces = gatling.certificates.chain(app, current.id) if current else ""
    chain = _from_ca(gatling, request, replaces)
    certificate, _ = gatling.certificates.install(app, chain)
    changes.change(
        gatling, app, "certificates issue", f"{certificate.id} {' '.join(domains)}",
        steps=[gatling.configure_router, lambda: certificates.prove(gatling, app)],
        take_back=lambda: gatling.certificates.retire(app, certificate.id),
    )  # fmt: skip
    tidy(gatling, app)
    return certificate


def _from_ca(gatling: Gatling, request: str, replaces: str) -> str:
    challenge = _challenge(gatling)
    used, authority = _authority(gatling)
    try:
        return authority.certificate(request, challenge, replaces=replaces)
    except CertificateFailed as error:
        if not error.forgotten:
            raise
        # a CA may forget accounts; the key stays the same
        uri = authority.register(used.email)
        issuance.put_account(gatling.db, dataclasses.replace(used, uri=uri))
        return authority.certificate(request, challenge)


def _with_ari(gatling: Gatling, app: str, current: Certificate | None, state: Issuance) -> Issuance:
    """The state with the CA's proposal for a renewal, which is asked for no more than it wants."""
    now = time.time()
    if current is None or (state.certificate == current.id and now < state.ask_at):
        return state
    known = state if state.certificate == current.id else dataclasses.replace(state, renew_at=0)
    try:
        _, authority = _authority(gatling)
        at, again = authority.renewal(gatling.certificates.chain(app, current.id))
    except (CertificateFailed, OSError):
        at, again = known.renew_at or None, now + ARI_SECONDS
    state = dataclasses.replace(
        known, certificate=current.id, renew_at=at or 0, ask_at=max(again, now + 60)
    )
    issuance.put(gatling.db, state)
    return state


def _authority(gatling: Gatling) -> tuple[Account, Authority]:
    from gatling.proxy import authority

    used = issuance.account(gatling.db)
    if used is None:
        raise InvalidInput("This server has no account with a CA.", hint=_HOW)
    return used, authority.Authority(used)


def _challenge(gatling: Gatling) -> HttpChallenge:
    directory = gatling.certificates.challenges()
    if directory is None:
        raise InvalidInput("This home serves HTTP only.")
    return HttpChallenge(directory)


def _record_failure(
    gatling: Gatling, state: Issuance, error: BaseException, *, at_the_ca: bool
) -> None:
    """Keep an error, and try again after a pause that grows."""
    now, failures = time.time(), state.failures + 1
    what = error.what if isinstance(error, GatlingError) else f"{error}"
    hint = ""
    if isinstance(error, GatlingError):
        error.about(state.app)
        hint = error.hint
    blocked = error.retry_at if isinstance(error, CertificateFailed) else 0
    seconds = max(obtaining.pause(failures, at_the_ca=at_the_ca), blocked - now)
    issuance.put(
        gatling.db,
        dataclasses.replace(
            state, failures=failures, error=what, hint=hint, retry_at=now + seconds,
            blocked_until=blocked,
        ),
    )  # fmt: skip
    with contextlib.suppress(GatlingError):  # the timer tries again as well
        gatling.certificates.obtain_later(state.app, min(seconds + 1, obtaining.DAY))
