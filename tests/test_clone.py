"""The commands of a clone: `bin/gatling` on somebody's own machine, and what `bin/demo` prints."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """\
#!/bin/sh
echo "$0 $*" >> {log}
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-I -m gatling "*) shift 3; echo "gatling: $*" ;;
esac
"""
"""Stands for Python: it notes each call, and makes environments that have itself."""
PIP = """\
case "$*" in
  *--no-deps*) ;;
  "-m pip install "*)
    venv=${0%/bin/python}
    mkdir -p "$venv/lib/python3.11/site-packages/gatling_deploy-2.dist-info"
    echo "$*" > "$venv/lib/python3.11/site-packages/tool.py"
    printf '#!%s\\ntool\\n' "$0" > "$venv/bin/tool" ;;
esac
[ -z "$PIP_BREAKS" ] || case "$*" in "-m pip "*) exit 1 ;; esac
"""
"""What pip leaves of a package that has a script, beside Gatling itself."""
FORBIDDEN = ("apt-get", "apt", "sudo", "brew", "dpkg-query", "nginx", "erl", "elixir", "curl")
TOOLS = (
    "bash",
    "sh",
    "env",
    "dirname",
    "readlink",
    "mkdir",
    "cp",
    "rm",
    "touch",
    "cat",
    "id",
    "uname",
)
"""Besides the shell's own, what a Mac has as well."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The scripts and the lists of versions, as in a clone."""
    made = tmp_path / "clone"
    shutil.copytree(ROOT / "bin", made / "bin")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, made)
    return made


def machine(tmp_path: Path, *, python: bool = True) -> tuple[dict[str, str], Path]:
    """A machine without a server's programs; the log of what was called."""
    programs, log = tmp_path / "programs", tmp_path / "log"
    programs.mkdir()
    log.touch()
    for name in TOOLS:
        (programs / name).symlink_to(str(shutil.which(name)))
    for name in FORBIDDEN:
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\nexit 1\n')
        (programs / name).chmod(0o755)
    if python:
        (programs / "python3").write_text(PYTHON.format(log=log))
        (programs / "python3").chmod(0o755)
    return {"PATH": str(programs), "HOME": str(tmp_path)}, log


def run(clone: Path, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(clone / "bin/gatling"), *words], env=env, check=False, capture_output=True, text=True
    )


def test_the_command_of_a_clone_installs_no_package_of_the_system(
    clone: Path, tmp_path: Path
) -> None:
    env, log = machine(tmp_path)
    done = run(clone, env, "--host", "gatling@box", "status", "a b")
    assert done.stdout == "gatling: --host gatling@box status a b\n"
    assert done.returncode == 0
    calls = log.read_text().splitlines()
    assert [call for call in calls if call.partition(" ")[0] in FORBIDDEN] == []
    assert len([call for call in calls if " -m pip install " in call]) == 1
    log.write_text("")
    assert run(clone, env, "apps").stdout == "gatling: apps\n"
    assert len(log.read_text().splitlines()) == 1, "the second time nothing is prepared"


def test_a_machine_without_python_is_told_what_to_install(clone: Path, tmp_path: Path) -> None:
    env, log = machine(tmp_path, python=False)
    done = run(clone, env, "apps")
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.startswith("gatling: please install Python 3.11 or newer")
    assert log.read_text() == ""


@pytest.mark.parametrize(
    "words",
    [
        ["gatling", "config", "set", "shop", "GREETING=Hello from the config"],
        ["gatling", "run", "shop", "--", "eval", 'IO.puts("a $b")'],
        ["git", "push", "gatling", "main"],
    ],
)
def test_the_demo_prints_commands_as_they_have_to_be_typed(words: list[str]) -> None:
    demo = (ROOT / "bin/demo").read_text()
    function = re.search(r"^typed\(\).*?^}$", demo, re.MULTILINE | re.DOTALL)
    assert function is not None
    assert re.search(r"^run\(\).*typed \"\$@\"", demo, re.MULTILINE)
    done = subprocess.run(
        ["bash", "-c", f'{function[0]}\ntyped "$@"', "demo", *words],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert shlex.split(done.stdout) == words


def prepare(clone: Path, env: dict[str, str], *, ok: bool = True) -> None:
    """Set up the Python packages of the tests."""
    words = ["bash", "-euc", ". bin/setup.sh; install_venv dev"]
    done = subprocess.run(words, cwd=clone, env=env, check=False, capture_output=True, text=True)
    assert (done.returncode == 0) == ok, done.stderr


def test_a_clone_copies_the_packages_that_another_one_has_kept(clone: Path, tmp_path: Path) -> None:
    env, log = machine(tmp_path)
    python = tmp_path / "programs/python3"
    python.write_text(python.read_text() + PIP)
    env |= {"PATH": f"{env['PATH']}:/usr/bin:/bin", "PIP_BREAKS": ""}
    others = [shutil.copytree(clone, tmp_path / f"other{number}") for number in range(3)]

    def installed() -> list[str]:
        calls = [call for call in log.read_text().splitlines() if " -m pip install " in call]
        log.write_text("")
        return calls

    prepare(clone, env)
    (call,) = installed()
    assert "--no-deps" not in call
    prepare(others[0], env)
    (call,) = installed()
    assert "--no-deps" in call
    assert call.endswith(f"--editable {others[0]}[dev]")
    venv = others[0] / ".venv"
    assert (venv / "bin/tool").read_text() == f"#!{venv}/bin/python\ntool\n"
    assert [path.name for path in venv.glob("lib/python3.11/site-packages/*")] == ["tool.py"]

    (others[1] / "constraints.txt").write_text("other versions\n")
    prepare(others[1], env | {"PIP_BREAKS": "1"}, ok=False)
    prepare(others[1], env)  # a new environment: the other one was incomplete
    assert [" --no-deps " in call for call in installed()] == [False, False]
    prepare(others[2], env)  # of whose lists nothing is kept any more
    (call,) = installed()
    assert " --no-deps " not in call
