"""gatling.toml: what it may say, and that each error has its line, its key and a way out."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import Exit, InvalidManifest
from gatling.project import manifest, template
from gatling.project.settings import HOST_ONLY, NAMED, Settings, describe, known
from gatling.project.settings import parse as parse_settings

if TYPE_CHECKING:
    from pathlib import Path

EVERY_KEY = """\
[deploy]
branch = "production"
strategy = "rolling"
second_instance = "never"
figures = "note"

[build]
toolchain = "1.18/27"
timeout = 600
release = "shop"
memory = "2G"
tasks = 500
cpu = "50%"

[health]
path = "/health"
timeout = 5.5
interval = 1

[migrate]
command = "eval 'Shop.Release.migrate()'"
setup = "eval 'Shop.Release.seed()'"
timeout = 60
rehearse = true

[limits]
memory = "512M"
tasks = 1000
cpu = "150%"

[instance]
drain = 0
drain_rate = 40
stop = 10

[rolling]
watch = "5m"

[hot]
watch = 2
rerender = false
suspend = 3
boot_check = "before"
rehearse = true
structs = true
deny = [
  "phoenix",
  "Shop.Payments",
]

[releases]
keep = 3

[cluster]
instances = 3
issuer = "letsencrypt"
base = "registry.example.com/team/base:1"
tls = true

[proxy]
body_limit = "2g"
read_timeout = 600
send_timeout = 30
buffering = true
redirect_www = "to-apex"
https = "redirect"
hsts = 31536000
http3 = true
headers = [
  "X-Frame-Options: DENY",
  "Content-Security-Policy: default-src 'self'; img-src *, data:",
]
maintenance_page = "priv/maintenance.html"
static = false
static_keep = 5

[certificates]
obtain = false
check = false
challenge = "dns"

[stats]
telemetry = false

[alerts]
errors = 2.5
latency = 500
latency_ratio = 2
memory = 80
run_queue = 8
messages = 0
quiet = "22:00-07:00"

[processes]
mailer = "start"

[processes.worker]
command = "eval Shop.Worker.run()"
instances = 2
stop = 60

[schedule.cleanup]
cron = "30 3 * * mon-fri"
command = "eval 'Shop.Cleanup.run(:all)'"
timeout = 600
overlap = "wait"
"""

NAMES = {"processes.worker.": "processes.NAME.", "schedule.cleanup.": "schedule.NAME."}
"""What stands for the names in EVERY_KEY."""


def refused(text: str | bytes) -> InvalidManifest:
    with pytest.raises(InvalidManifest) as caught:
        manifest.parse(text if isinstance(text, bytes) else text.encode())
    assert caught.value.exit_status == Exit.INVALID
    assert caught.value.hint
    return caught.value


def test_every_key_takes_effect() -> None:
    said = manifest.parse(EVERY_KEY.encode())
    values = describe(parse_settings(said))
    assert said.pop("processes.mailer.command") == "start"
    assert {*map(_anonymous, said), *HOST_ONLY} == known().keys()
    assert [key for key in said if values[key] == known()[_anonymous(key)]] == []
    assert values["hot.deny"] == "phoenix, Shop.Payments"
    assert values["hot.rehearse"] is True
    assert values["health.timeout"] == 5.5
    assert values["proxy.headers"] == (
        "X-Frame-Options: DENY | Content-Security-Policy: default-src 'self'; img-src *, data:"
    )


def _anonymous(key: str) -> str:
    return re.sub("|".join(NAMES), lambda found: NAMES[found[0]], key)


def test_an_empty_file_says_nothing() -> None:
    assert manifest.parse(b"") == {}
    assert manifest.parse(b"# nothing\n[health]\n") == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[health]\npath = "/up"\ntiemout = 3\n',
         "gatling.toml, line 3: health.tiemout is not a known key. Did you mean health.timeout?"),
        ("[heatlh]\ntimeout = 3\n",
         "gatling.toml, line 1: heatlh is not a known key. Did you mean health?"),
        ("timeout = 3\n",
         "gatling.toml, line 1: timeout is not a known key. Did you mean build.timeout?"),
        ("\n\n[health]\ntimeout = 'long'\n",
         "gatling.toml, line 4: health.timeout: expected a number, got a string."),
        ("[health]\ntimeout = -1\n",
         "gatling.toml, line 2: health.timeout: expected a number of at least 0.01."),
        ("[health]\ntimeout = nan\n",
         "gatling.toml, line 2: health.timeout: expected a number of at least 0.01."),
        ("[hot]\nboot_check = 'never'\n",
         "gatling.toml, line 2: hot.boot_check: expected one of after, before, off."),
        ("[hot]\ndeny = [\n  1,\n]\nwatch = 1\n",
         "gatling.toml, line 4: hot.deny: expected a string or an array of strings."),
        ("health = 1\n", "gatling.toml, line 1: health: expected a table, got an integer."),
        ("[releases]\nkeep = 0\n",
         "gatling.toml, line 2: releases.keep: expected an integer of at least 1."),
        ("[proxy]\nheaders = 'X-A: 1 | X-A: 2'\n",
         "gatling.toml, line 2: proxy.headers: X-A is given twice."),
        ("[build]\ndirectory = 'apps/shop'\n",
         "gatling.toml, line 2: build.directory can be set only on the host."),
        ("[processes]\nworker = 1\n",
         "gatling.toml, line 2: processes.worker: expected a string or a table, got an integer."),
        ("[processes]\nmailer = 'start'\n[processes.worker]\ncomand = 'start'\n",
         ("gatling.toml, line 4: processes.worker.comand is not a known key. Did you mean"
          " processes.worker.command?")),
        ("[processes]\nmailer = 'start'\nWorker = 'start'\n",
         ("gatling.toml, line 3: processes.Worker: a name has up to 31 of a-z, 0-9, _ and -,"
          " begins with a letter, and is not web.")),
        ("[processes.worker]\ninstances = 2\n",
         "gatling.toml, line 1: processes.worker.command is missing."),
        ("[processes.worker]\ncommand = 'start'\ninstances = 31\n",
         "gatling.toml, line 3: processes.worker.instances: expected an integer of at most 30."),
        ("[processes]\nworker = 'eval \"1'\n",
         ("gatling.toml, line 2: processes.worker.command: not a command line: No closing"
          " quotation.")),
        ("[schedule.a]\ncron = '@daily'\ncommand = 'b'\n[schedule.c]\ncron = '0 25 * * *'\n",
         "gatling.toml, line 5: schedule.c.cron: bad hour, expected such as 30 3 * * mon-fri."),
        ("[processes]\nworker = ' '\n",
         "gatling.toml, line 2: processes.worker.command: not a command line: No command."),
        ("[schedule.a]\ncron = '@daily'\ncommand = \"''\"\n",
         "gatling.toml, line 3: schedule.a.command: not a command line: No command."),
        ("[schedule.a]\ncommand = 'b'\n", "gatling.toml, line 1: schedule.a.cron is missing."),
        ("[schedule.a]\ncron = '@daily'\ncommand = 'b'\noverlap = 'kill'\n",
         "gatling.toml, line 4: schedule.a.overlap: expected one of allow, skip, wait."),
        ("schedule = 1\n", "gatling.toml, line 1: schedule: expected a table, got an integer."),
        ("[migrate]\nsetup = 'eval \"1'\n",
         "gatling.toml, line 2: migrate.setup: not a command line: No closing quotation."),
        ("[health]\npath = ['/up']\n",
         "gatling.toml, line 2: health.path: expected a string, got an array."),
        ("[[health]]\npath = '/up'\n",
         "gatling.toml, line 1: health: expected a table, got an array."),
        ("[hot]\ndeny = ['phoenix', 'a;b']\n",
         ("gatling.toml, line 2: hot.deny: expected names of applications and modules, separated"
          " by commas.")),
        ("[build]\nmemory = '2 GB'\n",
         ("gatling.toml, line 2: build.memory: expected a size such as 512M, 2G or 50%, or"
          " nothing.")),
        ("[releases]\nkeep = 1979-05-27\n",
         "gatling.toml, line 2: releases.keep: expected an integer, got a date."),
        ("[releases]\r\n\r\nkeep = 'all'\r\n",
         "gatling.toml, line 3: releases.keep: expected an integer, got a string."),
        ("# \u2028 \x85\n[health]\ntiemout = 3\n",
         "gatling.toml, line 3: health.tiemout is not a known key. Did you mean health.timeout?"),
        ('[health]\n"ti\\u202e\\nme" = 3\n',
         (r'gatling.toml, line 2: health."ti\u202e\nme" is not a known key. Did you mean'
          " health.timeout?")),
        (f"{'a' * 99} = 3\n", f'gatling.toml, line 1: "{"a" * 60}…" is not a known key.'),
        ('"a` - at `$.hot" = 1\n', 'gatling.toml, line 1: "a` - at `$.hot" is not a known key.'),
        ("\ufeff[health]\n",
         "gatling.toml, line 1: begins with a byte order mark, which TOML does not have."),
        (f"[health]\npath = '/'\ntimeout = 1{'0' * 5000}\n",
         "gatling.toml, line 3: a number with too many digits."),
        ("[health]\ntimeout = \n",
         "gatling.toml: not TOML: Invalid value (at line 2, column 11)."),
        (b"[health]\n# \xff\n", "gatling.toml, line 2: not UTF-8."),
        ("#" * manifest.MAX_BYTES + "#", "gatling.toml is larger than 16 KB."),
    ],
)  # fmt: skip
def test_an_error_has_its_line_its_key_and_a_way_out(text: str | bytes, what: str) -> None:
    assert refused(text).what == what


def test_a_hostile_depth_is_refused() -> None:
    for text in ("a = " + "[" * 16000, "a" + ".a" * 8000 + " = 1"):
        refused(text)


def test_a_hostile_file_is_refused_quickly() -> None:
    """Each prefix of it takes long to read, and there are many up to the key that is wrong."""
    begun = time.process_time()
    refused("# zz\n" + "health.a = 1\n" * 100 + "\n" * 9000 + "[health]\nzz = 1\n")
    refused("# zz\n" + "[hot]\nwatch = 1\n" + "\n" * 9000 + "[health]\nzz = 1\n")
    refused("# zz\n[health]\n" + "path.a = 1\n" * 2 + "\n" * 9000)
    assert time.process_time() - begun < 5


def test_it_is_read_from_the_project_alone(tmp_path: Path) -> None:
    assert manifest.read(tmp_path) == {}
    file, elsewhere = tmp_path / "gatling.toml", tmp_path / "secret"
    elsewhere.write_text("[health]\npath = '/secret'\n")
    file.symlink_to(elsewhere)
    with pytest.raises(InvalidManifest, match="not a link"):
        manifest.read(tmp_path)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(InvalidManifest, match="regular file"):
        manifest.read(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(InvalidManifest):
        manifest.read(tmp_path)
    file.rmdir()
    file.write_text("[health]\npath = '/up'\n")
    assert manifest.read(tmp_path) == {"health.path": "/up"}


def test_the_branch_that_a_file_names() -> None:
    assert manifest.branch(b"[deploy]\nbranch = 'live'\n") == "live"
    assert manifest.branch(b"") == ""
    assert manifest.branch(b"[deploy]\nbranch = 'live'\nnonsense = 1\n") == ""


def test_what_init_writes_is_all_defaults_and_becomes_all_keys() -> None:
    text = template.commented()
    assert manifest.parse(text.encode()) == {}
    keys = re.sub(r"^# (\[[\w.]+\]|\w+ = .*)$", r"\1", text, flags=re.MULTILINE)
    said = manifest.parse(keys.encode())
    assert {*map(_anonymous, said), *HOST_ONLY} == known().keys()
    usual = {key: value for key, value in said.items() if _anonymous(key) == key}
    assert parse_settings(usual) == Settings()


def test_the_schema_knows_the_same_keys() -> None:
    made: dict[str, Any] = template.schema()
    sections = made["$defs"]["Settings"]["properties"]
    found = {
        f"{section}.{name}"
        for section, where in sections.items()
        if section not in NAMED
        for name in made["$defs"][where["$ref"].rpartition("/")[2]]["properties"]
    }
    assert {*found, *HOST_ONLY} == describe(Settings()).keys()
    for section, model in NAMED.items():
        fields = made["$defs"][model.__name__]["properties"]
        assert {f"{section}.NAME.{name}" for name in fields} <= known().keys()
    for name, model in made["$defs"].items():
        assert model["additionalProperties"] is False
        for field in () if name == "Settings" else model["properties"].values():
            assert field["description"]
            re.compile(field.get("pattern", ""))
