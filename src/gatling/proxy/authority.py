"""A CA that speaks ACME (RFC 8555, 9773): the only module that knows the library `acme`.

It takes a while to load, so only the commands that need a CA load it. Answers of a CA are data from
outside: a wrong one becomes an error that names the CA.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import re
import ssl
import tempfile
import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import requests
from acme import challenges, client, messages
from acme import errors as acme_errors
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy import errors as jose_errors
from josepy.json_util import field
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from gatling import __version__
from gatling.errors import CertificateFailed, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.proxy.challenges import Challenge
    from gatling.state.issuance import Account

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
REQUEST_SECONDS = 30
ORDER_SECONDS = 120.0
MAX_DETAIL = 500
"""Characters of a CA's own words that are shown."""
NONCES = 5
"""How often a request is signed again because its nonce was refused, at most."""
MAX_RETRY_SECONDS = 7 * 86400.0
"""How long a CA is left alone at most, whatever it says."""
RETRY_SECONDS = 6 * 3600.0
"""How long a CA is left alone that says `rateLimited` and not until when."""
ABOUT_DOMAINS = ("rejectedIdentifier", "caa", "dns")
"""Errors about domains that are in the order."""
HINTS = {
    "rateLimited": "Gatling tries again when the CA allows it.",
    "dns": "Check the DNS records of the domain (A, AAAA, CAA) with `dig`.",
    "connection": "Open port 80 to the internet, in a firewall of the provider as well.",
    "unauthorized": "Another server answers for the domain: check its A and its AAAA record.",
    "caa": "Allow this CA in the domain's CAA record, or remove that record.",
    "rejectedIdentifier": "This CA issues no certificate for this name: use another domain.",
    "externalAccountRequired": "Use a CA that is open to all, such as Let's Encrypt.",
    "invalidContact": "Give another address: `gatling certificates account --email ADDRESS`.",
    "unsupportedContact": "Give another address: `gatling certificates account --email ADDRESS`.",
    "userActionRequired": "The CA has new terms. To accept them, give your address again:"
    " `gatling certificates account --email ADDRESS`.",
}


class _NewOrder(messages.NewOrder):
    """A new order that says which certificate it replaces (RFC 9773, section 5)."""

    replaces: str | None = field("replaces", omitempty=True)


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
        self._trusted = account.trusted
        self._client: client.ClientV2 | None = None
        self._ordered: list[str] = []
        if account.uri:
            self._network.account = messages.RegistrationResource(
                body=messages.Registration(), uri=account.uri
            )

    def register(self, email: str) -> str:
        """Create the account, or change the address of an existing one; its URL.

        The CA's terms are accepted.
        """
        with self._asking() as acme:
            self._network.account = None
            if acme.external_account_required():
                raise CertificateFailed(
                    f"{self._name} opens accounts only for its own customers (external account"
                    " binding), which Gatling does not support.",
                    hint=HINTS["externalAccountRequired"],
                )
            wanted = messages.NewRegistration.from_data(email=email, terms_of_service_agreed=True)
            try:
                made = acme.new_account(wanted)
            except acme_errors.ConflictError as known:
                made = messages.RegistrationResource(
                    body=messages.Registration(), uri=known.location
                )
                self._network.account = made
                made = acme.update_registration(made, messages.Registration(**dict(wanted)))
            self._network.account = made
            return str(made.uri)

    def certificate(self, request: str, challenge: Challenge, *, replaces: str = "") -> str:
        """The certificate for a request (PEM), with its chain.

        `replaces` is the certificate (PEM) that it takes over from.
        """
        deadline = dt.datetime.now() + dt.timedelta(seconds=ORDER_SECONDS)  # noqa: DTZ005
        with self._asking() as acme:
            order = self._order(acme, request, replaces)
            presented: list[tuple[str, str]] = []
            try:
                for authorization in order.authorizations:
                    if authorization.body.status != messages.STATUS_VALID:
                        self._answer(acme, authorization, challenge, presented)
                order = acme.poll_authorizations(order, deadline)
            finally:
                for domain, token in presented:
                    challenge.withdraw(domain, token)
            return str(acme.finalize_order(order, deadline).fullchain_pem)

    def renewal(self, certificate: str) -> tuple[float | None, float]:
        """When a certificate (PEM) should be renewed, and when to ask for that again: Unix times.

        None from a CA that does not say (RFC 9773).
        """
        with self._asking() as acme:
            at, again = acme.renewal_time(certificate.encode())
            return (at.timestamp() if at else None), again.timestamp()

    def _order(self, acme: client.ClientV2, request: str, replaces: str) -> messages.OrderResource:
        csr = x509.load_pem_x509_csr(request.encode())
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self._ordered = names.get_values_for_type(x509.DNSName)
        identifiers = [
            messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name) for name in self._ordered
        ]
        order = _NewOrder(identifiers=identifiers)
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

    def _answer(
        self,
        acme: client.ClientV2,
        authorization: messages.AuthorizationResource,
        challenge: Challenge,
        presented: list[tuple[str, str]],
    ) -> None:
        domain = str(authorization.body.identifier.value)
        for offered in authorization.body.challenges:
            if offered.chall.typ == challenge.kind:
                break
        else:
            raise CertificateFailed(
                f"{self._name} does not offer the challenge {challenge.kind} for {domain}."
            )
        chall = cast("challenges.KeyAuthorizationChallenge", offered.chall)
        token = str(chall.encode("token"))
        response = chall.response(self._key)
        challenge.present(domain, token, response.key_authorization)
        presented.append((domain, token))
        acme.answer_challenge(offered, response)

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
            raise self._explained(error.__cause__ or error) from error
        except (
            acme_errors.Error, jose_errors.Error, requests.RequestException,
            ValueError, KeyError, AttributeError, TypeError, ArithmeticError,
            x509.ExtensionNotFound,
        ) as error:  # fmt: skip
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> CertificateFailed:
        if isinstance(error, requests.exceptions.SSLError):
            return CertificateFailed(
                f"{self._name} shows a certificate that this machine does not trust{_why(error)}.",
                hint="For a CA of your own: `gatling certificates account --ca-file FILE …`.",
            )
        if isinstance(error, (requests.ConnectionError, requests.Timeout)):
            return CertificateFailed(
                f"The CA {self._name} cannot be reached: {_cause(error)}.",
                hint="Gatling tries again by itself.",
            )
        if isinstance(error, acme_errors.TimeoutError):
            return CertificateFailed(
                f"The CA {self._name} did not finish within {ORDER_SECONDS:.0f} s.",
                hint="Gatling tries again by itself.",
            )
        if isinstance(error, acme_errors.ValidationError):
            return self._not_verified(error)
        if isinstance(error, acme_errors.IssuanceError):
            error = error.error
        if isinstance(error, messages.Error):
            return self._refused(error)
        return CertificateFailed(
            f"The CA {self._name} gave an answer that is not ACME's"
            f" ({type(error).__name__}: {_short(error)}).",
            hint="Is the directory's URL that of a CA? `gatling certificates account` shows it.",
        )

    def _refused(self, error: messages.Error) -> CertificateFailed:
        code = error.code or ""
        parts = [error, *(error.subproblems or ())]
        said = "; ".join(_short(one.detail) for one in parts if one.detail) or code or error.typ
        retry_at = _retry_at(self._network.retry_after)
        if code == "rateLimited":
            retry_at = retry_at or time.time() + RETRY_SECONDS
        return CertificateFailed(
            f"The CA {self._name} refused: {said.rstrip('.')}.",
            hint=HINTS.get(code, ""),
            retry_at=retry_at,
            forgotten=code == "accountDoesNotExist",
            domains=self._refused_domains(error),
        )

    def _refused_domains(self, error: messages.Error) -> list[str]:
        """The domains of the order that an error is about."""
        parts = [error, *(error.subproblems or ())]
        found = {str(one.identifier.value) for one in parts if one.identifier}
        if not found and error.code in ABOUT_DOMAINS:
            # of a single one, CAs name it in their words only
            said = set(re.findall(r"[a-z0-9*][a-z0-9._-]*[a-z0-9]", str(error.detail).lower()))
            found = said & set(self._ordered)
        return [one for one in self._ordered if one in found]

    def _not_verified(self, error: acme_errors.ValidationError) -> CertificateFailed:
        said, hints = [], []
        for one in error.failed_authzrs:
            for challenge in one.body.challenges:
                if challenge.error is not None:
                    domain, why = one.body.identifier.value, challenge.error
                    said.append(f"{domain}: {_short(why.detail or why.typ).rstrip('.')}")
                    hints.append(HINTS.get(why.code or "", ""))
        return CertificateFailed(
            f"The CA {self._name} could not verify {'; '.join(said)}.",
            hint=next(filter(None, hints), ""),
            domains=[str(one.body.identifier.value) for one in error.failed_authzrs],
        )


def checked_directory(url: str) -> str:
    """The URL of a CA's directory; raises InvalidInput for one that is not HTTPS."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or len(url) > 1000 or not url.isascii():
        raise InvalidInput(
            f"{url!r} is not the URL of a CA's directory.", hint=f"For example {LETS_ENCRYPT}."
        )
    return url


def _renewal_id(certificate: str) -> str:
    """The name of a certificate in ARI (RFC 9773, section 4.1)."""
    leaf = x509.load_pem_x509_certificate(certificate.encode())
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1, "big")
    parts = (issuer.key_identifier or b"", serial)
    return ".".join(base64.urlsafe_b64encode(one).decode().rstrip("=") for one in parts)


def _retry_at(header: str | None) -> float:
    """The Unix time of a Retry-After header (RFC 9110, section 10.2.3); 0 for none."""
    if not header:
        return 0
    latest = time.time() + MAX_RETRY_SECONDS
    if header.isdecimal() and header.isascii():
        return latest if len(header) > 9 else min(time.time() + int(header), latest)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        from email.utils import parsedate_to_datetime

        return min(parsedate_to_datetime(header).timestamp(), latest)
    return 0


def _short(text: object) -> str:
    said = " ".join(str(text).split())
    return said if len(said) <= MAX_DETAIL else f"{said[:MAX_DETAIL]}…"


def _cause(error: BaseException) -> str:
    """The reason of a failed connection, which lies below several of other libraries'."""
    seen: set[int] = set()
    queue: list[BaseException] = [error]
    while queue:
        one = queue.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if (
            isinstance(one, OSError)
            and one.strerror
            and not isinstance(one, requests.RequestException)
        ):
            return one.strerror
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        queue += [entry for entry in inner if isinstance(entry, BaseException)]
    return "no answer in time" if isinstance(error, requests.Timeout) else "the connection failed"


def _why(error: BaseException | None) -> str:
    """The reason of OpenSSL, such as a missing extension, which Python 3.13 requires of any CA."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f" (OpenSSL: {error.verify_message})"
        error = error.__cause__ or error.__context__
    return ""
