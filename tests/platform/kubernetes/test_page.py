"""The program that answers with the maintenance page, run on this machine."""

from __future__ import annotations

import http.client
import subprocess
from typing import TYPE_CHECKING

from gatling.platform.kubernetes import page
from tests.conftest import until
from tests.platform.kubernetes.test_objects import PODS
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from pathlib import Path


def ask(port: int, method: str, body: bytes = b"") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, "/any/path?x=1", body)
        answer = connection.getresponse()
        return answer.status, answer.headers["Retry-After"], answer.read()
    finally:
        connection.close()


def test_every_request_is_answered_with_the_page(tmp_path: Path) -> None:
    port, text = free_port(), "<h1>Bäck soon</h1>".encode()
    (tmp_path / "page.html").write_bytes(text)
    (container,) = page.deployment(PODS, "")["spec"]["template"]["spec"]["containers"]
    (program,) = [one["value"] for one in container["env"] if one["name"] == "SERVE"]
    assert "$(" not in program
    program = program.replace("/page/page.html", str(tmp_path / "page.html"))
    program = program.replace("4000", str(port))

    def answers() -> bool:
        try:
            return ask(port, "GET")[0] == 503
        except OSError:
            return False

    with subprocess.Popen(["erl", "-noinput", "+S", "1", "-eval", program]) as server:
        try:
            until(answers, "the page")
            assert ask(port, "GET") == (503, "60", text)
            assert ask(port, "HEAD") == (503, "60", b"")
            assert ask(port, "POST", b"x" * 100_000) == (503, "60", text)
        finally:
            server.kill()


def test_another_text_is_another_pod() -> None:
    first, second = page.deployment(PODS, "a"), page.deployment(PODS, "b")
    assert first["metadata"] == second["metadata"]
    assert first["spec"]["template"] != second["spec"]["template"]
    (volume,) = [v for v in first["spec"]["template"]["spec"]["volumes"] if "secret" in v]
    assert volume["secret"]["secretName"] == page.secret(PODS, "a")["metadata"]["name"]
