"""A CA that speaks ACME (RFC 8555, 9773). Only this module and `ca_errors` know the library `acme`.

The library takes a while to load, so only the commands that need a CA load it. Answers of a CA are
data from outside: a wrong one becomes an error that names the CA.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import ssl
import tempfile
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

import requests
from acme import challenges as acme_challenges
from acme import client, messages
from acme import errors as acme_errors
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy import errors as jose_errors
from josepy.json_util import field
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from gatling import __version__
from gatling.errors import CertificateFailed, GatlingError, InvalidInput
from gatling.names import is_address
from gatling.proxy import ca_errors
from gatling.proxy.ca_errors import ORDER_SECONDS, domain_of
from gatling.proxy.ca_words import HINTS, short
from gatling.proxy.requests import names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.proxy.challenges import Challenge
    from gatling.state.issuance import Account

    Challenges = Callable[[str], Challenge]

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
REQUEST_SECONDS = 30
PRESENT_SECONDS = 600.0
"""How long answers to challenges may take to be written, until the last one is begun."""
TOO_SLOW = f"The answers to the CA's challenges took more than {PRESENT_SECONDS:.0f} s to write."
TOO_SLOW_HINT = "Give each app fewer domains, or let the DNS server or your program be faster."
NONCES = 5
"""How often a request is signed again because its nonce was refused, at most."""
ABOUT_BINDINGS = ("unauthorized", "malformed", "externalAccountRequired")
"""Errors about the key of a customer."""
WRONG_BINDING = (
    "Are --eab-kid and the key those that the CA shows now? Some CAs accept a key only once."
)
SHORT_LIVED = "shortlived"
"""The profile in which Let's Encrypt issues certificates for addresses: six days."""


class Binding(NamedTuple):
    """The key that a CA has given to a customer, to open accounts with. It is a secret."""

    kid: str
    """The name of the key."""
    key: str
    """The key in base64url, without padding."""


class _NewOrder(messages.NewOrder):
    """A new order that says which certificate it replaces (RFC 9773, section 5)."""

    replaces: str | None = field("replaces", omitempty=True)


class _Presented(NamedTuple):
    """An answer to a challenge that the CA may look for."""

    challenge: Challenge
    domain: str
    token: str
    offered: messages.ChallengeBody
    response: acme_challenges.KeyAuthorizationChallengeResponse


class _BadNonce(Exception):
    """A nonce was refused."""


class _Network(client.ClientNetwork):
    """Keeps the Retry-After header of the last error, which the library's errors lack.

    A nonce may be refused more than once (RFC 8555, section 6.5); the library tries twice.
    """

    retry_after: str | None = None

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(NONCES):
            with contextlib.suppress(_BadNonce):
                return self._post_checked(*args, **kwargs)
        return super().post(*args, **kwargs)

    def _post_checked(self, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            return super().post(*args, **kwargs)
        except messages.Error as error:
            if error.code == "badNonce":
                raise _BadNonce from error
            raise

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        response = super()._send_request(method, url, *args, **kwargs)
        self.retry_after = None if response.ok else response.headers.get("Retry-After")
        return response


def new_key() -> str:
    """A new key for an account, as PEM."""
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


class Authority:
    """The CA of an account. Raises CertificateFailed for all that goes wrong with it."""

    def __init__(self, account: Account) -> None:
        self._name = urlsplit(account.directory).hostname or account.directory
        self._directory = account.directory
        key = serialization.load_pem_private_key(account.key.encode(), None)
        self._key = JWKEC(key=key)
        self._network = _Network(
            self._key, alg=ES256, user_agent=f"gatling/{__version__}", timeout=REQUEST_SECONDS
        )
        self._trusted, self._profile = account.trusted, account.profile
        self._client: client.ClientV2 | None = None
        self._ordered: list[str] = []
        if account.uri:
            self._network.account = messages.RegistrationResource(
                body=messages.Registration(), uri=account.uri
            )

    def register(self, email: str, binding: Binding | None = None) -> str:
        """Create the account, or change the address of an existing one; its URL.

        The CA's terms are accepted. `binding` is for CAs that open accounts for their own customers
        only. Raises CertificateFailed.
        """
        with self._asking() as acme:
            self._network.account = None
            if acme.external_account_required() and binding is None:
                raise CertificateFailed(
                    f"{self._name} opens accounts only for its own customers.",
                    hint=HINTS["externalAccountRequired"],
                )
            wanted = messages.NewRegistration.from_data(email=email, terms_of_service_agreed=True)
            try:
                made = acme.new_account(self._bound(acme, wanted, binding))
            except acme_errors.ConflictError as known:
                made = messages.RegistrationResource(
                    body=messages.Registration(), uri=known.location
                )
                self._network.account = made
                made = acme.update_registration(made, messages.Registration(**dict(wanted)))
            except messages.Error as error:
                if binding is None or error.code not in ABOUT_BINDINGS:
                    raise
                refused = ca_errors.refused(error, self._asked())
                raise CertificateFailed(refused.what, hint=WRONG_BINDING) from error
            self._network.account = made
            return str(made.uri)

    def _bound(
        self, acme: client.ClientV2, wanted: messages.NewRegistration, binding: Binding | None
    ) -> messages.NewRegistration:
        """A request for an account that names the customer (RFC 8555, section 7.3.4)."""
        if binding is None:
            return wanted
        signed = messages.ExternalAccountBinding.from_data(
            self._key.public_key(), binding.kid, binding.key, acme.directory
        )
        bound: messages.NewRegistration = wanted.update(external_account_binding=signed)
        return bound

    def check_profile(self) -> None:
        """Raise InvalidInput if the CA does not offer the account's profile."""
        with self._asking() as acme:
            offered = _profiles(acme)
        if self._profile and self._profile not in offered:
            known = ", ".join(map(short, sorted(offered))) or "none at all"
            raise InvalidInput(
                f"{self._name} has no profile {self._profile!r}.", hint=f"Its profiles: {known}."
            )

    def certificate(self, request: str, challenges: Challenges, *, replaces: str = "") -> str:
        """The certificate for a request (PEM), with its chain.

        `challenges` gives the way to verify a domain, which may begin with `*.`; `replaces` is the
        certificate (PEM) that it takes over from.
        """
        with self._asking() as acme:
            order = self._order(acme, request, replaces)
            pending = [one for one in order.authorizations
                       if one.body.status != messages.STATUS_VALID]  # fmt: skip
            presented: list[_Presented] = []
            try:
                latest = time.monotonic() + PRESENT_SECONDS
                for authorization in pending:
                    if time.monotonic() > latest:
                        raise CertificateFailed(TOO_SLOW, hint=TOO_SLOW_HINT)
                    self._present(authorization, challenges, presented)
                for challenge in {id(one.challenge): one.challenge for one in presented}.values():
                    challenge.settle()
                for one in presented:
                    acme.answer_challenge(one.offered, one.response)
                deadline = dt.datetime.now() + dt.timedelta(seconds=ORDER_SECONDS)  # noqa: DTZ005
                order = acme.poll_authorizations(order, deadline)
            finally:
                for one in presented:
                    # what is left there harms nobody, and the order may be complete
                    with contextlib.suppress(GatlingError, OSError):
                        one.challenge.withdraw(one.domain, one.token)
            return str(acme.finalize_order(order, deadline).fullchain_pem)

    def renewal(self, certificate: str) -> tuple[float | None, float]:
        """When a certificate (PEM) should be renewed, and when to ask for that again: Unix times.

        None from a CA that does not say (RFC 9773).
        """
        with self._asking() as acme:
            at, again = acme.renewal_time(certificate.encode())
            return (at.timestamp() if at else None), again.timestamp()

    def _order(self, acme: client.ClientV2, request: str, replaces: str) -> messages.OrderResource:
        self._ordered = names_of(x509.load_pem_x509_csr(request.encode()))
        identifiers = [
            messages.Identifier(typ=messages.IDENTIFIER_IP if is_address(name)
                                else messages.IDENTIFIER_FQDN, value=name)
            for name in self._ordered
        ]  # fmt: skip
        # a CA may issue certificates for addresses with one profile only, and may drop profiles
        short = any(map(is_address, self._ordered))
        offered = _profiles(acme)
        profile = SHORT_LIVED if short and SHORT_LIVED in offered else self._profile
        order = _NewOrder(identifiers=identifiers, profile=profile if profile in offered else None)
        if replaces and "renewalInfo" in acme.directory.to_partial_json():
            try:
                response = self._post(acme, acme.directory["newOrder"],
                                      order.update(replaces=_renewal_id(replaces)))  # fmt: skip
            except (acme_errors.ConflictError, messages.Error) as error:
                # the CA knows it as replaced, or not at all: an order like any other
                if isinstance(error, messages.Error) and error.code == "rateLimited":
                    raise
                response = self._post(acme, acme.directory["newOrder"], order)
        else:
            response = self._post(acme, acme.directory["newOrder"], order)
        body = messages.Order.from_json(response.json())
        authorizations = [
            messages.AuthorizationResource(
                body=messages.Authorization.from_json(self._post(acme, url, None).json()), uri=url
            )
            for url in body.authorizations
        ]
        return messages.OrderResource(
            body=body,
            uri=response.headers["Location"],
            authorizations=authorizations,
            csr_pem=request.encode(),
        )

    def _present(
        self,
        authorization: messages.AuthorizationResource,
        challenges: Challenges,
        presented: list[_Presented],
    ) -> None:
        domain, name = str(authorization.body.identifier.value), domain_of(authorization)
        if name not in self._ordered:
            raise CertificateFailed(
                f"{self._name} wants to verify {short(name)}, which was not asked for."
            )
        challenge = challenges(name)
        for offered in authorization.body.challenges:
            if offered.chall.typ == challenge.kind:
                break
        else:
            raise CertificateFailed(
                f"{self._name} does not offer the challenge {challenge.kind} for {name}."
            )
        chall = cast("acme_challenges.KeyAuthorizationChallenge", offered.chall)
        token = str(chall.encode("token"))
        response = chall.response(self._key)
        # what fails half-way is withdrawn as well
        presented.append(_Presented(challenge, domain, token, offered, response))
        challenge.present(domain, token, response.key_authorization)

    def _post(self, acme: client.ClientV2, url: str, body: Any) -> requests.Response:
        return self._network.post(url, body, new_nonce_url=acme.directory["newNonce"])

    @contextlib.contextmanager
    def _asking(self) -> Iterator[client.ClientV2]:
        """The client, with the library's errors in Gatling's words."""
        try:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as bundle:
                if self._trusted:
                    bundle.write(self._trusted)
                    bundle.flush()
                    self._network.verify_ssl = bundle.name  # type: ignore[assignment]
                else:  # what the system trusts, not what came with a package
                    paths = ssl.get_default_verify_paths()
                    trusted: Any = paths.cafile or paths.capath or True
                    self._network.verify_ssl = trusted
                if self._client is None:
                    directory = client.ClientV2.get_directory(self._directory, self._network)
                    self._client = client.ClientV2(directory, self._network)
                yield self._client
        except acme_errors.ARIError as error:
            raise ca_errors.explained(error.__cause__ or error, self._asked()) from error
        except (
            acme_errors.Error, jose_errors.Error, requests.RequestException,
            ValueError, KeyError, AttributeError, TypeError, ArithmeticError,
            x509.ExtensionNotFound,
        ) as error:  # fmt: skip
            raise ca_errors.explained(error, self._asked()) from error

    def _asked(self) -> ca_errors.Asked:
        return ca_errors.Asked(self._name, self._ordered, self._network.retry_after)


def checked_directory(url: str) -> str:
    """The URL of a CA's directory; raises InvalidInput for one that is not HTTPS."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or len(url) > 1000 or not url.isascii():
        raise InvalidInput(
            f"{url!r} is not the URL of a CA's directory.", hint=f"For example {LETS_ENCRYPT}."
        )
    return url


def _profiles(acme: client.ClientV2) -> dict[str, str]:
    """The profiles that a CA offers, with what they are."""
    if "meta" not in acme.directory.to_partial_json():
        return {}
    profiles = acme.directory["meta"].profiles
    return dict(profiles) if isinstance(profiles, Mapping) else {}


def _renewal_id(certificate: str) -> str:
    """The name of a certificate in ARI (RFC 9773, section 4.1)."""
    leaf = x509.load_pem_x509_certificate(certificate.encode())
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1, "big")
    parts = (issuer.key_identifier or b"", serial)
    return ".".join(base64.urlsafe_b64encode(one).decode().rstrip("=") for one in parts)
