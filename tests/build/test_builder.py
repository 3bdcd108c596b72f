"""A build, seen from outside: its steps, its output, what is refused and what is left.

What a real mix does is tests/push' business. Here a script takes the place of `elixir`: it gets
the same arguments and says and leaves what a test wants.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from gatling import proc, process
from gatling.build import builder, environment, vm
from gatling.errors import BuildFailed, DiskFull, Exit, HelperFailed, MissingProgram
from gatling.platform.embedded.home import EmbeddedPaths
from gatling.platform.embedded.tasks import LocalTasks
from gatling.project.settings import Build
from tests.conftest import until
from tests.places import surroundings

if TYPE_CHECKING:
    from pathlib import Path

ARGUMENTS = """
IFS= read -r line; echo "$line" | base64 -d | tr '\\0' '\\n' > "$0.said"
{ read -r directory; read -r marker; read -r tree; read -r release; } < "$0.said"
"""
RELEASE = """
mkdir -p "$tree/bin" "$tree/releases/0.1.0"
echo '15.0 0.1.0' > "$tree/releases/start_erl.data"
touch "$tree/releases/0.1.0/shop.rel"
printf '#!/bin/sh\\n' > "$tree/bin/shop"; chmod +x "$tree/bin/shop"
"""
STEPS = """
step() { echo "$marker begin $1"; echo "output of $1"; echo "$marker end $1"; }
step mix_deps_get; step mix_compile
echo "$marker fact elixir 1.18.0"; echo "$marker fact otp 27.2 (a b)"
"""


class Watcher:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def line(self, text: str) -> None:
        self.told.append(("line", text))

    def begin(self, step: str) -> None:
        self.told.append(("begin", step))

    def end(self, step: str, seconds: float) -> None:
        assert seconds >= 0
        self.told.append(("end", step))


class Builds:
    """Builds with a script in the place of `elixir`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths = EmbeddedPaths(root / "home", "shop")
        self.paths.source.mkdir(parents=True)
        self.program = root / "bin" / "elixir"
        self.program.parent.mkdir()
        self.watcher = Watcher()
        self.mark = f"test:{root}"
        monkeypatch.setenv("PATH", f"{self.program.parent}:{os.environ['PATH']}")

    def build(
        self, script: str, config: dict[str, str] | None = None, settings: Build | None = None
    ) -> builder.Built:
        self.program.write_text(f"#!/bin/sh\n{ARGUMENTS}{script}")
        self.program.chmod(0o755)
        wanted = settings or Build(timeout=30)
        return builder.build(
            LocalTasks(),
            surroundings(self.paths.home),
            config or {},
            wanted,
            self.mark,
            self.watcher,
        )

    def fail(self, script: str, settings: Build | None = None) -> BuildFailed:
        with pytest.raises(BuildFailed) as caught:
            self.build(script, settings=settings)
        assert not self.paths.staging.exists()
        return caught.value


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builds:
    return Builds(tmp_path, monkeypatch)


def test_a_build_tells_its_steps_and_what_it_made(builds: Builds) -> None:
    built = builds.build(STEPS + RELEASE)
    assert built == builder.Built(builds.paths.staging, "shop", "0.1.0", "1.18.0", "27.2 (a b)")
    assert builds.watcher.told == [
        ("begin", "mix_deps_get"), ("line", "output of mix_deps_get"), ("end", "mix_deps_get"),
        ("begin", "mix_compile"), ("line", "output of mix_compile"), ("end", "mix_compile"),
    ]  # fmt: skip


def test_scripts_for_windows_are_not_mentioned(builds: Builds) -> None:
    line = "* skipping %s.bat for windows (bin/%s.bat not found in the Elixir installation)"
    kept = "* skipping runtime configuration (config/runtime.exs not found)"
    printed = [line % ("elixir", "elixir"), kept, line % ("iex", "iex")]
    script = "".join(f"echo {shlex.quote(each)}\n" for each in printed)
    builds.build(f"{STEPS}{script}{RELEASE}")
    assert builds.watcher.told[6:] == [("line", kept)]


def test_what_looks_like_a_marker_is_output(builds: Builds) -> None:
    forged = ["@gatling begin forged", "@gatling-0123456789abcdef begin forged",
              "@gatling-0123456789abcdef fact elixir 9.9", " @gatling-", "begin forged",
              "@gatling- end mix_compile"]  # fmt: skip
    script = "".join(f"echo {shlex.quote(line)}\n" for line in forged)
    built = builds.build(f"{STEPS}{script}{RELEASE}")
    assert [("line", line) for line in forged] == builds.watcher.told[6:]
    assert built.elixir == "1.18.0"


def test_the_marker_is_another_one_each_time(builds: Builds) -> None:
    seen = builds.paths.home / "markers"
    for _ in range(2):
        builds.build(f'echo "$marker" >> {shlex.quote(str(seen))}\n{RELEASE}')
    first, second = seen.read_text().split()
    assert first != second
    # a later build is not fooled by a marker that an earlier one has learnt
    built = builds.build(f'echo "{first} fact elixir 9.9"\n{RELEASE}')
    assert built.elixir == ""


def test_a_step_that_fails_is_named_with_its_last_lines(builds: Builds) -> None:
    error = builds.fail(
        'echo "$marker begin mix_compile"; seq 100; echo "** (CompileError) lib/a.ex:2"; exit 1'
    )
    assert error.what == "mix compile failed: elixir exited with status 1."
    assert error.exit_status == Exit.BUILD_FAILED
    assert error.log[-1] == "** (CompileError) lib/a.ex:2"
    assert error.log[0] != "1"
    assert len(error.log) == process.TAIL_LINES
    assert error.log_shown  # the pusher has just read them


def test_a_failure_between_the_steps(builds: Builds) -> None:
    assert builds.fail(f"{STEPS}exit 3").what == "the build failed: elixir exited with status 3."
    assert "was killed by SIGKILL" in builds.fail("kill -9 $$").what


def test_a_build_that_takes_too_long(builds: Builds) -> None:
    pid = builds.paths.home / "pid"
    script = f'echo "$marker begin mix_compile"; sleep 60 & echo $! > {shlex.quote(str(pid))}; wait'
    error = builds.fail(script, settings=Build(timeout=3))
    assert "mix compile failed: elixir did not end within 3 seconds" in error.what
    assert proc.start_time(int(pid.read_text())) is None


@pytest.mark.parametrize("status", [0, 1])
def test_what_a_build_leaves_running_is_ended(builds: Builds, status: int) -> None:
    pid = builds.paths.home / "pid"
    daemon = f"setsid sh -c 'echo $$ > \"$0\"; exec sleep 60' {shlex.quote(str(pid))} &"
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        wait = f"while [ ! -s {shlex.quote(str(pid))} ]; do sleep 0.01; done"
        script = f"{RELEASE}{daemon}\n{wait}\nexit {status}"
        if status:
            builds.fail(script)
        else:
            builds.build(script)
        until(lambda: proc.start_time(int(pid.read_text())) is None, "the daemon's end")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize(
    "spoil",
    [
        'rm -r "$tree"',
        'rm -r "$tree/releases/0.1.0"',
        'rm "$tree/bin/shop"',
        'chmod -x "$tree/bin/shop"',
        'rm "$tree/releases/start_erl.data"',
        'echo garbage > "$tree/releases/start_erl.data"',
        'touch "$tree/releases/0.1.0/second.rel"',
    ],
)
def test_a_release_that_is_not_whole(builds: Builds, spoil: str) -> None:
    with pytest.raises(BuildFailed, match="release"):
        builds.build(f"{RELEASE}{spoil}")


def test_nothing_of_an_earlier_release_gets_into_the_next(builds: Builds) -> None:
    builds.build(f'{RELEASE}touch "$tree/old"')
    builds.build(RELEASE)
    assert not (builds.paths.staging / "old").exists()


def test_it_runs_in_the_source_with_the_release_that_is_wanted(builds: Builds) -> None:
    script = f'pwd; echo "<$release>"; [ -t 0 ] || echo "no terminal"\n{RELEASE}'
    builds.build(script, settings=Build(timeout=30, release="web"))
    said = [text for _, text in builds.watcher.told]
    assert said == [str(builds.paths.source.resolve()), "<web>", "no terminal"]


def test_a_full_disk_is_named_and_half_written_caches_go(builds: Builds) -> None:
    cache = builds.paths.source / "_build/prod"
    cache.mkdir(parents=True)
    with pytest.raises(DiskFull, match="mix compile failed: no space is left"):
        builds.build(
            'echo "$marker begin mix_compile"; echo "could not write: no space left on device";'
            " exit 1"
        )
    assert not cache.exists()
    assert not builds.paths.staging.exists()


def test_a_disk_too_full_for_the_record_of_a_step(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = builds.paths.source / "_build/prod"
    cache.mkdir(parents=True)

    def full(step: str) -> None:
        raise DiskFull("The state could not be written.")

    monkeypatch.setattr(builds.watcher, "begin", full)
    with pytest.raises(DiskFull, match="mix compile failed: no space is left"):
        builds.build('mkdir -p "$tree"; echo "$marker begin mix_compile"; sleep 60')
    assert not cache.exists()
    assert not builds.paths.staging.exists()


NEEDED = "Could not find Hex, which is needed to build dependency :jason"
METADATA = "Mix could not download metadata at https://builds.hex.pm/installs/hex-1.x.csv."
FETCHING = "Failed to fetch record for jason from registry (using cache instead)"
MISSING = "This could be because the package does not exist, it was spelled incorrectly or …"


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ('** (Mix) "mix release" with multiple releases', "build.release"),
        # as mix 1.14 to 1.20, and Hex 2.5, say it where hex.pm cannot be reached
        (f"{NEEDED}\nCould not install Hex because {METADATA}", "set shop HTTPS_PROXY=URL"),
        (f"Could not install Rebar because {METADATA}", "HEX_MIRROR=URL"),
        (f"{FETCHING}\n** (Mix) Unknown package jason in lockfile", "HEX_MIRROR=URL"),
        (f"{FETCHING}\n** (Mix) No package with name jason (from: mix.exs) in registry", "hex.pm"),
        ("** (Mix) Package fetch failed and no cached copy available (https://…)", "hex.pm"),
        # and where that was not the reason
        (f"{NEEDED}\n* creating archives/hex-2.1.1\n** (CompileError) lib/shop.ex:1", ""),
        (f"{FETCHING}\n** (CompileError) lib/shop.ex:1", ""),
        (f"{FETCHING}\n{MISSING}\n** (Mix) No package with name jasn (from: mix.exs)", ""),
        ("something else", ""),
    ],
)
def test_hints_for_what_a_project_or_host_lacks(builds: Builds, said: str, hint: str) -> None:
    error = builds.fail(f"echo {shlex.quote(said)}; exit 1")
    assert hint in error.hint
    assert bool(error.hint) == bool(hint)


def test_a_link_to_elixir_is_resolved_before_it_runs(builds: Builds) -> None:
    def started(link_to: Path) -> str:
        link_to.write_text("#!/bin/sh\n")
        link_to.chmod(0o755)
        builds.program.unlink(missing_ok=True)
        builds.program.symlink_to(link_to)
        around = surroundings(builds.paths.home)
        return vm.task(around, {}, Build(), builds.mark, "").argv[0]

    directory = builds.program.with_name("1.18")
    directory.mkdir()
    assert started(directory / "elixir") == str(directory / "elixir")
    # a version manager looks at the name by which it is called
    assert started(directory / "mise") == str(builds.program)


def test_without_elixir(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(builds.program.parent))
    around = surroundings(builds.paths.home)
    with pytest.raises(MissingProgram, match="elixir is not installed"):
        builder.build(LocalTasks(), around, {}, Build(), builds.mark, builds.watcher)


@pytest.mark.parametrize(
    ("config", "settings", "starts"),
    [({}, Build(timeout=60), 1), ({"A": "1"}, Build(timeout=60), 2), ({}, Build(memory="1g"), 2)],
    ids=["the same", "other config", "other limits"],
)
def test_the_vm_that_was_started_early_is_the_builds_if_it_fits(
    builds: Builds, config: dict[str, str], settings: Build, starts: int
) -> None:
    pids = builds.paths.home / "pids"
    waits = f'#!/bin/sh\necho $$ >> {shlex.quote(str(pids))}\n{ARGUMENTS}[ -n "$tree" ] || exit 3\n'
    builds.program.write_text(f"{waits}{RELEASE}")
    builds.program.chmod(0o755)
    around = surroundings(builds.paths.home)
    tasks, commit = LocalTasks(), "a" * 40
    early = vm.start(tasks, vm.task(around, {}, Build(timeout=30), builds.mark, commit))
    until(pids.exists, "its start")
    builder.build(tasks, around, config, settings, builds.mark, builds.watcher, commit, early=early)
    assert len(pids.read_text().split()) == starts
    assert all(proc.start_time(int(pid)) is None for pid in pids.read_text().split())


def test_an_interrupted_build_is_ended_at_once(builds: Builds) -> None:
    builds.program.write_text("#!/bin/sh\nread -r line; echo $$; trap '' TERM; sleep 60\n")
    builds.program.chmod(0o755)
    wanted = vm.task(surroundings(builds.paths.home), {}, Build(), builds.mark, "")
    lines: list[str] = []

    def interrupt(line: str) -> None:
        lines.append(line)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        vm.start(LocalTasks(), wanted).attend(60, interrupt)
    assert proc.start_time(int(lines[0])) is None


def test_what_a_build_sees(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_QUARANTINE_PATH", "ERL_LIBS", "ERL_AFLAGS", "ELIXIR_ERL_OPTIONS",
                 "RELEASE_NODE", "GATLING_HOME", "PORT"):  # fmt: skip
        monkeypatch.setenv(name, "leaked")
    monkeypatch.setenv("MIX_ENV", "dev")
    monkeypatch.setenv("HEX_MIRROR", "kept")
    config = {"RELEASE_COOKIE": "hidden", "GREETING": "two\nlines", "ERL_FLAGS": "+S 1"}
    out = builds.paths.home / "environment"
    builds.build(f"env -0 > {shlex.quote(str(out))}\n{RELEASE}", config=config)
    seen = dict(line.split("=", 1) for line in out.read_text().rstrip("\0").split("\0"))
    assert "leaked" not in seen.values()
    assert "hidden" not in seen.values()
    wanted = {
        "MIX_ENV": "prod", "GREETING": "two\nlines", "ERL_FLAGS": "+S 1", "CI": "true",
        "ERL_AFLAGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        "GIT_TERMINAL_PROMPT": "0", "HEX_MIRROR": "kept", proc.MARK: builds.mark,
    }  # fmt: skip
    assert {name: seen.get(name) for name in wanted} == wanted


def test_config_may_choose_its_own_environment_of_mix(tmp_path: Path) -> None:
    seen = environment.build_environment(surroundings(tmp_path), {"MIX_ENV": "staging"})
    assert seen["MIX_ENV"] == "staging"


def test_an_interruption_ends_the_build(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = builds.paths.home / "pid"

    def interrupt(_text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(builds.watcher, "line", interrupt)
    with pytest.raises(KeyboardInterrupt):
        builds.build(f"echo $$ > {shlex.quote(str(pid))}; echo go; sleep 60")
    assert proc.start_time(int(pid.read_text())) is None


def test_a_clean_up_that_fails_hides_no_failure_of_a_build(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def discard(*_: object) -> None:
        calls.append("discard")
        if len(calls) > 1:
            raise HelperFailed("The helper is away.")

    monkeypatch.setattr(LocalTasks, "discard", discard)
    with pytest.raises(BuildFailed, match="mix compile failed") as caught:
        builds.build('echo "$marker begin mix_compile"; exit 1')
    assert caught.value.log[-1] == "The cleanup also failed: The helper is away."


@pytest.mark.parametrize(("cores", "partitions"), [(1, None), (2, None), (4, "2"), (9, "4")])
def test_dependencies_are_compiled_on_half_of_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, partitions: str | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    name = "MIX_OS_DEPS_COMPILE_PARTITION_COUNT"
    assert environment.build_environment(surroundings(tmp_path), {}).get(name) == partitions
    assert environment.build_environment(surroundings(tmp_path), {name: "1"})[name] == "1"
