"""supervisord's configuration, read with supervisord's own parser."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from supervisor.options import ServerOptions, UnhosedConfigParser

from gatling.platform.embedded import configuration, launch
from gatling.platform.embedded.home import EmbeddedHome

ROOTS = [Path("/srv/gatling"), Path("/srv/two words, (and) more.d/é-_")]


def parsed(text: str, here: str = "/") -> UnhosedConfigParser:
    parser = UnhosedConfigParser()
    parser.expansions = {"here": here}
    parser.read_string(text)
    return parser


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("as_root", [True, False])
def test_everything_lies_in_the_home(root: Path, as_root: bool) -> None:
    conf = parsed(configuration.main_configuration(EmbeddedHome(root), as_root=as_root))
    assert conf.saneget("supervisord", "logfile") == f"{root}/supervisor/supervisord.log"
    assert conf.saneget("supervisord", "pidfile") == f"{root}/run/supervisord.pid"
    assert conf.saneget("unix_http_server", "file") == str(EmbeddedHome(root).supervisor_socket)
    assert conf.saneget("unix_http_server", "chmod") == "0600"
    assert conf.saneget("rpcinterface:gatling", "apps") == f"{root}/apps"
    assert conf.saneget("rpcinterface:gatling", "requests") == f"{root}/nginx/requests.log"
    assert conf.saneget("supervisord", "user", None) == ("root" if as_root else None)


@pytest.mark.parametrize("root", ROOTS)
def test_a_program_is_started_by_gatling_alone_and_then_kept_running(root: Path) -> None:
    slot = EmbeddedHome(root).app("shop").slot(2)
    conf = parsed(configuration.program("shop.2", slot))
    section = "program:shop.2"
    command = shlex.split(conf.saneget(section, "command"))
    assert command == [sys.executable, "-I", "-S", launch.__file__, str(slot)]
    assert conf.saneget(section, "directory") == str(slot)
    assert conf.saneget(section, "autostart") == "false"
    assert conf.saneget(section, "autorestart") == "true"
    assert conf.saneget(section, "stopsignal") == "TERM"
    assert conf.saneget(section, "redirect_stderr") == "true"
    assert conf.saneget(section, "stdout_events_enabled") == "true"
    assert conf.saneget(section, "stdout_logfile") == "NONE"


def test_supervisord_reads_two_apps_and_the_proxy(tmp_path: Path) -> None:
    home = EmbeddedHome(tmp_path / "a home")
    directory = home.supervisor
    (directory / "apps").mkdir(parents=True)
    for needed in (home.nginx, home.run):
        needed.mkdir()
    conf = directory / "supervisord.conf"
    conf.write_text(configuration.main_configuration(home, as_root=False))
    for app in ("shop", "blog-2"):
        programs = []
        for slot in (1, 2):
            home.app(app).slot(slot).mkdir(parents=True)
            programs.append(configuration.program(f"{app}.{slot}", home.app(app).slot(slot)))
        (directory / "apps" / f"{app}.conf").write_text("".join(programs))
    options = ServerOptions()
    options.realize(["-c", str(conf)])
    groups = {group.name: group.process_configs for group in options.process_group_configs}
    assert set(groups) == {"proxy", "shop.1", "shop.2", "blog-2.1", "blog-2.2"}
    for name, (program,) in groups.items():
        assert program.name == name
        assert not program.autostart
        assert program.startretries == configuration.RETRIES
        assert program.startsecs == configuration.SETTLED_SECONDS
        assert program.stopwaitsecs > 3600  # Gatling itself decides when to kill
        logged = program.stdout_logfile
        assert not logged or 0 < program.stdout_logfile_maxbytes <= 1 << 20, logged
        wanted = home.nginx if name == "proxy" else None
        app, _, slot_number = name.rpartition(".")
        assert program.directory == str(wanted or home.app(app).slot(int(slot_number)))
