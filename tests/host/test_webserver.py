"""The system's nginx as `gatling server` finds it, by what `nginx -T` prints."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from gatling import process
from gatling.host import webserver
from gatling.platform.server.helper import nginx

if TYPE_CHECKING:
    from pathlib import Path

DUMP = """\
# configuration file /etc/nginx/nginx.conf:
events { worker_connections 768; }
# listen 80 default_server; # a word of nobody
http { include x; }

# configuration file /etc/nginx/conf.d/theirs.conf:
server {
    listen LISTEN;
    proxy_set_header Connection $gatling_connection;  # not $gatling_upgrade
    proxy_set_header X "${gatling_scheme}";
}
# configuration file /etc/nginx/conf.d/gatling.conf:
include /etc/nginx/gatling/sites*.conf;
# configuration file /etc/nginx/gatling/sites.conf:
map $gatling_upgrade $gatling_connection { default upgrade; }
# configuration file /etc/nginx/gatling/shop.d/own.conf:
add_header X $gatling_app;
"""


def files(listen: str = "80") -> dict[str, str]:
    return webserver.configuration(DUMP.replace("LISTEN", listen))


@pytest.mark.parametrize(
    ("listen", "is_default"),
    [
        ("80", False),
        ("80 default_server", True),
        ("[::]:80 default_server", True),
        ("192.0.2.1:80 default_server reuseport", True),
        ("192.0.2.1 default_server", True),
        ("[::] default_server", True),
        ("443 ssl default_server", False),
        ("[::]:8080 default_server", False),
    ],
)
def test_who_answers_hosts_of_nobody(listen: str, is_default: bool) -> None:
    found = files(listen)
    assert webserver.default_servers(found) == ["/etc/nginx/conf.d/theirs.conf"] * is_default
    ok, what, hint = webserver.unknown_hosts(found)
    assert ok == is_default
    assert ("theirs.conf" in what) == is_default
    assert ok or "gatling recover --units" in hint


def test_files_that_use_variables_of_gatlings() -> None:
    assert webserver.variables(files()) == {
        "/etc/nginx/conf.d/theirs.conf": ["gatling_connection", "gatling_scheme"],
        "/etc/nginx/gatling/shop.d/own.conf": ["gatling_app"],
    }


def test_what_there_is_to_share() -> None:
    ((ok, what, _),) = webserver.connections(768, 1024)
    assert ok
    assert "768 connections" in what
    assert "288" in what
    assert "144" in what
    _, (ok, what, hint) = webserver.connections(4096, 1024)
    assert not ok
    assert "only 1024 files" in what
    assert hint
    assert len(list(webserver.connections(4096, 0))) == 1  # unknown


def test_the_limit_of_a_process_can_be_read_and_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    assert webserver.files_limit(os.getpid()) > 0
    assert webserver.files_limit(2**30) == 0
    monkeypatch.setattr(webserver, "master", lambda: 0)
    assert not webserver.opens_too_few()


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Debian's example site, enabled as its package does it."""
    site = tmp_path / "sites-available-default"
    site.write_text("server { listen 80 default_server; }\n")
    link = tmp_path / "default"
    link.symlink_to(site)
    monkeypatch.setattr(webserver, "EXAMPLE", link)
    monkeypatch.setattr(webserver, "DISABLED", tmp_path / "example-site")
    digest = hashlib.md5(site.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(process, "output", lambda _: f" /etc/x 123\n {site} {digest}\n")
    return link


def test_the_example_site_is_disabled_once_and_enabled_again(example: Path) -> None:
    target = example.readlink()
    assert webserver.example_is_enabled()
    webserver.disable_example()
    assert not example.is_symlink()
    assert not webserver.example_is_enabled()
    example.symlink_to(target)  # the operator wants it
    assert not webserver.example_is_enabled()
    example.unlink()
    webserver.enable_example()
    assert example.readlink() == target
    assert not webserver.DISABLED.exists()
    webserver.enable_example()


@pytest.mark.parametrize("kind", ["changed", "a file", "missing"])
def test_a_site_of_the_operators_is_left_alone(example: Path, kind: str) -> None:
    if kind == "changed":
        example.resolve().write_text("server { listen 80 default_server; server_name mine; }\n")
    elif kind == "a file":
        text = example.read_text()
        example.unlink()
        example.write_text(text)
    else:
        example.unlink()
    assert not webserver.example_is_enabled()


def test_what_uninstall_leaves_of_nginx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: Path
) -> None:
    directory, drop_in = tmp_path / "gatling", tmp_path / "nginx.service.d/gatling.conf"
    monkeypatch.setattr(nginx, "DIRECTORY", directory)
    monkeypatch.setattr(webserver, "DROP_IN", drop_in)
    for made in (directory / "pages", directory / "shop.d", drop_in.parent):
        made.mkdir(parents=True)
    (directory / "sites.conf").touch()
    (directory / "shop.d/own.conf").touch()
    webserver.disable_example()
    webserver.remove()
    assert [entry.name for entry in directory.iterdir()] == ["shop.d"]
    assert not drop_in.parent.exists()
    assert example.is_symlink()
