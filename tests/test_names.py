"""Names from outside: what is accepted is harmless wherever it is put."""

from __future__ import annotations

import ipaddress
import re
import string
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling import names
from gatling.errors import InvalidInput
from tests.scale import scaled

EXAMPLES = settings(max_examples=scaled(30, 100))

HOSTILE = [
    "", ".", "..", "../x", "a/b", "/etc", "a\n", "\na", "a\nb", "a\0b", "\0", "a b", " a", "a ",
    "a;rm", "$(id)", "`id`", "a|b", "a&b", "a>b", "a'b", 'a"b', "a\\b", "a%b", "a{b}", "-rf", "--",
    "*", "?", "~", "é", "\uff41", "a\u200b", "a\r", "a\t", "\ud800", "a:b", "#a", "a=b", "\u0661",
]  # fmt: skip
"""What no name of any kind may be."""


def test_which_domain_is_an_address() -> None:
    for text in ("1.1.1.1", "192.0.2.7", "255.255.255.255", "127.0.0.1", "2001:db8::5", "::1"):
        assert names.is_address(names.domain(text))
    for text in ("256.0.0.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.a", "1.2.3.4\n", ""):
        assert not names.is_address(text)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("2001:db8::5", "2001:db8::5"),
        (" [2001:DB8::5]\n", "2001:db8::5"),
        ("2001:0db8:0000:0000:0000:0000:0000:0005", "2001:db8::5"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
        ("[::1]", "::1"),
        ("fd00::5", "fd00::5"),
    ],
)
def test_an_ipv6_address_is_brought_to_one_form(text: str, bare: str) -> None:
    """RFC 5952."""
    assert names.domain(text) == bare == names.domain(bare)
    assert names.host(bare) == f"[{bare}]"
    assert names.is_ipv6(bare)
    assert names.is_loopback(bare) == (bare == "::1")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fe80::1", "link-local"), ("[febf::1]", "link-local"), ("::", "unspecified"),
        ("0:0:0:0:0:0:0:0", "unspecified"), ("ff02::1", "multicast"),
        ("::ffff:192.0.2.7", "IPv4 address in another form"),
        ("::ffff:c000:207", "IPv4 address in another form"),
        ("fe80::1%eth0", "a zone"), ("[2001:db8::5%25eth0]", "a zone"),
    ],
)  # fmt: skip
def test_an_ipv6_address_under_which_nobody_finds_the_server(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=f"cannot be a domain: it .*{why}") as caught:
        names.domain(text)
    assert caught.value.hint
    if "ffff" in text:
        assert caught.value.hint == "Give 192.0.2.7 instead."


@pytest.mark.parametrize(
    "text",
    [
        "[2001:db8::5", "2001:db8::5]", "[]", "[shop.example]", "[192.0.2.7]", "2001:db8", ":1",
        "2001:db8:::5", "2001:db8::5::1", "12345::1", "1:2:3:4:5:6:7:8:9", "[[::1]]", "2001:db8::g",
        "::1;", "::1 {", "a:b", "cafe:80", "*.2001:db8::5", "[2001:db8::5%]/", "1.2.3.4:5",
    ],
)  # fmt: skip
def test_what_looks_like_an_ipv6_address(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a domain"):
        names.domain(text)


@pytest.mark.parametrize(
    "text", ["http://[2001:db8::5]/", "[2001:db8::5]:8080", "https://[2001:db8::5]:8443/a?b"]
)
def test_an_ipv6_address_in_a_url(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        names.domain(text)
    assert caught.value.hint == "Give the host name alone: [2001:db8::5]."


NASTY = st.one_of(
    st.text(max_size=70),
    st.text(alphabet="abz019-._\n\0 /*\\AZ\u0661é", max_size=70),
    st.text(alphabet="abz09-", min_size=1, max_size=66),
    st.from_regex(r"[a-z0-9.-]{1,70}\n?", fullmatch=True),
)


def accepts(check: object, text: str) -> bool:
    assert callable(check)
    try:
        check(text)
    except InvalidInput:
        return False
    return True


def is_label(text: str, also: str = "") -> bool:
    """A DNS label in lower case, said without a regular expression."""
    plain = set(string.ascii_lowercase + string.digits)
    return (
        1 <= len(text) <= 63 and set(text) <= {*plain, "-", *also} and {text[0], text[-1]} <= plain
    )


@EXAMPLES
@given(NASTY)
@example("a" * 63)
@example("a" * 64)
@example("shop\n")
@example("-a")
@example("a-")
def test_an_app_name_is_accepted_exactly_when_it_is_a_dns_label(text: str) -> None:
    assert accepts(names.app_name, text) == is_label(text)
    if is_label(text):
        assert names.app_name(text) == text
        below = (Path("/base") / f"{text}.git").resolve()
        assert below.parent == Path("/base")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_refused_everywhere(text: str) -> None:
    for check in (names.app_name, names.variable, names.otp_name, names.version):
        assert not accepts(check, text), check
    assert names.release_number(text) is None
    assert not names.is_commit(text)


@pytest.mark.parametrize("text", [t for t in HOSTILE if not is_label(t.strip())])
def test_hostile_texts_are_no_domains(text: str) -> None:
    assert not accepts(names.domain, text)


@EXAMPLES
@given(st.one_of(NASTY, st.lists(NASTY, min_size=1, max_size=5).map(".".join)))
@example("*." + ".".join(["a" * 63] * 3) + ".com")
@example("a.*.com")
@example("**.com")
@example("a..com")
@example("a.com..")
@example("x.com\n;")
@example("2001:db8::5")
@example("[::1]")
def test_a_domain_that_is_accepted_is_a_host_name(text: str) -> None:
    try:
        name = names.domain(text)
    except InvalidInput:
        return
    if names.is_ipv6(name):
        assert str(ipaddress.IPv6Address(name)) == name
        return
    assert len(name) <= 253
    assert all(is_label(part, "_") for part in name.removeprefix("*.").split("."))
    assert names.domain(name) == name


def test_domains_are_brought_to_one_form() -> None:
    assert names.domain(" Shop.Example.COM. \n") == "shop.example.com"
    assert names.domain("*.example.com") == "*.example.com"
    assert names.domain("xn--bcher-kva.example") == "xn--bcher-kva.example"
    assert names.domain("sample_project.example.com") == "sample_project.example.com"
    assert not accepts(names.domain, "_")
    long = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert names.domain(long) == long
    assert not accepts(names.domain, "c" + long)


@EXAMPLES
@given(st.one_of(NASTY, st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)))
def test_a_variable_that_is_accepted_is_a_shell_name(text: str) -> None:
    plain = bool(text) and text.isascii() and text.isidentifier()
    reserved = text.startswith(("RELEASE_", "GATLING_")) or text in {"PORT", "ERL_AFLAGS"}
    wanted = plain and (not reserved or text == "RELEASE_COOKIE")
    assert accepts(names.variable, text) == wanted


@pytest.mark.parametrize(
    "name",
    [
        "PORT", "ERL_AFLAGS", "GATLING_HOME", "GATLING_MARK", "RELEASE_NODE", "RELEASE_TMP",
        "RELEASE_DISTRIBUTION", "RELEASE_NAME", "RELEASE_",
    ],
)  # fmt: skip
def test_what_gatling_sets_cannot_be_set(name: str) -> None:
    with pytest.raises(InvalidInput, match="set by Gatling") as caught:
        names.variable(name)
    assert "ERL_ZFLAGS" in caught.value.hint


@pytest.mark.parametrize("name", ["RELEASE_COOKIE", "PORTS", "_", "path", "MIX_ENV", "RELEASES"])
def test_what_looks_like_it_and_is_not_can_be_set(name: str) -> None:
    assert names.variable(name) == name


@EXAMPLES
@given(st.text())
@example("two\nlines\r\n")
@example("a\0b")
def test_a_value_is_any_text_without_nul(text: str) -> None:
    if "\0" in text:
        assert not accepts(lambda value: names.value("KEY", value), text)
    else:
        assert names.value("KEY", text) == text


def test_the_longest_value_reaches_a_program() -> None:
    # of two bytes each: the limit is one of bytes
    longest = "é" * (names.MAX_VALUE // 2)
    assert names.value("KEY", longest) == longest
    done = subprocess.run(
        ["sh", "-c", 'printf %s "$KEY" | wc -c'], env={"KEY": longest, "PATH": "/usr/bin:/bin"},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert int(done.stdout) == names.MAX_VALUE
    with pytest.raises(InvalidInput, match=f"{names.MAX_VALUE + 1} bytes"):
        names.value("KEY", longest + "x")


@pytest.mark.parametrize("text", ["hidden\0", "hidden\ud800", "hidden" * 30000])
def test_a_refused_value_is_not_shown(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        names.value("KEY", text)
    assert "KEY" in caught.value.what
    assert "hidden" not in caught.value.what + caught.value.hint


@EXAMPLES
@given(st.integers(1, 999_999_999))
def test_a_release_is_named_by_its_number(number: int) -> None:
    assert names.release_number(f"v{number}") == number
    assert names.release_number(str(number)) == number


@pytest.mark.parametrize(
    "text", ["v0", "0", "07", "v07", "v", "vv7", "V7", "v7 ", "v7\n", "+7", "1e3", "v" + "9" * 10]
)
def test_what_is_no_release(text: str) -> None:
    assert names.release_number(text) is None


@pytest.mark.parametrize("text", ["0.1.0", "1.0.0-rc.1+build.5", "2024.01", "a"])
def test_versions_of_releases(text: str) -> None:
    assert names.version(text) == text


@EXAMPLES
@given(st.one_of(NASTY, st.from_regex(r"[0-9A-Za-z.+_-]{1,130}", fullmatch=True)))
def test_a_version_that_is_accepted_is_one_part_of_a_path(text: str) -> None:
    if accepts(names.version, text):
        assert (Path("/releases") / text / "x").resolve().parents[1] == Path("/releases")
        assert re.fullmatch(r"[!-~]{1,128}", text)
        assert text[0] not in "-."


@pytest.mark.parametrize("text", ["1..2", ".1", "-1", "+1", "_1", "1/2", "1" * 129])
def test_what_is_no_version(text: str) -> None:
    assert not accepts(names.version, text)


@pytest.mark.parametrize("text", ["shop", "shop_web", "shopWeb2"])
def test_names_of_releases(text: str) -> None:
    assert names.otp_name(text) == text


@pytest.mark.parametrize("text", ["Shop", "_shop", "1shop", "shop-web", "shop.web", "a" * 129])
def test_what_mix_would_not_take_either(text: str) -> None:
    assert not accepts(names.otp_name, text)


def test_full_object_ids_only() -> None:
    sha1, sha256 = "0f" * 20, "0f" * 32
    assert names.is_commit(sha1)
    assert names.is_commit(sha256)
    for text in (sha1[1:], sha1 + "0", sha1.upper(), sha1 + "\n", sha256 + "0", "HEAD"):
        assert not names.is_commit(text)


@pytest.mark.parametrize("text", ["a" * 120_000, "a-" * 60_000, "a://" * 30_000, "-" * 120_000])
def test_a_long_text_is_refused_as_fast_as_it_is_read(text: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidInput) as caught:
        names.domain(text)
    assert time.process_time() - began < 0.5
    assert "host name alone" not in caught.value.hint
