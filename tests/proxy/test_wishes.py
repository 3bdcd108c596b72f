"""What apps say of their proxy: refused, or text that nginx reads as what it is."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling.errors import InvalidInput
from gatling.platform.server.helper import nginx as system_nginx
from gatling.platform.server.helper.shapes import Refused
from gatling.project import headers, proxy
from gatling.project.proxy import Options, Wishes
from gatling.project.settings import Proxy, parse
from gatling.proxy import passwords
from gatling.proxy.nginx import main_configuration, password_files, server_blocks
from gatling.proxy.parts import limits
from gatling.proxy.site import Listen, Site
from tests.proxy.test_nginx import GOLDEN, accept
from tests.scale import scaled

HASH = "$6$" + "s" * 16 + "$" + "h" * 86
ALL = Wishes(
    Options(
        body_limit="2g",
        read_timeout=600,
        send_timeout=30,
        buffering=True,
        redirect_www="to-apex",
        https="redirect",
        headers='X-Frame-Options: DENY | Permissions-Policy: a=(self "https://b.org"), c=();',
    ),
    {"*": {"ann": HASH}, "*.shop.example": {"ci": HASH}},
)
DOMAINS = ("shop.example", "www.shop.example", "*.shop.example")


def blocks(wishes: Wishes, domains: tuple[str, ...] = DOMAINS, listen: str = "80") -> str:
    root = Path("/srv/gatling")
    site = Site("shop", domains, {1: 20000, 2: 20001}, root / "route", wishes)
    share = limits(768)
    return server_blocks(
        site, Listen((listen,)), root / "pages", root / "auth", share, "/etc/own/*.conf"
    )


def test_the_whole_text_with_everything() -> None:
    assert blocks(ALL) == GOLDEN.with_name("everything.conf").read_text()


def test_the_defaults_of_the_settings_are_those_of_the_proxy() -> None:
    for name in Options._fields:
        assert getattr(Proxy(), name) == getattr(Options(), name), name


def test_domains_have_a_block_each_where_they_differ() -> None:
    text = blocks(ALL)
    assert text.count("server {") == 3
    site = Site("shop", DOMAINS, {1: 20000, 2: 20001}, Path("/srv/gatling/route"), ALL)
    for name in password_files(site):
        assert f'auth_basic_user_file "/srv/gatling/auth/shop/{name}";' in text  # quoted, always
    assert blocks(Wishes()).count("server {") == 1
    assert "auth_basic_user_file" not in blocks(Wishes())


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("off", {}),
        ("to-apex", {"www.a.org": "a.org"}),
        ("to-www", {"a.org": "www.a.org"}),
    ],
)
def test_only_a_pair_redirects(mode: str, wanted: dict[str, str]) -> None:
    assert proxy.redirects(("a.org", "www.a.org", "www.b.org", "c.org", "*.d.org"), mode) == wanted


def test_a_high_port_stays_unless_it_is_https() -> None:
    wishes = Wishes(Options(redirect_www="to-www"))
    text = blocks(wishes, listen="127.0.0.1:8080")
    assert "set $gatling_shown :8080;" in text
    assert "return 308 $gatling_scheme://www.shop.example$gatling_shown$request_uri;" in text
    assert "gatling_shown" not in blocks(wishes)


HOSTILE = st.lists(
    st.sampled_from([*"\r\n\0\"'\\$;{}#|: ,\té\u2028aZ-", "X-A", "$host", '";}', "add_header"]),
    max_size=30,
).map("".join)


@settings(max_examples=scaled(100, 400))
@given(st.lists(HOSTILE, max_size=3).map(": ".join) | HOSTILE | st.text(max_size=20))
@example("X-A: a\r\nSet-Cookie: b=c")
@example('X-A: ";} server {')
@example("X-A: $document_root")
@example("X-A: a\\")
@example("X-A\n: a")
@example("X-A: a | x-a: b")
@example("X-A: a\n")
def test_headers_are_refused_or_plain_text(text: str) -> None:
    try:
        found = headers.parse(text)
    except InvalidInput:
        return
    for name, value in found:
        assert name.isascii()
        assert name.replace("-", "a").isalnum()
        assert value.isascii()
        assert value.isprintable()
        assert not {"$", "\\", "|"} & set(value)


@pytest.mark.parametrize(
    "name",
    ["Set-Cookie", "content-length", "Transfer-Encoding", "Location", "X-Accel-Redirect",
     "Connection", "Cache-Control", "", "X A", "X_A", "-X", "X" * 65],
)  # fmt: skip
def test_what_is_not_a_projects_to_say(name: str) -> None:
    with pytest.raises(InvalidInput):
        headers.parse(f"{name}: 1")
    with pytest.raises(InvalidInput, match="headers"):
        parse({"proxy.headers": f"{name}: 1"})


def test_how_many_and_how_long() -> None:
    assert len(headers.parse(" | ".join(f"X-{n}: {n}" for n in range(32)))) == 32
    for text in (" | ".join(f"X-{n}: {n}" for n in range(33)), "X-A: " + "a" * 4096):
        with pytest.raises(InvalidInput):
            headers.parse(text)


VALUE = st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="$\\|"), min_size=1,
    max_size=40,
).map(str.strip).filter(bool)  # fmt: skip
HEADERS = st.dictionaries(
    st.from_regex(r"X-[A-Za-z0-9-]{1,20}", fullmatch=True).map(str.lower).filter(
        lambda name: not name.startswith("x-accel-")), VALUE, max_size=4,
).map(lambda found: " | ".join(f"{name}: {value}" for name, value in found.items()))  # fmt: skip
USERS = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", fullmatch=True), st.just(HASH),
    min_size=1, max_size=2,
)  # fmt: skip
WISHES = st.builds(
    Wishes,
    st.builds(
        Options,
        body_limit=st.from_regex(r"0|[1-9][0-9]{0,5}[kmgKMG]", fullmatch=True),
        read_timeout=st.integers(1, 86400),
        send_timeout=st.integers(1, 86400),
        buffering=st.booleans(),
        redirect_www=st.sampled_from(proxy.WWW),
        https=st.sampled_from(proxy.HTTPS),
        hsts=st.integers(0, proxy.MAX_HSTS),
        headers=HEADERS,
        static=st.booleans(),
    ),
    st.dictionaries(st.sampled_from(["*", *DOMAINS]), USERS, max_size=3),
)


@settings(max_examples=40)
@given(WISHES)
@example(ALL)
def test_nginx_takes_all_that_is_not_refused(wishes: Wishes) -> None:
    assert proxy.checked(json.loads(json.dumps(wishes.plain()))) == wishes
    with tempfile.TemporaryDirectory(prefix="gt-") as made:
        root = Path(made)
        sites = [
            Site("blog", ("blog.localhost",), {1: 20000, 2: 20001}, root / "blog"),
            Site("shop", DOMAINS, {1: 20004, 2: 20005}, root / "a b" / "shop", wishes),
        ]
        listen = "127.0.0.1:18080"
        text = main_configuration(root / "nginx", Listen((listen,)), sites, as_root=False)
        accept(root, text)
        # and nothing else changes: the other app's block, and how many there are
        alone = main_configuration(root / "nginx", Listen((listen,)), sites[:1], as_root=False)
        assert text.startswith(alone.removesuffix("}\n"))
        assert text.count("\n    server {") <= 2 + len(DOMAINS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("body_limit", "1m; root /"), ("body_limit", "1m\n"), ("body_limit", "-1"),
        ("body_limit", 1), ("read_timeout", "60s; x"), ("read_timeout", 0),
        ("read_timeout", True), ("read_timeout", 1.5), ("send_timeout", 86401),
        ("buffering", "on; x"), ("buffering", 1), ("static", None), ("redirect_www", "to-evil"),
        ("redirect_www", ["off"]), ("https", "on"), ("https", {}), ("headers", ["X-A: 1"]),
        ("headers", "X-A: 1\nX-B: 2"), ("headers", 'X-A: $http_cookie"'), ("route", "/etc"),
        ("ports", [1, 2]),
    ],
)  # fmt: skip
def test_roots_helper_refuses_options_that_are_none(key: str, value: Any) -> None:
    item = {"app": "shop", "domains": ["a.org"], "ports": [2000, 2001], "options": {key: value}}
    with pytest.raises((InvalidInput, Refused)):
        system_nginx.site(item, Path("/srv"), Path("/srv/none"))


@pytest.mark.parametrize(
    "given_",
    [
        [], {"a.org": {}}, {"a.org": {"ann": "secret"}}, {"a.org": {"ann": HASH + "\n"}},
        {"a.org": {"ann\nbob": HASH}}, {"a.org": {"ann:x": HASH}}, {"../x": {"ann": HASH}},
        {"A.org": {"ann": HASH}}, {"a.org": {"ann": None}}, {"a.org": ["ann"]},
        {"": {"ann": HASH}}, {"**": {"ann": HASH}}, {"a.org": {"": HASH}},
        {"a.org": {"ann": "$apr1$x$y"}},
    ],
)  # fmt: skip
def test_roots_helper_refuses_passwords_that_are_none(given_: Any) -> None:
    item = {"app": "shop", "domains": ["a.org"], "ports": [2000, 2001], "passwords": given_}
    with pytest.raises((InvalidInput, Refused)):
        system_nginx.site(item, Path("/srv"), Path("/srv/none"))


def test_roots_helper_takes_what_is_meant() -> None:
    item = {"app": "shop", "domains": list(DOMAINS), "ports": [2000, 2001]} | ALL.plain()
    assert (
        system_nginx.site(json.loads(json.dumps(item)), Path("/srv"), Path("/srv/none")).wishes
        == ALL
    )
    del item["options"], item["passwords"]
    assert system_nginx.site(item, Path("/srv"), Path("/srv/none")).wishes == Wishes()


def test_files_of_passwords_come_and_go(tmp_path: Path) -> None:
    directory = tmp_path / "auth"
    site = Site("shop", DOMAINS, {1: 1, 2: 2}, tmp_path, ALL)
    written = passwords.write([site], directory)
    written.remove_others()
    files = list((directory / "shop").iterdir())
    # whoever may enter all domains may enter one that has users of its own
    assert sorted(file.read_text() for file in files) == [
        f"ann:{HASH}\n",
        f"ann:{HASH}\nci:{HASH}\n",
    ]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)

    # others are in other files: the ones before stay as they are until they are removed
    other = HASH.replace("s" * 16, "t" * 16)
    less = Site("shop", DOMAINS, {1: 1, 2: 2}, tmp_path, Wishes(passwords={"*": {"ann": other}}))
    written = passwords.write([less], directory)
    assert {file.read_text() for file in files} < {
        file.read_text() for file in (directory / "shop").iterdir()
    }
    written.remove_others()
    assert [file.read_text() for file in (directory / "shop").iterdir()] == [f"ann:{other}\n"]
    passwords.write([], directory).remove_others()
    assert list(directory.iterdir()) == []
