"""What a project says of its proxy, as clients see it; maintenance, passwords, digested files."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import Answer, new_world, until
from tests.home import echo, secure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World

HOST = "echo.localhost"
FIRST, SECOND = "1" * 32, "2" * 32
TOML = """\
[proxy]
maintenance_page = "pages/away.html"
headers = ["X-Frame-Options: DENY", "Permissions-Policy: usb=(self \\"https://a.org\\"), a=();"]
"""
FILES = {
    f"priv/static/assets/app-{FIRST}.css": "first",
    f"priv/static/assets/app-{FIRST}.css.gz": "not really gzip",
    "priv/static/assets/app.css": "plain",
    "priv/static/robots.txt": "robots",
    "pages/away.html": "<h1>Wir sind gleich zurück</h1>",
    "gatling.toml": TOML,
}


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """`echo` is live, with files of its own and a page for maintenance."""
    with new_world() as world:
        made = echo.load(world)
        for path, text in FILES.items():
            made.write(path, text)
        made.commit("what a project says of its proxy")
        made.push()
        yield made


@pytest.fixture
def world(project: Project) -> World:
    return project.world


@contextlib.contextmanager
def settings(world: World, *assignments: str) -> Iterator[None]:
    """Settings for a while; they are in force when the command has ended."""
    assert "applied" in world.run("settings", "set", "echo", *assignments)
    try:
        yield
    finally:
        keys = [text.partition("=")[0] for text in assignments]
        world.run("settings", "unset", "echo", *keys)


def ask(
    world: World, path: str = "/", *, host: str = HOST, method: str = "GET", body: bytes = b"",
    **headers: str,
) -> Answer:  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
    with contextlib.closing(connection):
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, {"Host": host} | fields)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode("latin-1"))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_headers_of_all_answers(world: World) -> None:
    failed = "/hangup"
    for path, status in (("/", 200), ("/says/404", 404), (failed, 502), ("/says/503", 503)):
        answer = ask(world, path)
        assert answer.status == status, path
        assert answer.headers.get_all("X-Frame-Options") == ["DENY"], path
        policy = 'usb=(self "https://a.org"), a=();'
        assert answer.headers["Permissions-Policy"] == policy, path
    host_s = 'proxy.headers=X-Host: a\'b{};c # "d"'
    with settings(world, host_s):
        answer = ask(world)
        assert answer.headers["X-Host"] == 'a\'b{};c # "d"'
        assert "X-Frame-Options" not in answer.headers  # what the host says is all of it
    assert ask(world).headers["X-Frame-Options"] == "DENY"


def test_hostile_headers_are_refused_and_change_nothing(world: World) -> None:
    conf = world.home / "nginx/nginx.conf"
    before = conf.read_text()
    for value in ("X-A: $host", "X-A: b\\", "X-A: b\nX-B: c", "Set-Cookie: a=b", "X-A", 'X";: a'):
        done = world.try_run("settings", "set", "echo", f"proxy.headers={value}")
        assert done.returncode == Exit.INVALID, value
        assert "headers" in done.stdout
    assert conf.read_text() == before


def test_how_large_a_body_may_be(world: World) -> None:
    body = b"x" * 5000
    assert ask(world, method="POST", body=body).status == 200
    with settings(world, "proxy.body_limit=4k"):
        answer = ask(world, method="POST", body=body)
        assert answer.status == 413
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert ask(world, method="POST", body=body[:4096]).status == 200


def test_how_long_the_app_may_keep_silent(world: World) -> None:
    with settings(world, "proxy.read_timeout=1"):
        assert ask(world, "/after/1700").status == 504
    assert ask(world, "/after/1200").status == 200


def test_how_long_the_app_may_not_listen(world: World) -> None:
    """It is given up when it takes nothing of a body; there is more of it than sockets hold."""
    body = bytes(40_000_000)
    with settings(world, "proxy.send_timeout=1"):
        assert ask(world, "/deaf", method="POST", body=body).status == 504


def test_whether_answers_are_taken_faster_than_clients_take_them(world: World) -> None:
    def sent_whole(seconds: float) -> bool:
        """Whether the app is rid of a large answer of which the client has read a piece."""
        before = int(ask(world, "/streamed").text)
        with socket.create_connection(("127.0.0.1", world.port), timeout=60) as client:
            client.sendall(f"GET /stream/60 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert client.recv(4)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if int(ask(world, "/streamed").text) > before:
                    return True
                time.sleep(0.05)
        return False

    assert not sent_whole(2)
    with settings(world, "proxy.buffering=true"):
        assert sent_whole(60)


def test_www_is_sent_to_the_apex_and_back(world: World) -> None:
    names = ("shop.test", "www.shop.test")
    for name in names:
        world.run("domains", "add", "echo", name)
    path = "/a%20b//c?d=e&f=%2F"
    for mode, source, target in (("to-apex", *names[::-1]), ("to-www", *names)):
        with settings(world, f"proxy.redirect_www={mode}"):
            answer = ask(world, path, host=source, method="POST")
            assert answer.status == 308
            assert answer.headers["Location"] == f"http://{target}:{world.port}{path}"
            assert answer.headers["X-Frame-Options"] == "DENY"
            forwarded = ask(world, path, host=source, X_Forwarded_Proto="https")
            assert forwarded.headers["Location"] == f"https://{target}{path}"
            assert ask(world, path, host=target).status == 200
            assert ask(world).status == 200
            # another host in the request's line is another host
            assert ask(world, "http://evil.test/x", host=source).status == 404
            for hostile in ("//evil.test/", "/\\evil.test", f"http://{source}//evil.test"):
                where = ask(world, hostile, host=source).headers["Location"]
                assert where.startswith(f"http://{target}:{world.port}/"), where
    for name in names:
        assert ask(world, host=name).status == 200
        world.run("domains", "remove", "echo", name)


def test_http_is_sent_to_https(world: World) -> None:
    world.run("domains", "add", "echo", "*.wild.test")
    said = world.run("settings", "set", "echo", "proxy.https=redirect")
    assert "nothing answers on the proxy's port 443" in said
    assert "gatling settings unset echo proxy.https" in said
    with settings(world, "proxy.https=redirect"):
        answer = ask(world, "/a?b=%20c", method="POST")
        assert (answer.status, answer.headers["Location"]) == (308, f"https://{HOST}/a?b=%20c")
        assert ask(world, X_Forwarded_Proto="https").status == 200
        assert ask(world, host="a.wild.test").headers["Location"] == "https://a.wild.test/"
        for hostile in ("evil.test#.wild.test", "evil.test?.wild.test", "a@evil.test%2f.wild.test"):
            answer = ask(world, host=hostile)
            assert answer.status == 400, hostile
            assert "Location" not in answer.headers
        # the prober is no browser: it sees the app
        world.run("restart", "echo")
        probe = world.last("echo")["probe"]
        assert (probe["failed"], probe["held"]) == (0, 0)
    world.run("domains", "remove", "echo", "*.wild.test")
    assert ask(world).status == 200


def test_passwords(world: World) -> None:
    words = "correct horse: battery$(staple)"
    world.run("domains", "add", "echo", "staging.test")
    said = world.run("auth", "add", "echo", "Staging.test", "ann", stdin=f"{words}\n")
    assert "ann can access staging.test" in said
    good = basic("ann", words)
    assert ask(world).status == 200
    answer = ask(world, host="staging.test")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="echo"'
    for wrong in (basic("ann", "x"), basic("bob", words), basic("ann", ""), "Bearer x"):
        assert ask(world, host="staging.test", Authorization=wrong).status == 401
    answer = ask(world, host="staging.test", Authorization=good)
    assert answer.status == 200
    assert "authorization" not in answer.text.lower()  # the app is not told
    assert ask(world, f"/assets/app-{FIRST}.css", host="staging.test").status == 401

    world.run("auth", "add", "echo", "*", "bob.2@x", stdin="pw")
    assert ask(world).status == 401
    assert ask(world, Authorization=good).status == 401
    for host in (HOST, "staging.test"):
        assert ask(world, host=host, Authorization=basic("bob.2@x", "pw")).status == 200
    listed = [{"domain": "*", "user": "bob.2@x"}, {"domain": "staging.test", "user": "ann"}]
    assert world.json("auth", "list", "echo") == listed
    world.run("restart", "echo")
    assert "answered by the password prompt" in world.run(
        "deployments", "echo", str(world.last("echo")["id"])
    )

    world.run("auth", "add", "echo", "staging.test", "ann", stdin="another")
    assert ask(world, host="staging.test", Authorization=good).status == 401
    world.run("auth", "remove", "echo", "*", "bob.2@x")
    assert ask(world).status == 200
    assert "is public" in world.run("auth", "remove", "echo", "staging.test", "ann")
    assert ask(world, host="staging.test").status == 200
    assert list((world.home / "nginx/auth").iterdir()) == []
    world.run("domains", "remove", "echo", "staging.test")
    found = subprocess.run(
        ["grep", "-rlaF", "horse: battery", str(world.home)], check=False, capture_output=True
    )
    assert found.stdout == b"", "the password is nowhere"


def records(world: World) -> list[object]:
    lists = ("domains", "auth", "settings")
    return [world.json(name, "list", "echo") for name in lists]


COMMANDS = (
    ("domains", "add", "echo", "refused.test"),
    ("domains", "remove", "echo", "kept.test"),
    ("auth", "add", "echo", "*", "bob"),
    ("auth", "add", "echo", "kept.test", "ann"),
    ("auth", "remove", "echo", "kept.test", "ann"),
    ("settings", "set", "echo", "proxy.body_limit=1k"),
)


def test_a_command_that_fails_leaves_records_and_nginx_as_they_were(world: World) -> None:
    world.run("domains", "add", "echo", "kept.test")
    world.run("auth", "add", "echo", "kept.test", "ann", stdin="pw")
    before = records(world)
    conf, own = world.home / "nginx/nginx.conf", world.home / "nginx/conf.d/own.conf"
    text = conf.read_text()
    own.write_text("no_such_directive;\n")
    try:
        for command in COMMANDS:
            done = world.try_run(*command, stdin="another\n")
            assert done.returncode == Exit.HOST, done.stdout
            assert "no_such_directive" in done.stdout
    finally:
        own.unlink()
    # a file that nginx reads besides its configuration cannot be written
    page = world.home / "apps/echo/route/maintenance.html"
    (page / "in-the-way").mkdir(parents=True)
    try:
        for words in ("settings set echo proxy.body_limit=1k", "maintenance on echo"):
            done = world.try_run(*words.split())
            assert done.returncode == Exit.FAILURE, done.stdout
            assert "could not be written: Is a directory." in done.stdout
    finally:
        (page / "in-the-way").rmdir()
        page.rmdir()
    assert [conf.read_text(), records(world)] == [text, before]
    assert world.status("echo")["maintenance"] is False
    assert ask(world, host="kept.test").status == 401
    assert ask(world, host="kept.test", Authorization=basic("ann", "pw")).status == 200
    assert ask(world, method="POST", body=b"x" * 5000).status == 200
    world.run("auth", "remove", "echo", "kept.test", "ann")
    world.run("domains", "remove", "echo", "kept.test")


def test_who_cannot_be_let_in(world: World) -> None:
    for arguments, stdin, status in (
        (("other.test", "ann"), "pw", Exit.NOT_FOUND),
        (("*", "a:b"), "pw", Exit.INVALID),
        (("*", "ann\n"), "pw", Exit.INVALID),
        (("*", "ann"), "", Exit.INVALID),
        (("*", "ann"), "\n", Exit.INVALID),
        (("*", "ann"), "x" * 129, Exit.INVALID),
        (("*", "ann"), "a\tb", Exit.INVALID),
    ):
        done = world.try_run("auth", "add", "echo", *arguments, stdin=stdin)
        assert done.returncode == status, (arguments, done.stdout)
    assert world.try_run("auth", "remove", "echo", "*", "ann").returncode == Exit.NOT_FOUND
    assert world.json("auth", "list", "echo") == []
    assert ask(world).status == 200


def test_maintenance_and_a_push_behind_it(project: Project) -> None:
    world = project.world
    world.run("maintenance", "on", "echo")
    for path in ("/", "/says/200", f"/assets/app-{FIRST}.css"):
        answer = world.get(path, host=HOST)
        assert answer.status == 503
        assert answer.text == FILES["pages/away.html"]
        assert (answer.headers["Retry-After"], answer.headers["Cache-Control"]) == (
            "60", "no-store",
        )  # fmt: skip
        assert answer.headers["X-Frame-Options"] == "DENY"
    assert world.status("echo")["maintenance"] is True
    assert world.status("echo")["state"] == "running"
    assert "maintenance      on\n" in world.run("status", "echo")
    assert "running, in maintenance" in world.run("apps")

    project.write("pages/away.html", "<h1>another page</h1>")
    project.replace("lib/echo.ex", "Body-Bytes", "Bytes-Of-Body")
    project.commit("behind the page")
    said = project.push()
    probe = world.last("echo")["probe"]
    assert probe["failed"] == 0
    assert probe["held"] == probe["requests"] > 0
    assert "answered by the maintenance page" in said
    assert world.get(host=HOST).text == "<h1>another page</h1>"

    world.run("down")
    world.run("up")
    assert world.get(host=HOST).status == 503
    world.run("maintenance", "on", "echo", "--message", 'Back at <14:00> & "soon"')
    assert "Back at &lt;14:00&gt; &amp; &quot;soon&quot;" in world.get(host=HOST).text
    assert 'Back at <14:00> & "soon"' in world.run("status", "echo")
    world.run("maintenance", "off", "echo")
    answer = world.get(host=HOST)
    assert answer.status == 200
    assert "Bytes-Of-Body" in answer.text
    assert world.status("echo")["maintenance"] is False
    assert "maintenance" not in world.run("status", "echo")


@contextlib.contextmanager
def health(world: World, **values: object) -> Iterator[None]:
    """Settings of the health check for a while: for the deployments within it."""
    pairs = [f"health.{key}={value}" for key, value in values.items()]
    world.run("settings", "set", "echo", *pairs)
    try:
        yield
    finally:
        world.run("settings", "unset", "echo", *(f"health.{key}" for key in values))


def test_https_with_the_authority_of_the_home(world: World) -> None:
    port = secure.tls_port(world)
    world.run("up", "--tls", f"127.0.0.1:{port}")
    try:
        with secure.connect(world, HOST) as client:
            request = f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
            client.sendall(request.encode())
            answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        for name, value in (("Proto", "https"), ("Port", port), ("Host", f"{HOST}:{port}")):
            assert f"x-forwarded-{name}: {value}\r\n".lower() in answer.lower(), answer
        assert f"\r\nhost: {HOST}:{port}\r\n" in answer.lower()
        with secure.connect(world, HOST) as client:
            origin = f"Host: {HOST}:{port}\r\nOrigin: https://{HOST}:{port}\r\n"
            upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            client.sendall(f"GET /socket HTTP/1.1\r\n{origin}{upgrade}".encode())
            answer = ""
            while not answer.endswith("hello"):
                answer += client.recv(65536).decode()
            assert answer.startswith("HTTP/1.1 101")
            client.sendall(b"and back")
            assert client.recv(65536) == b"and back"
        with health(world, path="/https/200"):
            said = world.run("restart", "echo")
        assert f"https://{HOST}:{port}" in said
        assert "force_ssl" not in said
    finally:
        world.run("up", "--no-tls")
    assert ask(world).status == 200


def test_an_app_that_sends_to_https_is_looked_at_behind_that(project: Project) -> None:
    world = project.world
    with health(world, path="/https/200"):
        project.write("by-https.md", "as Phoenix' force_ssl does")
        project.commit("health is behind https")
        said = project.push()
        probe = world.last("echo")["probe"]
        assert (probe["failed"], probe["https"]) == (0, True)
        assert "sent as if over HTTPS" in said
        assert f"run `gatling up --tls`, or exclude {HOST} from force_ssl" in said

    # time enough to boot on a busy machine: what answers with an error is asked to the end of it
    with health(world, path="/https/500", timeout=20):
        project.write("by-https.md", "and is broken there")
        project.commit("broken behind https")
        said = project.push(ok=False)
        project.git("reset", "--hard", "--quiet", "HEAD~1")
        assert "GET /https/500: it answered 500" in said

    # what the release before did is no matter
    with health(world, path="/https/200"):
        project.replace("lib/echo.ex", "~r/^x-forwarded-proto: https/im", "~r/^GET/")
        project.commit("as to any client")
        said = project.push()
        assert "sent as if over HTTPS" in said
        assert "force_ssl" not in said


def test_a_page_that_is_not_there_fails_the_push(project: Project) -> None:
    project.replace("gatling.toml", "pages/away.html", "pages/typo.html")
    project.commit("a typo")
    said = project.push(ok=False)
    assert "the commit has no file pages/typo.html" in said
    assert project.world.steps("echo") == ["export_source"]
    project.git("reset", "--hard", "--quiet", "HEAD~1")
    assert project.world.get(host=HOST).status == 200


def test_a_page_loaded_before_a_deployment_finds_its_files(project: Project) -> None:
    world = project.world
    old, new = f"/assets/app-{FIRST}.css", f"/assets/app-{SECOND}.css"
    assert "GET" in world.get(new, host=HOST).text, "the app's"
    project.git("rm", "--quiet", *(p for p in FILES if FIRST in p))
    project.write(f"priv/static{new}", "second")
    project.replace("gatling.toml", "[proxy]\n", "[proxy]\nread_timeout = 77\n")
    project.commit("other files")
    live = world.status("echo")["release"]
    (world.home / f"apps/echo/releases/{live}/upload.png").write_text("an upload")
    assert f"{live} has files that the app wrote there" in project.push()
    assert "proxy_read_timeout 77s;" in (world.home / "nginx/nginx.conf").read_text()
    for path, text in ((old, "first"), (new, "second")):
        answer = world.get(path, host=HOST)
        assert (answer.status, answer.text) == (200, text)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Content-Type"] == "text/css"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert world.get(path, host=HOST, method="HEAD").status == 200
        assert f"POST {path}" in world.get(path, host=HOST, method="POST").text
    packed = ask(world, old, Accept_Encoding="gzip")
    assert (packed.text, packed.headers["Content-Encoding"]) == ("not really gzip", "gzip")
    # whatever is not there is the app's, as it was requested
    for path in ("/robots.txt", "/assets/app.css", "/assets/", f"/x%20y/z-{FIRST}.css?a=%2F",
                 f"/.static.new/x-{FIRST}", f"{old}/x"):  # fmt: skip
        assert ask(world, path).text.startswith(f"GET {path} HTTP"), path

    world.run("stop", "echo")
    assert world.get(old, host=HOST).text == "first"
    assert world.get(host=HOST).status == 503
    world.run("start", "echo")

    with settings(world, "proxy.static_keep=0"):
        assert f"GET {old}" in world.get(old, host=HOST).text
        assert world.get(new, host=HOST).text == "second"
    with settings(world, "proxy.static=false"):
        assert f"GET {new}" in world.get(new, host=HOST).text
    assert world.get(old, host=HOST).text == "first"

    world.run("rollback", "echo")
    assert "proxy_read_timeout 120s;" in (world.home / "nginx/nginx.conf").read_text()
    for path, text in ((old, "first"), (new, "second")):
        assert world.get(path, host=HOST).text == text
    until(lambda: ask(world).status == 200, "the app")
