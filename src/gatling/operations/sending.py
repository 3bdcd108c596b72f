"""One attempt to send a notification: a signed webhook, a mail, or a message to a chat service.

Webhooks follow Standard Webhooks 1.0 (github.com/standard-webhooks/standard-webhooks,
spec/standard-webhooks.md): the headers webhook-id, webhook-timestamp and webhook-signature.
"""

from __future__ import annotations

import base64
import contextlib
import email.message
import email.utils
import hashlib
import hmac
import io
import json
import logging
import secrets
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gatling import __version__, visible
from gatling.errors import GatlingError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    import apprise
    import requests

    from gatling.state.notices import Channel, Kind, Notice

SECONDS = 10.0
"""Time limit for each wait of an attempt: to connect, and for an answer."""
MAIL_SERVER = ("localhost", 25)
MAX_TARGET = 2000
_SECRET = "whsec_"  # noqa: S105 (the prefix of the specification)
_GONE = 410
_LOCAL_SCHEMES = frozenset(
    {"dbus", "kde", "qt", "glib", "gnome", "macosx", "windows", "syslog", "smpp", "file"}
)
"""Services of apprise that work on a desktop, or on this machine only."""


class NotDelivered(GatlingError):
    """A notification was not accepted; another attempt may be."""

    code = "not-delivered"

    def __init__(self, what: str, *, hint: str = "", retry_after: float = 0) -> None:
        """`retry_after` is the number of seconds that the other side asked for."""
        super().__init__(what, hint=hint)
        self.retry_after = retry_after


def new_secret() -> str:
    """A new key for the signatures of a webhook, as receivers want it."""
    return _SECRET + base64.b64encode(secrets.token_bytes(32)).decode()


def kind_of(target: str) -> Kind:
    """The kind of channel for a target; raises InvalidInput for what is none."""
    try:
        parts = urlsplit(target)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise _no_target() from None
    if len(target) > MAX_TARGET or not target.isprintable() or " " in target or not port_is_fine:
        raise _no_target()
    scheme = parts.scheme.lower()
    if scheme in ("http", "https"):
        if not parts.hostname:
            raise _no_target()
        return "webhook"
    if scheme == "mailto":
        return _mail(parts.path)
    if scheme in _LOCAL_SCHEMES or _service(target) is None:
        raise _no_target()
    return "chat"


def shown(target: str) -> str:
    """A target without what may be secret in it: its scheme and host, or its address."""
    parts = urlsplit(target)
    if parts.scheme.lower() == "mailto":
        return target
    host = parts.hostname if parts.scheme.lower() in ("http", "https") else None
    return f"{parts.scheme}://{host}/…" if host else f"{parts.scheme}://…"


def send(channel: Channel, notice: Notice, host: str) -> None:
    """Send a notification; raises NotDelivered."""
    by_kind = {"webhook": _post, "mail": _send_mail, "chat": _tell_service}
    by_kind[channel.kind](channel, notice, host)


def content(notice: Notice, host: str) -> dict[str, object]:
    """The JSON of a webhook: its type, time and data."""
    data = {"app": notice.app, "host": host, "title": notice.title, "text": notice.body}
    return {"type": notice.event, "timestamp": notice.at, "data": data | notice.data}


def signature(secret: str, ident: str, timestamp: int, body: bytes) -> str:
    """The signature of a webhook: HMAC-SHA256 of id, time and body, in base64."""
    key = base64.b64decode(secret.removeprefix(_SECRET))
    signed = f"{ident}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _post(channel: Channel, notice: Notice, host: str) -> None:
    import requests

    body = json.dumps(content(notice, host)).encode()
    at = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"gatling/{__version__}",
        "webhook-id": notice.mark,
        "webhook-timestamp": str(at),
        "webhook-signature": signature(channel.secret, notice.mark, at, body),
    }
    try:
        with requests.post(
            channel.target, data=body, headers=headers, timeout=SECONDS, stream=True,
            allow_redirects=False, auth=_as_it_is,
        ) as answer:  # fmt: skip
            status, later = answer.status_code, answer.headers.get("Retry-After", "")
    except requests.RequestException as error:
        raise NotDelivered(f"{shown(channel.target)}: {_reason(error)}.") from None
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise NotDelivered(
            f"{shown(channel.target)} answered with a redirect (status {status}).",
            hint="Add the channel again, with the address that is redirected to.",
        )
    hint = "It wants no more notifications: remove the channel." if status == _GONE else ""
    seconds = float(later) if later.isdecimal() and len(later) < 7 else 0.0
    raise NotDelivered(
        f"{shown(channel.target)} answered with status {status}.", hint=hint, retry_after=seconds
    )


def _send_mail(channel: Channel, notice: Notice, host: str) -> None:
    import smtplib

    message = email.message.EmailMessage()
    message["Subject"] = f"[{host}] {_line(notice.title)}"
    message["From"] = f"Gatling <gatling@{socket.getfqdn()}>"
    message["To"] = urlsplit(channel.target).path
    message["Date"] = email.utils.formatdate(localtime=False)
    message["Message-ID"] = f"<{notice.mark}@{socket.getfqdn()}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic answers, please
    message.set_content(text(notice, host))
    try:
        with smtplib.SMTP(*MAIL_SERVER, timeout=SECONDS) as server:
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise NotDelivered(
            f"The mail server of this host did not take the mail: {_line(str(error))}",
            hint="Install one (such as postfix), or name another: mailtos://USER:PASSWORD@HOST.",
        ) from None


def _tell_service(channel: Channel, notice: Notice, host: str) -> None:
    service = _service(channel.target)
    if service is None:
        raise NotDelivered(f"{shown(channel.target)} is no service that is known any more.")
    with _said() as said:
        accepted = service.notify(
            title=f"[{host}] {_line(notice.title)}", body=text(notice, host), body_format="text"
        )
    if not accepted:
        why = _without(channel.target, said.getvalue().strip().rpartition("\n")[2])
        raise NotDelivered(
            f"{shown(channel.target)} did not take the message{f' ({why})' if why else ''}."
        )


def text(notice: Notice, host: str) -> str:
    """A notification as plain text."""
    shown_text = "\n".join(visible.one_line(line) for line in notice.body.splitlines())
    parts = [_line(notice.title), shown_text, f"{notice.event} on {host}, {notice.at}"]
    return "\n\n".join(part for part in parts if part)


def _service(target: str) -> apprise.NotifyBase | None:
    import apprise

    with _said():
        service = apprise.Apprise.instantiate(target, suppress_exceptions=True)
    return service if isinstance(service, apprise.NotifyBase) else None


@contextlib.contextmanager
def _said() -> Iterator[io.StringIO]:
    """Keep what apprise logs from standard error."""
    logger, kept = logging.getLogger("apprise"), io.StringIO()
    handler = logging.StreamHandler(kept)
    handler.setLevel(logging.WARNING)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield kept
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _mail(address: str) -> Kind:
    local, at, domain = address.partition("@")
    if not (at and local and domain) or "@" in domain or not address.isascii() or "," in address:
        raise _no_target()
    return "mail"


def _without(target: str, said: str) -> str:
    """A log line of apprise without the parts of the target, which may be secret."""
    for part in sorted(target.replace("?", "/").replace("&", "/").split("/"), key=len)[::-1]:
        if len(part) > 5:
            said = said.replace(part, "…")
    return _line(said)[:200]


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Send no credentials of a .netrc file."""
    return request


def _reason(error: requests.RequestException) -> str:
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not valid"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "the connection failed"


def _line(words: str) -> str:
    return visible.one_line(" ".join(words.split()))


def _no_target() -> InvalidInput:
    return InvalidInput(
        "This is no target for notifications.",
        hint="Give an https:// address, mailto:ADDRESS, or a chat service in the form of apprise,"
        " such as slack://…, discord://…, ntfy://TOPIC (docs/how-to/notifications.md).",
    )
