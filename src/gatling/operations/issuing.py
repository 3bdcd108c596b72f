"""Certificates from a CA: obtained when an app's domains change, and renewed in time.

One process at a time does it for an app. The CA's answer is kept by root, served and proved in a
handshake before an earlier certificate goes, so that an error or a kill leaves what served before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import debuglog
from gatling.errors import CertificateFailed, DiskFull, GatlingError, InvalidInput, NotFound
from gatling.operations import certificates, changes, reachability
from gatling.paths import exclusively, exclusively_or_not
from gatling.project import settings
from gatling.proxy.certificates import MAX_NAMES, chosen
from gatling.proxy.challenges import HttpChallenge
from gatling.runtime import obtaining
from gatling.runtime.obtaining import DAY, Stage
from gatling.state import apps, audit, issuance
from gatling.state.issuance import Account
from gatling.text import listed
from gatling.times import stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.platform.open import Gatling
    from gatling.proxy.authority import Authority
    from gatling.proxy.certificates import Certificate
    from gatling.state.apps import App
    from gatling.state.issuance import Issuance

ARI_SECONDS = 6 * 3600.0
"""How long a CA that did not answer is not asked again when to renew."""
LEAST_BYTES = 16 << 20
"""Room on the disk without which no certificate is ordered that could not be kept then."""


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
    problems: list[str] = []
    """Why a home's own authority makes no certificate for some domains."""


def account(gatling: Gatling) -> AccountShown:
    """The account of this server; raises NotFound."""
    found = issuance.account(gatling.db)
    if found is None:
        raise NotFound("This server has no account with a CA.", hint=_HOW)
    return AccountShown(found.email, found.directory, found.uri, bool(found.trusted))


def use_account(
    gatling: Gatling, email: str, directory: str, trusted: str, *, new_key: bool = False
) -> AccountShown:
    """Create an account with the CA of a directory, whose terms are accepted, and use it.

    With the same CA the account stays, with another address, unless it has a `new_key`. With
    another one, all certificates become due. Raises InvalidInput, CertificateFailed.
    """
    _challenge(gatling)
    from gatling.proxy import authority

    before = issuance.account(gatling.db)
    url = authority.checked_directory(
        directory or (before.directory if before else authority.LETS_ENCRYPT)
    )
    same = before is not None and before.directory == url
    wanted = Account(
        email=_email(email),
        directory=url,
        key=before.key if before and same and not new_key else authority.new_key(),
        uri="",
        trusted=trusted or (before.trusted if before and same else ""),
    )
    uri = authority.Authority(wanted).register(wanted.email)
    issuance.put_account(gatling.db, dataclasses.replace(wanted, uri=uri))
    if same:
        issuance.wait_no_longer(gatling.db)
    elif before:
        _replace_all(gatling)
    audit.record(gatling.db, gatling.actor, None, "certificates account", f"{email} {url}")
    return account(gatling)


def issue(gatling: Gatling, app: str) -> Obtained:
    """Obtain a certificate for all domains of an app, be it needed or not.

    Raises NotFound; InvalidInput without an account or a domain that a CA could verify;
    CertificateFailed with everything as before.
    """
    account = _account(gatling)
    with exclusively(gatling.home, f"certificates-{app}"):
        found, kept = apps.get(gatling.db, app), gatling.certificates.of(app)
        if not obtaining.wanted(found.domains, kept, time.time(), own_ca=obtaining.is_own(account)):
            raise InvalidInput(
                f"{app} has no domain for which a certificate can be obtained.",
                hint=f"`gatling domains add {app} DOMAIN` comes first.",
            )
        return _attempt(gatling, found, forced=True)


def renew(gatling: Gatling, app: str | None = None, *, scheduled: bool = False) -> list[Obtained]:
    """Obtain what is missing or due, for one app or all. Errors are in the results.

    An app whose last attempt failed waits for the time of its next one. Of all apps, one for which
    another command does it at this moment is left out. A home with an authority of its own makes
    certificates whenever its proxy is configured. Raises NotFound, and InvalidInput without an
    account, unless it was `scheduled`.
    """
    if gatling.certificates.authority() is not None:
        gatling.configure_router()
        return []
    if scheduled and issuance.account(gatling.db) is None:
        return []
    _account(gatling)
    if app is not None:
        apps.get(gatling.db, app)
        with exclusively(gatling.home, f"certificates-{app}"):
            return _renewed(gatling, app)
    done = []
    for name in _by_failures(gatling):
        with exclusively_or_not(gatling.home, f"certificates-{name}") as is_free:
            done += _renewed(gatling, name) if is_free else []
    return done


def _by_failures(gatling: Gatling) -> list[str]:
    """All apps; those that have failed most often are the last to be waited for."""
    every = [one.name for one in apps.every(gatling.db)]
    return sorted(every, key=lambda name: issuance.of_app(gatling.db, name).failures)


def _renewed(gatling: Gatling, app: str) -> list[Obtained]:
    """Obtain what is missing or due for an app. Whatever fails, the other apps have their turn."""
    try:
        return [_attempt(gatling, apps.get(gatling.db, app), forced=False)]
    except NotFound:
        return []
    except Exception as error:  # noqa: BLE001
        found = debuglog.explained(error, f"the renewal of the certificate of {app}")
        found.about(app)
        return [Obtained(app, [], found.what, found.hint)]


def shown(gatling: Gatling, app: str) -> Https:
    """How HTTPS is with an app; raises NotFound."""
    found, now = apps.get(gatling.db, app), time.time()
    kept = gatling.certificates.of(app)
    state = obtaining.trusted(issuance.of_app(gatling.db, app), now)
    current = obtaining.newest(kept)
    account = issuance.account(gatling.db)
    own_ca = obtaining.is_own(account)
    automatic = gatling.certificates.authority() is not None or (
        account is not None and _options(found).obtain
    )
    own = [one.names for one in kept if not one.obtained and one.not_after >= now]
    return Https(
        app,
        certificates.of(gatling, app),
        certificates.without(found, kept),
        [
            one
            for one in certificates.without(found, kept)
            if not obtaining.obtainable(one, own_ca=own_ca)
        ],
        automatic=automatic
        and not (own and not obtaining.wanted(found.domains, kept, now, own_ca=own_ca)),
        renew_at=stamp_of(obtaining.renew_at(current, state)) if current and automatic else None,
        error=state.error,
        hint=state.hint,
        retry_at=stamp_of(max(state.retry_at, state.blocked_until)) if state.error else None,
        problems=gatling.certificates.problems(found),
    )


def tidy(gatling: Gatling, app: str) -> None:
    """Remove the obtained certificates of an app that serve no domain any more, with their keys.

    While another command obtains certificates for the app, it is left to the one after that.
    """
    if not gatling.certificates.of(app):
        return
    with exclusively_or_not(gatling.home, f"certificates-{app}") as is_free:
        if is_free:
            _tidy(gatling, app)


def _tidy(gatling: Gatling, app: str) -> None:
    found, kept = apps.get(gatling.db, app), gatling.certificates.of(app)
    serving = {one.id for one in chosen(kept, found.domains, time.time()).values()}
    useless = [one for one in kept if one.obtained and one.id not in serving]
    for one in useless:
        gatling.certificates.retire(app, one.id)
    if useless:
        gatling.configure_router()  # names none of them; asked so that none is read any more
        gatling.certificates.remove_retired(app)


def _replace_all(gatling: Gatling) -> None:
    """Let all certificates be due, and forget what another CA has said."""
    soon = time.time() + DAY
    for app in apps.every(gatling.db):
        current = obtaining.newest(gatling.certificates.of(app.name))
        state = issuance.Issuance(app=app.name)
        if current is not None:  # the CA of now has nothing to say of it
            state = dataclasses.replace(state, certificate=current.id, renew_at=1, ask_at=soon)
        issuance.put(gatling.db, state)


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


def _account(gatling: Gatling) -> Account:
    _challenge(gatling)
    found = issuance.account(gatling.db)
    if found is None:
        raise InvalidInput("This server has no account with a CA.", hint=_HOW)
    return found


def _attempt(gatling: Gatling, app: App, *, forced: bool) -> Obtained:
    """Obtain a certificate, if one is needed and it is time; an error is recorded as well."""
    now, options = time.time(), _options(app)
    own_ca = obtaining.is_own(issuance.account(gatling.db))
    _tidy(gatling, app.name)
    state = obtaining.trusted(issuance.of_app(gatling.db, app.name), now)
    kept = gatling.certificates.of(app.name)
    every, current = obtaining.wanted(app.domains, kept, now, own_ca=own_ca), obtaining.newest(kept)
    if state.domains != " ".join(every):  # those that failed are others
        state = dataclasses.replace(state, domains=" ".join(every), failures=0, retry_at=0)
    if not forced and not options.obtain:
        return _nothing_to_do(gatling, state)
    if not forced and every and now < max(state.retry_at, state.blocked_until):
        return Obtained(app.name, [], state.error, state.hint)
    if now < state.blocked_until:
        raise CertificateFailed(
            f"The CA accepts no request for {app.name} before {stamp_of(state.blocked_until)}.",
            hint=state.error,
        )
    wanted, others = obtaining.within(every, current)
    state = _with_ari(gatling, app.name, current, state)
    if not forced and not obtaining.is_needed(wanted, current, state, now):
        if others:
            return Obtained(app.name, [], state.error, state.hint)
        return _nothing_to_do(gatling, state)
    is_due = current is not None and now >= obtaining.renew_at(current, state)

    def is_worth_it(domains: list[str]) -> bool:
        """Whether a certificate that is for these domains only is better than none."""
        return bool(domains) and (forced or is_due or bool(obtaining.lacking(domains, current)))

    with _recording(gatling, state, Stage.HERE):
        _must_be_ready(gatling)
        reachable, faults = _reachable(gatling, app.name, wanted, check=options.check)
        if not reachable or (faults and not is_worth_it(reachable)):
            raise faults[0]
    with _recording(gatling, state, Stage.AT_THE_CA):
        domains, chain, refused = _issued(gatling, app.name, reachable, current, is_worth_it)
    with _recording(gatling, state, Stage.ISSUED):
        certificate = _taken(gatling, app.name, chain, domains)
    faults = [*refused, *faults, *_too_many(app.name, others)]
    state = dataclasses.replace(
        issuance.Issuance(app=app.name, domains=state.domains),
        failures=state.failures if faults else 0,
    )
    issuance.put(gatling.db, state)
    with contextlib.suppress(CertificateFailed):
        state = _with_ari(gatling, app.name, certificate, state)
    if faults:
        stage = Stage.AT_THE_CA if refused else Stage.HERE
        _record_failure(gatling, state, faults[0], stage)
        return Obtained(app.name, list(certificate.names), faults[0].what, faults[0].hint)
    return Obtained(app.name, list(certificate.names))


def _nothing_to_do(gatling: Gatling, state: Issuance) -> Obtained:
    if state.error:
        issuance.put(gatling.db, dataclasses.replace(state, error="", hint="", failures=0))
    return Obtained(state.app, [])


@contextlib.contextmanager
def _recording(gatling: Gatling, state: Issuance, stage: Stage) -> Iterator[None]:
    """Keep whatever ends the block as the app's last error, in words for people."""
    try:
        yield
    except Exception as error:
        found = debuglog.explained(error, f"obtaining a certificate for {state.app}")
        _record_failure(gatling, state, found, stage)
        if found is error:
            raise
        raise found from error


def _must_be_ready(gatling: Gatling) -> None:
    """Raise for what would keep a certificate from serving, which the CA counts nevertheless."""
    gatling.router.check()
    free = shutil.disk_usage(gatling.home.root).free
    if free < LEAST_BYTES:
        raise DiskFull(
            f"A certificate needs room: {free >> 20} MB are free on the disk of"
            f" {gatling.home.root}, and {LEAST_BYTES >> 20} MB are required."
        )


def _reachable(
    gatling: Gatling, app: str, domains: list[str], *, check: bool
) -> tuple[list[str], list[CertificateFailed]]:
    """The domains under which a CA will find this server, and why not under the others."""
    challenge = _challenge(gatling)
    public = gatling.router.public_address()
    faults = reachability.faults(domains, challenge, public) if check else {}
    known = {
        kept.id for one in apps.every(gatling.db) for kept in gatling.certificates.of(one.name)
    }
    for domain in domains:
        if domain not in faults and certificates.foreign(gatling, domain, known):
            faults[domain] = CertificateFailed(
                f"A site of your own serves {domain} over HTTPS, with a certificate of its own.",
                hint="Remove the site, or let it obtain the certificate:"
                f" `gatling settings set {app} certificates.obtain=false`.",
            )
    return [one for one in domains if one not in faults], list(faults.values())


def _too_many(app: str, others: list[str]) -> list[CertificateFailed]:
    """The fault of an app with more domains than a certificate can have."""
    if not others:
        return []
    return [
        CertificateFailed(
            f"{listed(others)}: a certificate has at most {MAX_NAMES} domains.",
            hint=f"Give one for these domains: `gatling certificates add {app}`.",
        )
    ]


def _issued(
    gatling: Gatling,
    app: str,
    domains: list[str],
    current: Certificate | None,
    is_worth_it: Callable[[list[str]], bool],
) -> tuple[list[str], str, list[CertificateFailed]]:
    """A certificate (PEM) from the CA, its domains, and why it is not for the others.

    An order fails as a whole, so it is made once more without the domains that the CA refused.
    """
    try:
        return domains, _chain(gatling, app, domains, current), []
    except CertificateFailed as error:
        rest = [one for one in domains if one not in error.domains]
        if error.retry_at or len(rest) == len(domains) or not is_worth_it(rest):
            raise
        return rest, _chain(gatling, app, rest, current), [error]


def _chain(gatling: Gatling, app: str, domains: list[str], current: Certificate | None) -> str:
    request = gatling.certificates.request(app, domains)
    replaces = gatling.certificates.chain(app, current.id) if current else ""
    return _from_ca(gatling, request, replaces)


def _taken(gatling: Gatling, app: str, chain: str, domains: list[str]) -> Certificate:
    """The certificate that was issued, which serves; everything as before when this raises."""
    certificate, _ = gatling.certificates.install(app, chain)
    changes.change(
        gatling, app, "certificates issue", f"{certificate.id} {' '.join(domains)}",
        steps=[gatling.configure_router, lambda: certificates.prove(gatling, app)],
        take_back=lambda: gatling.certificates.retire(app, certificate.id),
    )  # fmt: skip
    _tidy(gatling, app)
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
        known,
        certificate=current.id,
        renew_at=at or 0,
        ask_at=min(max(again, now + 60), now + DAY),
    )
    issuance.put(gatling.db, state)
    return state


def _authority(gatling: Gatling) -> tuple[Account, Authority]:
    from gatling.proxy import authority

    used = _account(gatling)
    return used, authority.Authority(used)


def _challenge(gatling: Gatling) -> HttpChallenge:
    directory = gatling.certificates.challenges()
    if directory is None:
        raise InvalidInput(
            "No CA reaches an embedded home: its local authority makes the certificates.",
            hint="`gatling up --tls` serves HTTPS with them. `gatling certificates authority` shows"
            " how to trust them.",
        )
    return HttpChallenge(directory)


def _record_failure(gatling: Gatling, state: Issuance, error: GatlingError, stage: Stage) -> None:
    """Keep an error, and try again after a pause that grows."""
    now, failures = time.time(), state.failures + 1
    error.about(state.app)
    blocked = error.retry_at if isinstance(error, CertificateFailed) else 0
    seconds = min(max(obtaining.pause(failures, stage), blocked - now), DAY)
    issuance.put(
        gatling.db,
        dataclasses.replace(
            state, failures=failures, error=error.what, hint=error.hint, retry_at=now + seconds,
            blocked_until=min(blocked, now + obtaining.WEEK),
        ),
    )  # fmt: skip
    with contextlib.suppress(GatlingError):  # the timer tries again as well
        gatling.certificates.obtain_later(state.app, min(seconds + 1, DAY))
