"""Names that come from outside, validated before they reach a path, a program or nginx."""

from __future__ import annotations

import re

from gatling.errors import InvalidInput

# RFC 1123, section 2.1: a DNS label; it becomes a directory, a host name and a program's name.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# texts, which `re` compiles when one is used: a command uses few of them
_APP = rf"{_LABEL}\Z"
# with underscores in it: DNS, browsers and nginx take them, and Gatling 1's own example has one
_HOST = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_DOMAIN = rf"(?:\*\.)?{_HOST}(?:\.{_HOST})*\Z"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_ADDRESS = rf"{_BYTE}(?:\.{_BYTE}){{3}}\Z"
# RFC 4291, section 2.2, with the brackets of a URL and the zone of RFC 4007
_ADDRESS_6 = r"(\[)?([0-9a-f.]*:[0-9a-f:.]{1,44})(%[^\]/]*)?(?(1)\])\Z"
_URL = r"(?s)(?:[a-z]+://)?(\[[^\]/]*\]|[^/:]*)[/:].*\Z"
_PROCESS_SLOT = r"[a-z][a-z0-9_-]{0,30}\.[1-9][0-9]?\Z"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z"
_COMMIT = r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z"
_RELEASE = r"v?([1-9][0-9]{0,8})\Z"
_OTP_NAME = r"[a-z][a-zA-Z0-9_]{0,127}\Z"
_VERSION = r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,127}\Z"

MAX_DOMAIN = 253
"""Characters of a host name (RFC 1035, section 2.3.4, without the final dot)."""
MAX_VALUE = 120 * 1024
"""Bytes of one variable: Linux takes 128 KiB for `NAME=value`, execve(2)."""

RESERVED_PREFIXES = ("RELEASE_", "GATLING_")
RESERVED = frozenset({"PORT", "ERL_AFLAGS"})
SETTABLE = frozenset({"RELEASE_COOKIE"})


def app_name(text: str) -> str:
    """A valid app name: a DNS label of lower-case letters, digits and inner hyphens."""
    if not re.match(_APP, text):
        raise InvalidInput(
            f"{text!r} cannot be an app's name.",
            hint="Use 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end.",
        )
    return text


def is_app(text: str) -> bool:
    """Whether this can be an app's name."""
    return re.match(_APP, text) is not None


def is_process_slot(text: str) -> bool:
    """Whether this is the slot of a process: its name and a number, such as `worker.1`."""
    return re.match(_PROCESS_SLOT, text) is not None


def domain(text: str) -> str:
    """A valid host name (a leading `*.` allowed), in lower case, without the final dot.

    An IPv6 address may have brackets and is returned without them, in the form of RFC 5952.
    """
    name = text.strip().lower().removesuffix(".")
    if (address := _address_6(name)) is not None:
        return address
    if not _is_domain(name):
        # not of a text that is longer than any domain: it may be a stranger's
        url = re.match(_URL, name) if len(name) <= MAX_DOMAIN else None
        host = url[1] if url else name
        hint = (
            "Use a host name such as shop.example.com. Write international names in punycode"
            " (xn--…)."
        )
        if host != name and (_is_domain(host) or re.match(_ADDRESS_6, host)):
            hint = f"Give the host name alone: {host}."
        raise InvalidInput(f"{text!r} is not a domain.", hint=hint)
    return name


def _is_domain(name: str) -> bool:
    return len(name) <= MAX_DOMAIN and re.match(_DOMAIN, name) is not None


def _address_6(name: str) -> str | None:
    """An IPv6 address in the form of RFC 5952; None for a text that is none.

    Raises InvalidInput for one that no other machine can reach an app under.
    """
    found = re.match(_ADDRESS_6, name)
    if found is None:
        return None
    import ipaddress  # for few apps

    try:
        address = ipaddress.IPv6Address(found[2])
    except ValueError:
        return None
    why = hint = ""
    if found[3]:
        why = f"has a zone ({found[3]}), which means nothing to other machines"
    elif address.ipv4_mapped:
        why, hint = "is an IPv4 address in another form", f"Give {address.ipv4_mapped} instead."
    elif address.is_unspecified:
        why = "is the unspecified address, which stands for no machine"
    elif address.is_multicast:
        why = "is a multicast address, which stands for no single machine"
    elif address.is_link_local:
        why = "is a link-local address, which is valid on one network link only"
    if why:
        hint = hint or "`ip -6 address show scope global` lists the addresses of a server."
        raise InvalidInput(f"{name} cannot be a domain: it {why}.", hint=hint)
    return str(address)


def is_address(name: str) -> bool:
    """Whether a domain is an IP address, under which an app can be reached without DNS."""
    return is_ipv6(name) or re.match(_ADDRESS, name) is not None


def is_ipv6(name: str) -> bool:
    """Whether a domain is an IPv6 address."""
    return ":" in name


def is_loopback(name: str) -> bool:
    """Whether a domain is an address that a machine has for itself."""
    return name == "::1" or (name.startswith("127.") and is_address(name))


def host(name: str) -> str:
    """A domain as URLs and the header Host have it: an IPv6 address in brackets (RFC 3986)."""
    return f"[{name}]" if is_ipv6(name) else name


def is_wildcard(name: str) -> bool:
    """Whether a domain stands for all with one more label, which a CA verifies by DNS alone."""
    return name.startswith("*.")


def variable(text: str) -> str:
    """A valid name of a config variable that Gatling does not set by itself."""
    if not re.match(_VARIABLE, text):
        raise InvalidInput(
            f"{text!r} cannot be a variable's name.",
            hint="Use up to 255 letters, digits and underscores, not beginning with a digit.",
        )
    if text in RESERVED or (text.startswith(RESERVED_PREFIXES) and text not in SETTABLE):
        raise InvalidInput(
            f"{text} is set by Gatling for each instance and cannot be set by hand.",
            hint="To add flags for the BEAM, set ERL_ZFLAGS or ELIXIR_ERL_OPTIONS.",
        )
    return text


def value(name: str, text: str) -> str:
    """A value that an environment can hold: any text but NUL, up to 120 KiB."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInput(f"The value of {name} is not valid UTF-8.") from None
    if "\0" in text:
        raise InvalidInput(f"The value of {name} has a NUL, which no environment can hold.")
    if size > MAX_VALUE:
        raise InvalidInput(f"The value of {name} has {size} bytes; at most {MAX_VALUE} fit.")
    return text


def is_commit(text: str) -> bool:
    """Whether this is a full object id (SHA-1 or SHA-256) as git prints it."""
    return bool(re.match(_COMMIT, text))


def release_number(text: str) -> int | None:
    """7 for `v7` or `7`; None when the text does not name a release."""
    match = re.match(_RELEASE, text)
    return int(match[1]) if match else None


def otp_name(text: str) -> str:
    """A release's name, as mix accepts it (an atom in lower case)."""
    if not re.match(_OTP_NAME, text):
        raise InvalidInput(f"{text!r} is not the name of an OTP release.")
    return text


def version(text: str) -> str:
    """A release's version: it is part of a path (`releases/VERSION`)."""
    if not re.match(_VERSION, text) or ".." in text:
        raise InvalidInput(f"{text!r} is not the version of an OTP release.")
    return text
