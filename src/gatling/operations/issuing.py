"""Certificates from a CA: obtained when an app's domains change, and renewed in time.

One process at a time does it for an app. The CA's answer is kept by root, served and proved in a
handshake before an earlier certificate goes, so that an error or a kill leaves what served before.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from gatling import debuglog
from gatling.errors import CertificateFailed, DiskFull, GatlingError, NotFound, ProxyRefused
from gatling.operations import ca_account, certificates, changes, verification
from gatling.paths import exclusively, exclusively_or_not
from gatling.project import settings
from gatling.proxy.certificates import chosen
from gatling.runtime import obtaining
from gatling.runtime.obtaining import DAY, Stage
from gatling.state import apps, audit, issuance
from gatling.times import stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextlib import AbstractContextManager

    from gatling.platform.open import Gatling
    from gatling.proxy.authority import Authority, Challenges
    from gatling.proxy.certificates import Certificate
    from gatling.state.apps import App
    from gatling.state.issuance import Account, Issuance

ARI_SECONDS = 6 * 3600.0
"""How long a CA that did not answer is not asked again when to renew."""
LEAST_BYTES = 16 << 20
"""Room on the disk without which no certificate is ordered that could not be kept then."""


class Obtained(Struct, frozen=True):
    """The result of an attempt for one app."""

    app: str
    domains: list[str]
    """The domains of the certificate that was obtained; none when none was needed."""
    error: str = ""
    hint: str = ""


def issue(gatling: Gatling, app: str) -> Obtained:
    """Obtain a certificate for all domains of an app, be it needed or not.

    Raises NotFound; InvalidInput without an account or a domain that a CA could verify;
    CertificateFailed with everything as before.
    """
    ca_account.used(gatling)
    with exclusively(gatling.home, f"certificates-{app}"):
        found, kept = apps.get(gatling.db, app), gatling.certificates.of(app)
        if not obtaining.wanted(found.domains, kept, time.time(), **obtaining.means(gatling.db)):
            raise verification.nothing_to_obtain(found)
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
    if scheduled and any(one.platform for one in apps.every(gatling.db, clusters=True)):
        from gatling.operations import clusters  # which loads the client of Kubernetes

        clusters.renew_certificates(gatling)
    if scheduled and issuance.account(gatling.db) is None:
        return []
    ca_account.used(gatling)
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


def _attempt(gatling: Gatling, app: App, *, forced: bool) -> Obtained:
    """Obtain a certificate, if one is needed and it is time; an error is recorded as well."""
    now, options = time.time(), settings.parse(app.effective).certificates
    _tidy(gatling, app.name)
    state = obtaining.trusted(issuance.of_app(gatling.db, app.name), now)
    kept, means = gatling.certificates.of(app.name), obtaining.means(gatling.db)
    every, current = obtaining.wanted(app.domains, kept, now, **means), obtaining.newest(kept)
    if state.domains != " ".join(every):  # those that failed are others
        state = structs.replace(state, domains=" ".join(every), failures=0, retry_at=0)
    if not forced and not options.obtain:
        return _nothing_to_do(gatling, state)
    if not forced and every and now < max(state.retry_at, state.blocked_until):
        return Obtained(app.name, [], state.error, state.hint)
    if now < state.blocked_until:
        raise CertificateFailed(
            f"The CA accepts no request for {app.name} before {stamp_of(state.blocked_until)}.",
            hint=state.error,
        )
    domains, others = obtaining.within(every, current)
    state = _with_ari(gatling, app.name, current, state)
    if not forced and not obtaining.is_needed(domains, current, state, now):
        _finish(gatling, app.name)
        if others:
            return Obtained(app.name, [], state.error, state.hint)
        return _nothing_to_do(gatling, state)
    is_due = current is not None and now >= obtaining.renew_at(current, state)

    def wanted(some: Collection[str]) -> list[str]:
        """Those to obtain one for without some: a wildcard that fails covers no other domain."""
        rest = [one for one in app.domains if one not in some and one not in others]
        return obtaining.within(obtaining.wanted(rest, kept, now, **means), current)[0]

    def is_worth_it(domains: list[str]) -> bool:
        """Whether a certificate that is for these domains only is better than none."""
        return bool(domains) and (forced or is_due or bool(obtaining.lacking(domains, current)))

    def failing(stage: Stage) -> AbstractContextManager[None]:
        return _recording(gatling, state, stage, current)

    with failing(Stage.HERE):
        _must_be_ready(gatling)
        reachable, faults = verification.verifiable(gatling, app.name, wanted, options)
        if not reachable or (faults and not is_worth_it(reachable)):
            raise next(iter(faults.values()))

    def rest(some: Collection[str]) -> list[str]:
        """Those to order without some that the CA refused, if that is worth it."""
        left, _ = verification.verifiable(gatling, app.name, wanted, options, {*some, *faults})
        return left if is_worth_it(left) else []

    with failing(Stage.AT_THE_CA):
        ways = verification.challenges(gatling, options)
        domains, chain, refused = _issued(gatling, app.name, reachable, current, ways, rest)
    with failing(Stage.ISSUED):
        certificate = _taken(gatling, app.name, chain, domains)
    errors = [*refused, *faults.values(), *verification.too_many(app.name, others)]
    state = structs.replace(
        issuance.Issuance(app=app.name, domains=state.domains),
        failures=state.failures if errors else 0,
        early_at=obtaining.early_at(current, state, now, due=is_due),
    )
    issuance.put(gatling.db, state)
    with contextlib.suppress(CertificateFailed):
        state = _with_ari(gatling, app.name, certificate, state)
    if errors:
        stage = Stage.AT_THE_CA if refused else Stage.HERE
        _record_failure(gatling, state, errors[0], stage, certificate)
        return Obtained(app.name, list(certificate.names), errors[0].what, errors[0].hint)
    return Obtained(app.name, list(certificate.names))


def _nothing_to_do(gatling: Gatling, state: Issuance) -> Obtained:
    if state.error:
        issuance.put(gatling.db, structs.replace(state, error="", hint="", failures=0))
    return Obtained(state.app, [])


@contextlib.contextmanager
def _recording(
    gatling: Gatling, state: Issuance, stage: Stage, current: Certificate | None
) -> Iterator[None]:
    """Keep whatever ends the block as the app's last error, in words for people."""
    try:
        yield
    except Exception as error:
        found = debuglog.explained(error, f"obtaining a certificate for {state.app}")
        _record_failure(gatling, state, found, stage, current)
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


def _issued(
    gatling: Gatling,
    app: str,
    domains: list[str],
    current: Certificate | None,
    challenges: Challenges,
    rest: Callable[[Collection[str]], list[str]],
) -> tuple[list[str], str, list[CertificateFailed]]:
    """A certificate (PEM) from the CA, its domains, and why it is not for the others.

    An order fails as a whole, so it is made once more without the domains that the CA refused.
    """
    try:
        return domains, _chain(gatling, app, domains, current, challenges), []
    except CertificateFailed as error:
        if error.retry_at or not set(error.domains) & set(domains):
            raise
        others = rest(error.domains)
        if not others:
            raise
        return others, _chain(gatling, app, others, current, challenges), [error]


def _chain(
    gatling: Gatling,
    app: str,
    domains: list[str],
    current: Certificate | None,
    challenges: Challenges,
) -> str:
    request = gatling.certificates.request(app, domains)
    replaces = gatling.certificates.chain(app, current.id) if current else ""
    return _from_ca(gatling, request, challenges, replaces)


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


def _finish(gatling: Gatling, app: str) -> None:
    """Serve what an attempt has installed that was killed, and remove what that has left."""
    try:
        certificates.prove(gatling, app)
    except ProxyRefused:
        gatling.configure_router()
        certificates.prove(gatling, app)
    _tidy(gatling, app)
    if gatling.certificates.has_leftovers(app):
        gatling.configure_router()  # as in `_tidy`
        gatling.certificates.remove_retired(app)


def _from_ca(gatling: Gatling, request: str, challenges: Challenges, replaces: str) -> str:
    used, authority = _authority(gatling)
    try:
        return authority.certificate(request, challenges, replaces=replaces)
    except CertificateFailed as error:
        if not error.forgotten:
            raise
        # a CA may forget accounts; the key stays the same
        uri = authority.register(used.email)
        issuance.put_account(gatling.db, structs.replace(used, uri=uri))
        return authority.certificate(request, challenges)


def _with_ari(gatling: Gatling, app: str, current: Certificate | None, state: Issuance) -> Issuance:
    """The state with the CA's proposal for a renewal, which is asked for no more than it wants."""
    now = time.time()
    if current is None or (state.certificate == current.id and now < state.ask_at):
        return state
    known = state if state.certificate == current.id else structs.replace(state, renew_at=0)
    try:
        _, authority = _authority(gatling)
        at, again = authority.renewal(gatling.certificates.chain(app, current.id))
    except (CertificateFailed, OSError):
        at, again = known.renew_at or None, now + ARI_SECONDS
    state = structs.replace(
        known,
        certificate=current.id,
        renew_at=at or 0,
        ask_at=min(max(again, now + 60), now + DAY),
    )
    issuance.put(gatling.db, state)
    return state


def _authority(gatling: Gatling) -> tuple[Account, Authority]:
    from gatling.proxy import authority

    used = ca_account.used(gatling)
    return used, authority.Authority(used)


def _record_failure(
    gatling: Gatling,
    state: Issuance,
    error: GatlingError,
    stage: Stage,
    current: Certificate | None,
) -> None:
    """Keep an error, and try again after a pause that grows."""
    now, failures = time.time(), state.failures + 1
    error.about(state.app)
    blocked = error.retry_at if isinstance(error, CertificateFailed) else 0
    if blocked:
        blocked = now + obtaining.limited(blocked - now, current, now)
    pause = obtaining.limited(obtaining.pause(failures, stage), current, now)
    seconds = min(max(pause, blocked - now), DAY)
    issuance.put(
        gatling.db,
        structs.replace(
            state, failures=failures, error=error.what, hint=error.hint, retry_at=now + seconds,
            blocked_until=blocked,
        ),
    )  # fmt: skip
    if failures == 1:  # the same error may follow many times
        audit.record(gatling.db, gatling.actor, state.app, "certificates failed", state.domains)
    with contextlib.suppress(GatlingError):  # the timer tries again as well
        gatling.certificates.obtain_later(state.app, min(seconds + 1, DAY))
