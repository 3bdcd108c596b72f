"""Installing on a server, again, a newer one, and taking it away."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from gatling.errors import Exit
from tests.conftest import until
from tests.server.server import CLONE, SAID, SOURCES, clone

if TYPE_CHECKING:
    from tests.server.box import Box
    from tests.server.conftest import Boxes
    from tests.server.image import Image
    from tests.server.server import Server

INSTALL = f"/{CLONE}/bin/install"
KNOWN = ("/etc", "/opt", "/usr/local", "/var/lib/gatling", "/run/gatling")


def files(box: Box) -> str:
    """What there is where an installation changes something, with owner, mode and size."""
    ignored = ("-not", "-name", "resolv.conf", "-not", "-path", "*/__pycache__*")
    # the size of a directory is that of the layer that it is in
    shown = ("(", "-type", "d", "-printf", "%p %U %G %m\n", "-o", "-printf",
             "%p %U %G %m %s %l\n", ")")  # fmt: skip
    found = box.exec(["find", *KNOWN, *ignored, *shown], check=False)
    return "\n".join(sorted(found.stdout.splitlines()))


def test_a_dry_run_on_a_clean_machine_lists_what_is_then_changed(
    boxes: Boxes, server_image: Image, venv_image: Image
) -> None:
    clean = boxes("clean")
    clone(clean)
    before = files(clean)
    said = clean.online([INSTALL, "--dry-run"])
    assert "would: install Debian packages: python3 python3-venv" in said.stderr
    assert files(clean) == before
    ready = boxes("ready", venv_image)
    clone(ready)
    before = files(ready)
    would = promised(ready.online([INSTALL, "--dry-run"], timeout=600).stdout)
    assert files(ready) == before
    # the image was made by an installation on another clean machine
    installed = boxes("installed", server_image)
    did = carried_out((installed.root / SAID).read_text())
    user = installed.exec(["id", "-u", "gatling"]).stdout.strip()
    assert len(did) > 20
    assert [re.sub(r"(?<=[-@])UID\b", user, line) for line in would] == did
    # and again: nothing is left to do
    before = files(installed)
    for words in (["--dry-run"], []):
        done = installed.online([INSTALL, *words], timeout=600)
        assert done.stdout.startswith(
            "Nothing would be" if words else "Everything was already in place."
        )
    assert files(installed) == before


def promised(text: str) -> list[str]:
    """The changes that a dry run lists."""
    return [line[7:] for line in text.splitlines() if line.startswith("would: ")]


def carried_out(text: str) -> list[str]:
    """The changes that an installation lists."""
    return list(itertools.takewhile(lambda line: not line.startswith("This machine"),
                                    text.splitlines()))  # fmt: skip


def test_only_root_installs(boxes: Boxes, server_image: Image) -> None:
    box = boxes(None, server_image)
    for words in ([f"/{CLONE}/bin/install"], ["gatling", "server", "install"],
                  ["gatling", "server", "uninstall", "--confirm", box.name]):  # fmt: skip
        box.exec(["chmod", "755", "/root"])
        done = box.exec(words, user="nobody", check=False)
        assert done.returncode == Exit.INVALID, done
        assert "needs root" in done.stderr


def test_an_installation_is_complete_and_can_be_repeated(new_server: Server) -> None:
    assert new_server.gatling("server", "install") == "Everything was already in place.\n" + HINT
    assert new_server.gatling("server", "install", "--dry-run") == "Nothing would be changed.\n"
    box = new_server.box
    for_builds = "[xmerl, os_mon, mnesia, ssh, eldap, runtime_tools]"
    load = f"[ok = application:load(One) || One <- {for_builds}], halt()."
    box.exec(["erl", "-noshell", "-eval", load])
    (box.root / "etc/ssh/sshd_config.d/gatling.conf").write_text("")
    box.exec(["chmod", "777", "/var/lib/gatling/apps"])
    said = new_server.gatling("server", "check", status=Exit.HOST)
    assert "FAIL" in said
    assert "gatling server install" in said
    said = new_server.gatling("server", "install")
    assert "write /etc/ssh/sshd_config.d/gatling.conf" in said
    assert "create /var/lib/gatling/apps (root, 711)" in said
    new_server.let_in("ann", role="admin")
    new_server.gatling("server", "check")
    assert not new_server.box.exec(["find", "/opt/gatling/", "-name", "hatchling*"]).stdout
    # a file of a package that is not the one that was tested
    pins = box.root / CLONE / "requirements.txt"
    pins.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", pins.read_text()))
    installed = box.exec(["readlink", "/opt/gatling"]).stdout
    assert box.online([INSTALL], timeout=600, check=False).returncode == Exit.HOST
    assert box.exec(["readlink", "/opt/gatling"]).stdout == installed
    until(lambda: new_server.processes("gatling") == [], "nothing of its own goes on")


HINT = "Add an SSH key: gatling server keys add NAME --role admin < KEY.pub\n"


def test_a_newer_version_takes_over_while_apps_run(new_server: Server) -> None:
    ann = new_server.let_in("ann", "shop")
    project = ann.project()
    project.push()
    live = new_server.status()
    template = new_server.box.root / CLONE / "src/gatling/platform/server/units.py"
    template.write_text(template.read_text().replace("TasksMax=8192", "TasksMax=8000"))
    helper = new_server.box.root / CLONE / "src/gatling/platform/server/helper/service.py"
    helper.write_text(helper.read_text() + "\n# newer\n")
    box, link = new_server.box, ["readlink", "/opt/gatling"]
    former = box.root / "etc/systemd/system/gatling-helper@.service"  # of an earlier version
    former.write_text("[Service]\nExecStart=/bin/true\n")
    before = box.exec(link).stdout.strip()
    would = promised(box.online([INSTALL, "--dry-run"], timeout=600).stdout)
    with new_server.client(threads=2) as client:
        did = box.online([INSTALL], timeout=600)
        assert would == carried_out(did.stdout)
        assert "write /etc/systemd/system/gatling@.service" in would
        assert f"remove /etc/systemd/system/{former.name}, of an earlier version" in would
        assert not former.exists()
        assert box.exec(link).stdout.strip() != before
        box.exec(["test", "-e", f"{before}/bin/gatling"])  # for what still runs of it
        project.title("Newer")
        assert " is live (hot upgrade) in " in project.push()
        until(lambda: "Newer" in client.texts[-1], "the new page")
    assert client.failures == []
    assert new_server.status()["pid"] == live["pid"]
    unit = new_server.show("gatling@shop.2.service", "TasksMax")
    assert unit["TasksMax"] == "4096"  # the app's own limit, in its drop-in
    assert "TasksMax=8000" in new_server.box.exec(
        ["cat", "/etc/systemd/system/gatling@.service"]
    ).stdout  # fmt: skip


EXAMPLE = "etc/nginx/sites-enabled/default"


def test_it_can_be_taken_away(new_server: Server) -> None:
    ann = new_server.let_in("ann", "shop")
    ann.project().push()
    box = new_server.box
    assert not (box.root / EXAMPLE).is_symlink()
    for host in ("nobody.example", box.ip):
        assert "No app here" in new_server.get(host=host).text
    for words, why in (
        (["--confirm", "other"], "Nothing was changed"),
        ([], f"--confirm {box.name}"),
    ):
        said = box.exec(["gatling", "server", "uninstall", *words], check=False)
        assert said.returncode == Exit.INVALID
        assert why in said.stderr
    # a site of the operator's that needs a variable of Gatling's
    theirs = box.root / "etc/nginx/conf.d/theirs.conf"
    theirs.write_text(
        "server { listen 81; location / { proxy_pass http://127.0.0.1:80;\n"
        "    proxy_set_header Connection $gatling_connection; } }\n"
    )
    confirmed = ["gatling", "server", "uninstall", "--confirm", box.name]
    said = box.exec(confirmed, check=False)
    assert said.returncode == Exit.INVALID
    assert "/etc/nginx/conf.d/theirs.conf uses $gatling_connection" in said.stderr
    assert new_server.serves("")
    theirs.unlink()
    assert box.exec(["ls", "/run/user"]).stdout
    new_server.gatling("server", "uninstall", "--confirm", box.name)
    assert box.exec(["ls", "/run/user"]).stdout == ""
    assert ann.try_run("apps").returncode != 0
    until(lambda: not new_server.serves(""), "the end of its site")
    box.exec(["nginx", "-t"])
    assert (box.root / EXAMPLE).is_symlink()
    box.exec(["sshd", "-t"])
    assert box.exec(["ps", "-u", "gatling-shop", "-o", "pid="], check=False).stdout == ""
    units = box.exec(
        ["find", "/etc/systemd", "/etc/nginx", "/etc/ssh", "/etc/tmpfiles.d", "-name", "*gatling*"]
    )
    assert units.stdout == ""
    assert (box.root / "var/lib/gatling/apps/shop/releases/v1").is_dir()
    # installed again, all is back
    box.exec(["/opt/gatling/bin/gatling", "server", "install"])
    until(lambda: new_server.serves(""), "the app", 60)
    box.exec(["/opt/gatling/bin/gatling", "server", "uninstall", "--purge", "--confirm", box.name])
    places = "/var/lib/gatling /etc/gatling /opt/gatling-toolchains /run/gatling-instances"
    places += " /var/log/journal/*gatling*"
    left = box.exec(["sh", "-c", f"ls -d {places}; grep gatling /etc/passwd"], check=False)
    assert left.stdout == ""


def test_the_readme_says_how_it_was_installed() -> None:
    from tests.server.host import ROOT

    text = (ROOT / "README.md").read_text()
    assert "sudo gatling/bin/install" in text
    assert set(SOURCES) >= {"bin", "src", "README.md"}
