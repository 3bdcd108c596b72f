"""From `git push` to the first answer of the new release, against what cannot be done without.

    python bench/push.py [--rounds 7] [--modules 0 300] [--apps 100]

The floor, measured in turn with Gatling: `mix do compile + release` in one VM with everything
else compiled, plus the boot of that release to its first answer. Also: start-up time of the
command line, and requests failed while ten clients with kept connections go on asking during a
rolling deployment.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from bed import (
    PYTHON,
    Bed,
    KeepAliveClient,
    bed,
    cpu,
    free_port,
    phases,
    spread,
    wait_for_text,
    waits,
)
from generate_app import generate, touch_one_line

BETWEEN_SECONDS = 1.2
"""Between a build and the next change: mix compares times in whole seconds (generate_app.py)."""


def floor(project: Path, env: dict[str, str], number: int) -> float:
    """Seconds from a one-line change to the first answer, by hand and with nothing around it."""
    touch_one_line(project, number)
    port = free_port()
    settings = env | {"MIX_ENV": "prod"}
    started = time.monotonic()
    subprocess.run(
        ["mix", "do", "compile", "+", "release", "--overwrite", "--quiet"],
        cwd=project, env=settings, check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    instance = subprocess.Popen(
        [str(project / "_build/prod/rel/counter/bin/counter"), "start"], cwd=project,
        env=settings | {"PORT": str(port), "RELEASE_NODE": f"floor{number}"}, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        return wait_for_text(port, "localhost", f"Counter {number}", instance) - started
    finally:
        os.killpg(instance.pid, signal.SIGTERM)
        instance.wait()


def push(home: Bed, project: Path, app: str, number: int) -> tuple[float, float]:
    """Seconds from `git push` to the first answer of the new release, and to the push's end."""
    touch_one_line(project, number)
    home.commit(project)
    started = time.monotonic()
    pushing = subprocess.Popen(
        ["git", "push", "--quiet", "gatling", "main"], cwd=project, env=home.env, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    answered = wait_for_text(home.port, f"{app}.localhost", f"Counter {number}", pushing)
    if pushing.wait() != 0:
        raise RuntimeError("the push was rejected")
    return answered - started, time.monotonic() - started


def compare(home: Bed, modules: int, rounds: int) -> None:
    """The floor and a push by either strategy, in turn, on an app with so many modules more."""
    bare = home.root / f"floor{modules}"
    generate(bare, modules)
    floor(bare, home.env, 0)
    apps = {}
    for strategy in ("rolling", "auto"):
        apps[strategy] = home.root / f"{strategy}{modules}"
        generate(apps[strategy], modules)
        home.repository(apps[strategy], apps[strategy].name, strategy)
        cold, _ = push(home, apps[strategy], apps[strategy].name, 0)
    floors: list[float] = []
    answers: dict[str, list[float]] = {strategy: [] for strategy in apps}
    ends: dict[str, list[float]] = {strategy: [] for strategy in apps}
    used: dict[str, list[float]] = {strategy: [] for strategy in ("floor", *apps)}
    for number in range(1, rounds + 1):
        time.sleep(BETWEEN_SECONDS)
        before = cpu()
        floors.append(floor(bare, home.env, number))
        used["floor"].append(cpu() - before)
        for strategy, project in apps.items():
            time.sleep(BETWEEN_SECONDS)
            before = cpu()
            answered, ended = push(home, project, project.name, number)
            used[strategy].append(cpu() - before)
            answers[strategy].append(answered)
            ends[strategy].append(ended)
    print(f"{8 + modules} modules, one line changed, {rounds} rounds:")
    print(f"  floor: compile + release + boot      {spread(floors)}")
    print(f"  floor: its CPU time                  {spread(used['floor'])}")
    for strategy, word in (("rolling", "rolling"), ("auto", "hot    ")):
        ratio = statistics.median(answers[strategy]) / statistics.median(floors)
        print(
            f"  {word} git push → first answer    {spread(answers[strategy])}"
            f"   {ratio:.2f} × the floor"
        )
        print(f"  {word} git push → its end         {spread(ends[strategy])}")
        print(f"  {word} its CPU time               {spread(used[strategy])}")
        name = "hot" if strategy == "auto" else strategy
        print(f"  {word} {phases(home, apps[strategy].name, name, rounds)}")
    print(f"  first push, nothing compiled         {cold:.2f} s")


def keep_alive(home: Bed, app: str, project: Path, number: int) -> None:
    """Ten clients with kept connections during one rolling deployment."""
    time.sleep(BETWEEN_SECONDS)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(KeepAliveClient(home.port, f"{app}.localhost")) for _ in range(10)
        ]
        push(home, project, app, number)
    print("10 clients with kept connections during a rolling deployment:")
    print(
        f"  {sum(c.requests for c in clients)} requests,"
        f" {sum(c.failed for c in clients)} failed,"
        f" {sum(c.closed_idle for c in clients)} connections closed while idle,"
        f" {waits([wait for c in clients for wait in c.waits])}"
    )


def start_up(home: Bed, count: int, rounds: int) -> None:
    """Start-up time of the command line, against an interpreter that loads click."""
    for number in range(count):
        home.gatling("load", f"many{number}")
    commands = {
        "python -c 'import click'": [PYTHON, "-c", "import click"],
        "gatling --version": [str(Path(PYTHON).with_name("gatling")), "--version"],
        f"gatling apps ({count} more apps)": [str(Path(PYTHON).with_name("gatling")), "apps"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, argv in commands.items():
            started = time.monotonic()
            subprocess.run(argv, env=home.env, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.monotonic() - started)
    base = statistics.median(next(iter(seconds.values())))
    print(f"start-up, {rounds} rounds:")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"  {name:<34}{median * 1000:5.0f} ms   {median / base:.2f} ×")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Measure a push against its floor.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--modules", type=int, nargs="+", default=[0, 300])
    parser.add_argument("--apps", type=int, default=100)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at start")
    with bed() as home:
        for modules in arguments.modules:
            compare(home, modules, arguments.rounds)
        last = f"rolling{arguments.modules[-1]}"
        keep_alive(home, last, home.root / last, arguments.rounds + 1)
        start_up(home, arguments.apps, 3 * arguments.rounds)


if __name__ == "__main__":
    main()
