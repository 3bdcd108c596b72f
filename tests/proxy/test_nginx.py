"""nginx's configuration: the text itself, and what a real nginx says of it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatling import names
from gatling.errors import InvalidInput
from gatling.platform.embedded.listening import parse_listen
from gatling.project.proxy import Options, Wishes
from gatling.proxy.nginx import main_configuration
from gatling.proxy.pages import PAGES
from gatling.proxy.site import Listen, Site

GOLDEN = Path(__file__).parent / "golden" / "nginx.conf"
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
DOMAIN = st.builds(
    lambda star, labels: star + ".".join(labels),
    st.sampled_from(["", "*."]),
    st.lists(LABEL, min_size=2, max_size=6),
).filter(lambda text: len(text) <= 253)


def site(
    root: Path, app: str, domains: tuple[str, ...], first: int, second: int | None = None
) -> Site:
    ports = {1: first, 2: second or first + 1}
    return Site(app, domains, ports, root / "apps" / app / "route")


def accept(root: Path, text: str) -> str:
    """What `nginx -t` has to say; it must take the configuration."""
    directory = root / "nginx"
    for name in ("temporary", "conf.d", "pages"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    conf = directory / "nginx.conf"
    conf.write_text(text)
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    assert program, "nginx is needed: bin/setup.sh installs it"
    done = subprocess.run(
        [program, "-t", "-q", "-p", str(directory), "-c", str(conf)],
        check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n{text}"
    return done.stderr


def test_the_whole_text_for_two_apps() -> None:
    root = Path("/srv/gatling")
    text = main_configuration(
        root / "nginx",
        Listen(("127.0.0.1:8080",)),
        [
            site(root, "blog", ("blog.localhost",), 20000),
            site(root, "shop", ("shop.localhost", "*.example.com"), 20004, 20009),
        ],
        as_root=False,
    )
    assert text == GOLDEN.read_text()


def test_only_root_names_a_user() -> None:
    root = Path("/srv/gatling/nginx")
    texts = [
        main_configuration(root, Listen(("8080",)), [], as_root=as_root)
        for as_root in (True, False)
    ]
    assert "\nuser root;\n" in texts[0]
    assert "\nuser " not in texts[1]


@settings(max_examples=15)
@given(st.data())
def test_nginx_takes_all_valid_names_and_domains(data: st.DataObject) -> None:
    apps = data.draw(st.lists(LABEL.map(names.app_name), max_size=4, unique=True))
    domains = data.draw(st.lists(DOMAIN.map(names.domain), min_size=12, max_size=12, unique=True))
    with tempfile.TemporaryDirectory(prefix="gt-") as made:
        root = Path(made)
        sites = [
            site(root, app, (f"{app}.localhost", *domains[3 * n : 3 * n + 3]), 20000 + 4 * n)
            for n, app in enumerate(apps)
        ]
        text = main_configuration(
            root / "nginx", Listen(("127.0.0.1:18080",)), sites, as_root=False
        )
        said = accept(root, text)
        assert "conflicting server name" not in said
        assert "could not build" not in said


def test_nginx_takes_a_home_with_blanks_and_a_hundred_apps(tmp_path: Path) -> None:
    root = tmp_path / "a home, with (odd) names #1"
    long = ".".join(["a" * 63] * 3)
    sites = [
        site(root, f"app{n}", (f"app{n}.localhost", f"www{n}.{long}.com"), 20000 + 4 * n)
        for n in range(100)
    ]
    text = main_configuration(root / "nginx", Listen(("*:18080",)), sites, as_root=False)
    assert "could not build" not in accept(root, text)


def test_own_configuration_is_included(tmp_path: Path) -> None:
    text = main_configuration(tmp_path / "nginx", Listen(("127.0.0.1:18080",)), [], as_root=False)
    accept(tmp_path, text)
    (tmp_path / "nginx/conf.d/own.conf").write_text("no_such_directive on;\n")
    with pytest.raises(AssertionError, match="no_such_directive"):
        accept(tmp_path, text)


def test_every_page_that_is_named_exists() -> None:
    text = GOLDEN.read_text()
    for name, page in PAGES.items():
        assert name.removesuffix(".html") in text
        assert page.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("192.0.2.1:80", ("192.0.2.1", 80)),
        ("*:443", ("*", 443)),
        ("8080", ("*", 8080)),
        ("65535", ("*", 65535)),
        ("1", ("*", 1)),
    ],
)
def test_where_to_listen(text: str, wanted: tuple[str, int]) -> None:
    assert parse_listen(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "0", "65536", "127.0.0.1", "127.0.0.1:", ":8080", "127.0.0.1:0", "localhost:80",
     "1.2.3:80", "80;", "80 ssl", " 80", "80\n", "127.0.0.1:80\n", "-80", "127.0.0.1:8080:80",
     "[::1]:80"],
)  # fmt: skip
def test_where_nobody_can_listen(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_listen(text)
    assert repr(text) in caught.value.what
    assert "127.0.0.1:8080" in caught.value.hint


@pytest.mark.parametrize(
    ("plain", "tls", "expected"),
    [
        ("80", "443", "return 308 https://$host$request_uri;"),
        ("127.0.0.1:8080", "127.0.0.1:8443", "return 308 https://$host:8443$request_uri;"),
        ("*:8080", "*:443", "return 308 https://$host$request_uri;"),
    ],
)
def test_a_redirect_to_https_names_the_port(plain: str, tls: str, expected: str) -> None:
    root = Path("/srv/gatling")
    one = site(root, "shop", ("a.example",), 20000)
    one = one._replace(certificates={"a.example": root / "one"})
    text = main_configuration(root / "nginx", Listen((plain,), (tls,)), [one], as_root=False)
    assert expected in text
    # another proxy ends TLS
    other = one._replace(certificates={}, wishes=Wishes(Options(https="redirect")))
    text = main_configuration(root / "nginx", Listen((plain,), (tls,)), [other], as_root=False)
    assert "return 308 https://$host$request_uri;" in text


@pytest.mark.parametrize(
    ("secured", "https", "expected"),
    [
        (True, "auto", ["return 308 https://a.example:8443$request_uri;"]),
        (True, "off", ["set $gatling_shown :8080;", "{ set $gatling_shown :8443; }"]),
        (False, "auto", ["set $gatling_shown :8080;", '{ set $gatling_shown ""; }']),
    ],
)
def test_a_redirect_to_the_apex_names_the_port_of_the_scheme(
    secured: bool, https: Literal["auto", "off"], expected: list[str]
) -> None:
    root = Path("/srv/gatling")
    names = ("a.example", "www.a.example")
    wishes = Wishes(Options(redirect_www="to-apex", https=https))
    kept = dict.fromkeys(names, root / "one") if secured else {}
    one = site(root, "shop", names, 20000)._replace(certificates=kept, wishes=wishes)
    listen = Listen(("127.0.0.1:8080",), ("127.0.0.1:8443",))
    text = main_configuration(root / "nginx", listen, [one], as_root=False)
    for line in expected:
        assert line in text


@pytest.mark.parametrize(
    ("directive", "module", "expected"),
    [(False, True, "listen 443 ssl http2;"), (True, True, "http2 on;"), (False, False, "")],
)
def test_http_2_as_the_version_and_the_modules_of_nginx_have_it(
    directive: bool, module: bool, expected: str
) -> None:
    root = Path("/srv/gatling")
    one = site(root, "shop", ("a.example",), 20000)
    one = one._replace(certificates={"a.example": root / "one"})
    listen = Listen(("80",), ("443",), http2_directive=directive, http2=module)
    text = main_configuration(root / "nginx", listen, [one], as_root=False)
    assert expected in text
    assert ("http2" in text) == bool(expected)


def test_http_3_is_served_for_apps_that_have_it_where_nginx_has_it() -> None:
    root = Path("/srv/gatling")
    apps = [
        site(root, name, (f"{name}.example", f"www.{name}.example"), port)._replace(
            certificates={f"{name}.example": root / name},
            wishes=Wishes(Options(http3=name == "shop", redirect_www="to-apex")),
        )
        for name, port in (("shop", 20000), ("blog", 20010))
    ]
    listen = Listen(("80",), ("443", "[::]:443"), http3=True)
    text = main_configuration(root / "nginx", listen, apps, as_root=False)
    for address in listen.tls:
        assert text.count(f"listen {address} quic reuseport default_server;") == 1
        assert text.count(f"listen {address} quic;") == 1, "with its certificate, and for it alone"
    assert text.count("""if ($https) { set $gatling_alternative 'h3=":443"; ma=3600'; }""") == 1
    without = main_configuration(root / "nginx", listen._replace(http3=False), apps, as_root=False)
    assert "quic" not in without
    assert "h3=" not in without
    assert "quic" not in main_configuration(root / "nginx", listen, apps[1:], as_root=False)
