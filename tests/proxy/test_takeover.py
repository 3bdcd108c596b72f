"""How a configuration is applied: wherever a command dies, the next one completes it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from gatling import files
from gatling.errors import ProxyRefused
from gatling.platform.base import State, Status, local_status
from gatling.platform.embedded.router import EmbeddedRouter
from gatling.platform.server.helper import nginx as system_nginx
from gatling.project.proxy import Wishes
from gatling.proxy import generations, parts, takeover
from gatling.proxy.site import Site
from gatling.state import apps, domains, home_settings, passwords
from gatling.state.database import open_database
from tests.conftest import until
from tests.places import embedded_home
from tests.proxy.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HASH = "$6$" + "s" * 16 + "$" + "h" * 86
OTHER = "$6$" + "t" * 16 + "$" + "h" * 86


class Killed(BaseException):
    """The command ends here, and cleans nothing up."""


class Proxy:
    """An nginx that has read one text, and refuses texts with certain words."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.loaded = ""
        self.refused: tuple[str, ...] = ()
        self.dies: str | None = None

    def test(self, candidate: Path) -> Sequence[str]:
        if self.dies == "test":
            raise Killed
        return [f'"{word}" directive is duplicate' for word in self.refused
                if word in candidate.read_text()]  # fmt: skip

    def reload(self) -> None:
        if self.dies == "before the reload":
            raise Killed
        if self.dies == "failed reload":
            raise ProxyRefused("nginx did not reload.")
        self.loaded = self.file.read_text()
        if self.dies == "after the reload":
            raise Killed

    def take(self, text: str) -> bool:
        return takeover.take(
            self.file,
            lambda without: parts.left_out(text, without),
            test=self.test,
            conflicts=parts.conflicts,
            reload=self.reload,
        )


@pytest.fixture
def proxy(tmp_path: Path) -> Proxy:
    made = Proxy(tmp_path / "nginx.conf")
    assert made.take("first;\n") is True
    assert made.take("first;\n") is False
    return made


@pytest.mark.parametrize(
    "point", ["write", "test", "mark", "rename", "before the reload", "after the reload"]
)
@pytest.mark.parametrize("wanted", ["second;\n", "first;\n", "third;\n"])
def test_killed_anywhere_the_next_command_completes_it(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, point: str, wanted: str
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if point == "write":
            patch.setattr(files, "write", killed)
        elif point == "mark":
            patch.setattr(takeover, "_mark", killed)
        elif point == "rename":
            patch.setattr(type(proxy.file), "rename", killed)
        else:
            proxy.dies = point
        with pytest.raises(Killed):
            proxy.take("second;\n")
    proxy.dies = None
    proxy.take(wanted)
    assert proxy.loaded == proxy.file.read_text() == wanted
    assert proxy.take(wanted) is False
    assert sorted(entry.name for entry in proxy.file.parent.iterdir()) == ["nginx.conf"]


def test_a_failed_reload_is_made_up_for(proxy: Proxy) -> None:
    proxy.dies = "failed reload"
    with pytest.raises(ProxyRefused):
        proxy.take("second;\n")
    with pytest.raises(ProxyRefused):
        proxy.take("second;\n")
    proxy.dies = None
    assert proxy.take("second;\n") is True
    assert proxy.loaded == "second;\n"


def test_what_nginx_refuses_is_never_applied(proxy: Proxy) -> None:
    proxy.refused = ("broken",)
    with pytest.raises(takeover.Refused) as caught:
        proxy.take("broken;\n")
    assert caught.value.log == ['"broken" directive is duplicate']
    assert proxy.file.read_text() == proxy.loaded == "first;\n"
    assert not takeover.unread(proxy.file)


def test_http_3_gives_way_to_a_site_of_the_operator_s_own() -> None:
    """Messages of nginx 1.26.3 and 1.30.6."""
    said = "[emerg] 7#7: duplicate listen options for {} in /etc/nginx/sites-enabled/own:2"
    for address in ("0.0.0.0:443", "[::]:443"):
        assert parts.conflicts([said.format(address)]) == {parts.HTTP3}
    assert parts.conflicts([said.format("0.0.0.0:80")]) == frozenset()


def test_what_the_operator_has_set_already_is_left_out_each_time(proxy: Proxy) -> None:
    proxy.refused = ("server_names_hash_max_size", "client_body_timeout")
    text = "server_names_hash_max_size 1;\n  client_body_timeout 1s;\nrest;\n"
    assert proxy.take(text) is True
    for _ in range(3):
        assert proxy.take(text) is False
        assert proxy.file.read_text() == proxy.loaded == "rest;\n"
    proxy.refused = ()
    assert proxy.take(text) is True
    assert proxy.loaded == text


# ---------------------------------------------------------------- the system's nginx


class System:
    """Root's helper, and the programs it calls."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls: list[str] = []
        self.dies = ""
        self.refuses: dict[str, str] = {}

    def call(self, argv: list[str], **_: Any) -> str:
        line = " ".join(argv)
        if self.dies and self.dies in line:
            raise Killed
        if argv[0] == "unshare":
            text = (self.directory / "sites.conf.candidate").read_text()
            for word, message in self.refuses.items():
                if word in text:
                    raise subprocess.CalledProcessError(1, argv, stderr=message.encode())
        self.calls.append(line)
        return ""

    def write(self, *domains: str, hashed: str = HASH) -> dict[str, Any]:
        wishes = Wishes(passwords={"*": {"ann": hashed}})
        site = Site("shop", domains, {1: 20000, 2: 20001}, self.directory / "route", wishes)
        log = self.directory / "gatling-requests"
        return system_nginx.write([site], self.call, self.directory, log)

    def text(self) -> str:
        return (self.directory / "sites.conf").read_text()

    def users(self) -> set[str]:
        return {file.read_text() for file in (self.directory / "auth/shop").iterdir()}


@pytest.fixture
def system(tmp_path: Path) -> System:
    made = System(tmp_path / "nginx")
    assert made.write("a.example") == {"changed": True}
    made.calls.clear()
    return made


@pytest.mark.parametrize("dies", ["unshare", "show", "reload-or-restart"])
def test_a_helper_that_dies_is_made_up_for(system: System, dies: str) -> None:
    system.dies = dies
    with pytest.raises(Killed):
        system.write("a.example", "b.example")
    assert ("b.example" in system.text()) == (dies != "unshare")
    system.dies = ""
    assert system.write("a.example", "b.example") == {"changed": True}
    assert system.calls[-1] == "systemctl reload-or-restart nginx.service"
    assert "b.example" in system.text()
    system.calls.clear()
    assert system.write("a.example", "b.example") == {"changed": False}
    assert system.calls == []


def test_the_applied_file_is_never_the_one_that_is_tested(system: System) -> None:
    before = system.text()
    system.refuses = {"b.example": "nginx: [emerg] no"}
    answer = system.write("a.example", "b.example")
    assert answer == {"invalid": True, "log": ["nginx: [emerg] no"]}
    assert system.text() == before
    assert not [line for line in system.calls if "reload" in line]


def test_other_default_servers_and_sizes_take_precedence(system: System) -> None:
    duplicate = "nginx: [emerg] {} in /etc/nginx/sites-enabled/default:22"
    system.refuses = {
        " default_server;": duplicate.format("a duplicate default server for 0.0.0.0:80"),
        "hash_bucket_size 512": duplicate.format(
            '"server_names_hash_bucket_size" directive is duplicate'
        ),
    }
    for wanted in (True, False, False):
        assert system.write("a.example", "b.example") == {"changed": wanted}
        assert "b.example" in system.text()
        assert " default_server;" not in system.text()
        assert "hash_bucket_size 512" not in system.text()
        assert "server_names_hash_max_size" in system.text()


def test_a_refused_configuration_leaves_the_old_password(system: System) -> None:
    system.refuses = {"shop": "nginx: [emerg] no"}
    system.write("a.example", hashed=OTHER)
    named = [line for line in system.text().splitlines() if "auth_basic_user_file" in line]
    used = {line.rpartition("/")[2].rstrip('";') for line in named}
    assert [(system.directory / "auth/shop" / name).read_text() for name in used] == [
        f"ann:{HASH}\n"
    ]
    system.refuses = {}
    system.write("a.example", hashed=OTHER)
    assert system.users() == {f"ann:{OTHER}\n"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("events {\n\tworker_connections 768;\n}", 768),
        ("events { worker_connections 4096; }", 4096),
        ("events {\n# worker_connections 9;\n}", 512),
        ("", 512),
    ],
)
def test_how_many_connections_nginx_has(tmp_path: Path, text: str, wanted: int) -> None:
    (tmp_path / "nginx.conf").write_text(text)
    assert system_nginx.worker_connections(tmp_path / "nginx.conf") == wanted
    assert system_nginx.worker_connections(tmp_path / "missing") == 512


@pytest.mark.parametrize("connections", [1, 512, 768, 8192])
def test_two_apps_together_leave_room_only_if_neither_has_it_all(connections: int) -> None:
    share = parts.limits(connections)
    assert share.client <= share.app
    if connections >= 512:
        assert 2 * share.app < connections  # a request takes two connections


# ---------------------------------------------------------------- an embedded home's nginx


class Supervisor:
    """As far as the proxy needs one: nginx runs as this process."""

    def __init__(self) -> None:
        self.pid: int | None = None

    def running(self) -> bool:
        return self.pid is not None

    def status(self, _name: str) -> Status:
        return local_status(State.RUNNING, self.pid, 5.0)


def test_a_reload_that_was_lost_comes_with_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = embedded_home(tmp_path / "h")
    home.nginx.rmdir()
    home.nginx.mkdir()
    bench = Bench(home.nginx)
    db = open_database(home.database)
    home_settings.put(db, "listen", f"127.0.0.1:{bench.port}")
    supervisor: Any = Supervisor()
    router = EmbeddedRouter(home, db, supervisor)
    apps.create(db, "shop", lambda _port: True)
    router.point("shop", None)
    router.configure(apps.every(db))

    def statuses(host_: str) -> int:
        return bench.get(host=host_)[0]

    with bench.running() as process:
        supervisor.pid = process.pid
        until(lambda: statuses("shop.localhost") == 503, "the app's page")
        domains.add(db, "shop", "new.example")

        def killed(*_: object) -> bool:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(generations, "reloaded", killed)
            with pytest.raises(Killed):
                router.configure(apps.every(db))
        assert statuses("new.example") == 404  # recorded, and not read by nginx
        assert router.configure(apps.every(db)) is True
        assert statuses("new.example") == 503
        assert router.configure(apps.every(db)) is False

        # and one that nginx does not accept
        passwords.put(db, "shop", "*", "ann", HASH)
        own = home.nginx / "conf.d/own.conf"
        own.write_text("no_such_directive;\n")
        with pytest.raises(ProxyRefused) as caught:
            router.configure(apps.every(db))
        assert any("no_such_directive" in line for line in caught.value.log)
        assert statuses("new.example") == 503
        own.write_text("client_body_timeout 5s;\n")
        assert router.configure(apps.every(db)) is True
        router.point("shop", 1)
        assert statuses("new.example") == 401
    db.close()
