"""The domains of an app: changed in the records and in the proxy, or not at all."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from gatling import names
from gatling.deploy import project_domains
from gatling.errors import ClusterFailed, HelperFailed, InvalidInput
from gatling.operations import certificates, changes, issuing
from gatling.project.proxy import EVERYWHERE
from gatling.proxy.certificates import chosen
from gatling.runtime import obtaining
from gatling.state import apps, audit, domains, issuance, moves

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.apps import App


class DomainChange(Struct, frozen=True):
    """The result of adding or removing a domain."""

    app: str
    domain: str
    changed: bool
    domains: list[str]
    """All domains of the app, afterwards."""
    phx_host: str | None = None
    """The effect of the change on PHX_HOST, as a sentence."""
    obtaining: bool = False
    """Whether a certificate is being obtained in the background."""
    problems: tuple[str, ...] = ()
    """Why the domain is served over HTTP only, on a home with an authority of its own."""
    needs_dns: bool = False
    """Whether a certificate could be obtained if this server could write records in the DNS."""
    place: str | None = None
    """The place that the DNS record must lead to, where that is another one than before."""

    @property
    def notes(self) -> list[str]:
        """The effects of the change on HTTPS and on PHX_HOST, as sentences."""
        said = []
        if self.place is not None:
            said.append(f"Let the DNS record of {self.domain} lead to {self.place}.")
        if self.obtaining:
            said.append(
                "A certificate for HTTPS is being obtained."
                f" `gatling certificates show {self.app}` shows the result."
            )
        if self.needs_dns:
            said.append(
                f"A CA verifies {self.domain} by records in the DNS alone. Let Gatling write them:"
                " `gatling help certificates dns`."
            )
        return [*said, *self.problems, *filter(None, (self.phx_host,))]


def add(gatling: Gatling, app: str, domain: str) -> DomainChange:
    """Serve the app under one more domain. Nothing changes when it has the domain already.

    Raises InvalidInput for a name that is no domain or is another app's, ProxyRefused with
    everything as before.
    """
    name = names.domain(domain)
    before = apps.get(gatling.db, app)
    if name not in before.domains and before.platform is None:
        _need_reachable(gatling, name)
    if not domains.add(gatling.db, app, name):
        return DomainChange(app, name, changed=False, domains=list(before.domains))
    changes.change(
        gatling, app, "domains add", name,
        steps=[lambda: _serve(gatling, app)],
        take_back=lambda: domains.take_back(gatling.db, app, [name]),
    )  # fmt: skip
    return _result(gatling, before, name)


def _need_reachable(gatling: Gatling, name: str) -> None:
    """Raise InvalidInput for a loopback address where a public CA obtains certificates."""
    account = issuance.account(gatling.db)
    if account is None or obtaining.is_own(account) or not names.is_loopback(name):
        return
    raise InvalidInput(
        f"{name} is a loopback address: other machines, and the CA {account.directory}, cannot"
        " reach it.",
        hint="`ip address show scope global` lists the addresses of a server.",
    )


def move(gatling: Gatling, app: str, domain: str, source: str) -> DomainChange:
    """Serve an app under a domain of another one, from one request to the next.

    The certificate that serves the domain serves on. If one of the apps runs on a cluster, the
    domain gets a certificate of its new place, and the DNS decides when requests follow. Raises
    NotFound, InvalidInput, ProxyRefused, ClusterFailed with everything as before.
    """
    name = names.domain(domain)
    before, other = apps.get(gatling.db, app), apps.get(gatling.db, source)
    if name in before.domains:
        return DomainChange(app, name, changed=False, domains=list(before.domains))
    guarded = {name, EVERYWHERE}
    if guarded & other.passwords.keys() and not guarded & before.passwords.keys():
        raise InvalidInput(
            f"{source} protects {name} with passwords, and {app} would not.",
            hint=f"First `gatling auth add {app} '*' USER`." if before.platform is None
            else f"`gatling auth list {source}` shows the users; without them the domain is public."
            " docs/kubernetes.md, Passwords, says how a cluster asks for passwords.",
        )  # fmt: skip
    for one in (app, source):
        moves.need_one(gatling.db, one)
    if before.platform is not None or other.platform is not None:
        return _move_elsewhere(gatling, before, other, name)
    covering = chosen(gatling.certificates.of(source), [name], time.time())
    take_back = domains.move(gatling.db, name, source, app)

    new = False

    def bring() -> None:
        """Let HTTPS go with the domain: it is served as before until the app has its own."""
        nonlocal new
        if name not in covering:
            return
        if name in apps.get(gatling.db, app).domains:
            # without it, the domain is served over HTTP
            with contextlib.suppress(HelperFailed, OSError):
                new = gatling.certificates.copy(app, covering[name].id, source)
        elif new:
            gatling.certificates.retire(app, covering[name].id)

    changes.change(
        gatling, app, "domains add", f"{name} from {source}",
        steps=[bring, gatling.configure_router], take_back=take_back,
    )  # fmt: skip
    audit.record(gatling.db, gatling.actor, source, "domains remove", f"{name} to {app}")
    issuing.tidy(gatling, source)
    obtaining.later(gatling, source)
    return _result(gatling, before, name)


def _move_elsewhere(gatling: Gatling, app: App, other: App, name: str) -> DomainChange:
    """Move a domain where at least one of the apps runs on a cluster."""

    def serve() -> None:
        """Let both apps be served as recorded: the app that has the domain now comes first."""
        has = name in apps.get(gatling.db, app.name).domains
        first, then = (app.name, other.name) if has else (other.name, app.name)
        try:
            _serve(gatling, first)
        except ClusterFailed as error:
            if error.reason != "refused":
                raise
            # ingress-nginx admits no domain that another Ingress still has
            _serve(gatling, then)
            _serve(gatling, first)
        else:
            _serve(gatling, then)

    changes.change(
        gatling, app.name, "domains add", f"{name} from {other.name}",
        steps=[serve], take_back=domains.move(gatling.db, name, other.name, app.name),
    )  # fmt: skip
    audit.record(gatling.db, gatling.actor, other.name, "domains remove", f"{name} to {app.name}")
    if other.platform is None:
        issuing.tidy(gatling, other.name)
        obtaining.later(gatling, other.name)
    done = _result(gatling, app, name)
    if app.platform != other.platform:
        done = structs.replace(done, place=moves.said(app.platform or moves.HERE))
    return done


def remove(gatling: Gatling, app: str, domain: str) -> DomainChange:
    """Serve the app no longer under a domain.

    Raises NotFound for a domain that the app does not have, ProxyRefused with everything as before.
    """
    name = names.domain(domain)
    before = apps.get(gatling.db, app)
    put_back = domains.remove(gatling.db, app, name)
    changes.change(
        gatling, app, "domains remove", name,
        steps=[lambda: _serve(gatling, app)],
        take_back=put_back,
    )  # fmt: skip
    issuing.tidy(gatling, app)
    return _result(gatling, before, name)


def _serve(gatling: Gatling, name: str) -> None:
    """Serve an app under the domains that are recorded: by the proxy, by its cluster, or both."""
    app = apps.get(gatling.db, name)
    also = moves.serving(gatling.db, name)
    for place in (app.platform or moves.HERE, *(() if also is None else (also,))):
        if place == moves.HERE:
            gatling.configure_router()
            continue
        from gatling.operations import clusters

        clusters.serve(gatling, app, place)


def _result(gatling: Gatling, before: App, name: str) -> DomainChange:
    after = apps.get(gatling.db, before.name)
    note = project_domains.host_told(gatling, before, after)
    if after.platform is not None:
        return DomainChange(
            after.name, name, changed=True, domains=list(after.domains), phx_host=note
        )
    lacking = certificates.without(after, gatling.certificates.of(after.name))
    means = obtaining.means(gatling.db)
    obtains = obtaining.later(gatling, after.name) and name in after.domains
    certified = obtaining.obtainable(name, **means)
    possible = obtaining.obtainable(name, own_ca=means["own_ca"], by_dns=True)
    return DomainChange(
        after.name,
        name,
        changed=True,
        domains=list(after.domains),
        phx_host=note,
        obtaining=obtains and certified,
        needs_dns=obtains and not certified and possible,
        problems=tuple(gatling.certificates.problems(after)) if name in lacking else (),
    )
