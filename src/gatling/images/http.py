"""HTTP with a registry: authentication, repeated attempts, redirections, errors in Gatling's words.

A registry is another party. Its answers are read up to a limit, its redirections never lead from
HTTPS to HTTP, and credentials go to the registry and to the token server that it names only.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import time
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from msgspec import Struct

from gatling import __version__, causes
from gatling.errors import RegistryFailed
from gatling.visible import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
"""The registry computes the digest of a whole blob before it answers."""
BODY_SECONDS = 30 * 60.0
"""For an answer to its last byte."""
ATTEMPTS = 5
MAX_PAUSE = 30.0
MAX_TEXT = 4 << 20
"""Bytes of a manifest, or of another answer that is kept in memory."""
MAX_DETAIL = 300
MAX_REDIRECTIONS = 5
_CHUNK = 1 << 18
_T = TypeVar("_T")
_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"')
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_REASONS = {401: "login", 403: "denied", 404: "missing", 405: "unsupported", 413: "full",
            429: "busy", 502: "busy", 503: "busy", 504: "busy", 507: "full"}  # fmt: skip
_HINTS = {
    "login": "Check the user and the password for the registry.",
    "denied": "The user needs the right to push to this repository.",
    "missing": "Check the name. Some registries want a repository to be created first.",
    "unsupported": "The registry may be configured without this operation.",
    "busy": "Try again later.",
    "full": "Free some space on the registry's disk. If a proxy is in front of the registry, it may"
    " limit the size of a request.",
}
_NO_SPACE = re.compile(r'"Err":\s*28\b')
"""The number of ENOSPC, in an error of docker-registry."""


class Login(Struct, frozen=True):
    """The credentials for a registry."""

    user: str
    password: str


class Answer(Struct, frozen=True):
    """An answer of a registry, whose body has been read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Passing(Exception):
    """A failure that may pass: of the connection, or of a registry that is overloaded."""

    def __init__(self, error: RegistryFailed, pause: float = 0) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


class _Authorization(requests.auth.AuthBase):
    """Keeps requests from a password in ~/.netrc, which it would prefer to the given header."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value:
            request.headers["Authorization"] = self._value
        return request


class Connection:
    """Requests to one registry."""

    def __init__(
        self,
        host: str,
        *,
        plain: bool,
        login: Login | None = None,
        trusted: Path | None = None,
        scopes: tuple[str, ...] = (),
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.host = host
        self.url = f"{'http' if plain else 'https'}://{host}"
        self._plain = plain
        self._login = login
        self._scopes = scopes
        self._wait = wait
        self._authorization = ""
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"gatling/{__version__}"
        paths = ssl.get_default_verify_paths()
        # what the system trusts, not what came with a package
        system: str | bool = paths.cafile or paths.capath or True
        # given with each request, or variables of the environment would go before it
        self._verify = str(trusted) if trusted else system

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def ask(
        self,
        method: str,
        url: str,
        *,
        fine: tuple[int, ...],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make a request that may be repeated; the answer has one of the statuses `fine`."""
        return self.repeat(lambda: self.once(method, url, fine=fine, body=body, headers=headers))

    def repeat(self, attempt: Callable[[], _T]) -> _T:
        """Make an attempt until none fails for a reason that may pass; five at most."""
        for number in range(1, ATTEMPTS + 1):
            try:
                return attempt()
            except Passing as failed:
                if number == ATTEMPTS:
                    raise failed.error from failed
                self.pause(number, failed)
        raise AssertionError

    def pause(self, number: int, failed: Passing) -> None:
        """Wait after a failed attempt, as long as the registry asks for, within a limit."""
        self._wait(min(max(failed.pause, 2 ** (number - 2)), MAX_PAUSE))

    def joined(self, base: str, location: str) -> str:
        """A URL that the registry names, relative to another one."""
        try:
            return urljoin(base, location)
        except ValueError:
            self.fail("names a URL that is none", "malformed")

    def once(
        self,
        method: str,
        url: str,
        *,
        fine: tuple[int, ...],
        body: bytes | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make a request once. Raises Passing if another attempt makes sense."""
        with self._answered(method, url, fine, body, headers) as (response, at):
            return Answer(
                response.status_code, response.headers,
                b"" if method == "HEAD" else self._body(response), at,
            )  # fmt: skip

    def stream(self, url: str) -> Iterator[bytes]:
        """Yield the body of an answer. Raises Passing if another attempt makes sense."""
        deadline = time.monotonic() + BODY_SECONDS
        with self._answered("GET", url, (200,), None, None) as (response, _):
            try:
                for chunk in response.iter_content(_CHUNK):
                    if time.monotonic() > deadline:
                        raise RegistryFailed(
                            f"The registry {self.host} sends too slowly.", reason="unreachable"
                        )
                    yield chunk
            except requests.RequestException as error:
                raise self._passing(error) from error

    def fail(self, what: str, reason: str) -> NoReturn:
        """Raise the error for an answer that makes no sense."""
        raise RegistryFailed(f"The registry {self.host} {what}.", reason=reason)

    @contextlib.contextmanager
    def _answered(
        self,
        method: str,
        url: str,
        fine: tuple[int, ...],
        body: bytes | IO[bytes] | None,
        headers: Mapping[str, str] | None,
    ) -> Iterator[tuple[requests.Response, str]]:
        """The answer, after logging in if that is necessary."""
        at = self._checked(self.joined(self.url, url))
        asked = False
        for _ in range(MAX_REDIRECTIONS):
            response = self._send(method, at, body, headers)
            with response:
                if response.status_code in fine:
                    yield response, at
                    return
                if response.status_code in {301, 302, 303, 307, 308} and body is None:
                    at = self._checked(self.joined(at, response.headers.get("Location", "")))
                elif response.status_code == 401 and not asked and self._is_own(at):
                    asked = True
                    self._log_in(response.headers.get("WWW-Authenticate", ""))
                    if body is not None and not isinstance(body, bytes):
                        body.seek(0)
                else:
                    self._refuse(response)
        self.fail("redirects requests too often", "malformed")

    def _send(
        self, method: str, url: str, body: Any, headers: Mapping[str, str] | None
    ) -> requests.Response:
        own = self._authorization if self._is_own(url) else ""
        try:
            return self._session.request(
                method, url, data=body, headers=dict(headers or {}), auth=_Authorization(own),
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS), allow_redirects=False, stream=True,
                verify=self._verify,
            )  # fmt: skip
        except requests.exceptions.SSLError as error:
            raise RegistryFailed(
                f"The registry {self.host} shows a certificate that this machine does not trust.",
                hint="Name the file with the certificate of its CA.", reason="untrusted",
            ) from error  # fmt: skip
        except requests.RequestException as error:
            raise self._passing(error) from error

    def _passing(self, error: requests.RequestException) -> Passing:
        why = causes.of_connection(error, timed_out=isinstance(error, requests.Timeout))
        return Passing(
            RegistryFailed(
                f"The registry {self.host} cannot be reached: {why}.",
                hint="Check its name, and that this machine may connect to it.",
                reason="unreachable",
            )
        )

    def _is_own(self, url: str) -> bool:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}" == self.url

    def _checked(self, url: str) -> str:
        """A URL of the registry's; only a registry without TLS leads to others without."""
        try:
            parts = urlsplit(url)
            good = bool(parts.hostname) and parts.scheme in {"https", "http"} and parts.port != 0
        except ValueError:
            good = False
        if not good or parts.username:
            self.fail("names a URL that is none", "malformed")
        if parts.scheme == "http" and not self._plain:
            self.fail("leads from HTTPS to HTTP", "malformed")
        return url

    def _log_in(self, challenge: str) -> None:
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" and self._login is not None:
            self._authorization = _basic(self._login)
        elif scheme.lower() == "bearer":
            self._authorization = f"Bearer {self._token(dict(_PARAMETER.findall(rest)))}"

    def _token(self, named: Mapping[str, str]) -> str:
        """The token of the server that a registry names, for the rights that are needed."""
        realm = self._checked(named.get("realm", ""))
        question: list[tuple[str, str]] = [("scope", scope) for scope in self._scopes]
        if "service" in named:
            question.append(("service", named["service"]))
        own = _basic(self._login) if self._login is not None else ""
        try:
            with self._session.get(
                realm, params=question, auth=_Authorization(own), allow_redirects=False,
                stream=True, timeout=(CONNECT_SECONDS, ANSWER_SECONDS), verify=self._verify,
            ) as response:  # fmt: skip
                if response.status_code != 200:
                    self._refuse(response)
                answer = parsed(self._body(response))
                token = answer.get("token") or answer.get("access_token")
                if not isinstance(token, str) or not _TOKEN.fullmatch(token):
                    self.fail("gives no token", "malformed")
                return token
        except requests.RequestException as error:
            raise self._passing(error) from error
        except (ValueError, AttributeError):
            self.fail("gives no token", "malformed")

    def _body(self, response: requests.Response) -> bytes:
        deadline = time.monotonic() + ANSWER_SECONDS
        found = bytearray()
        try:
            for chunk in response.iter_content(_CHUNK):
                found += chunk
                if len(found) > MAX_TEXT or time.monotonic() > deadline:
                    self.fail("sends an answer that is too long", "malformed")
        except requests.RequestException as error:
            raise self._passing(error) from error
        return bytes(found)

    def _refuse(self, response: requests.Response) -> NoReturn:
        """Raise the error for an answer with a status of failure."""
        status = response.status_code
        said = b"" if response.request.method == "HEAD" else self._body(response)
        text = said.decode(errors="replace")
        reason = _REASONS.get(status, "refused")
        if status == 401 and self._login is None:
            reason = "login"
        if _NO_SPACE.search(text):
            reason = "full"
        error = RegistryFailed(
            f"The registry {self.host} refused a request with status {status}{_detail(text)}.",
            hint=_HINTS.get(reason, ""),
            reason=reason,
        )
        if status in _PASSING and reason != "full":
            raise Passing(error, _pause(response.headers.get("Retry-After", "")))
        raise error


def parsed(data: bytes | str) -> Any:
    """JSON from another party; raises ValueError."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("too many lists in each other") from None


def _basic(login: Login) -> str:
    import base64

    pair = f"{login.user}:{login.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _pause(header: str) -> float:
    return float(header) if header.isascii() and header.isdecimal() and len(header) < 6 else 0.0


def _detail(text: str) -> str:
    """The registry's own words, shortened: `: denied: no such user`."""
    try:
        errors = parsed(text)["errors"]
        said = "; ".join(str(one.get("message") or one.get("code") or "") for one in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    said = one_line(" ".join(said.split()))[:MAX_DETAIL].rstrip(".")
    return f": {said}" if said else ""
