"""Hot upgrades: from `git push` to new code answering, and what clients see meanwhile.

    python bench/hot.py [--rounds 7] [--modules 0 300] [--swaps 20] [--pauses 0.05 0.002]

In turn on one app each: a push that is upgraded hot, a push that rolls, and the floor, a warm
`mix do compile + release` in one VM, with nothing started. Then 200 requests a second through
nginx for a page whose code loses a function with each upgrade. Last, ten clients with kept
connections, through nginx and direct, while nothing happens and while hot upgrades go up and down:
with idle cores, and with none.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bed import Bed, KeepAliveClient, Load, bed, busy, cpu, phases, spread, waits
from generate_app import generate, touch_one_line
from push import BETWEEN_SECONDS, push

if TYPE_CHECKING:
    from pathlib import Path


def build(project: Path, env: dict[str, str], number: int) -> float:
    """Seconds of a warm build after a one-line change: the floor."""
    touch_one_line(project, number)
    started = time.monotonic()
    subprocess.run(
        ["mix", "do", "compile", "+", "release", "--overwrite", "--quiet"],
        cwd=project, env=env | {"MIX_ENV": "prod"}, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.monotonic() - started


def compare(home: Bed, modules: int, rounds: int) -> None:
    """Hot, rolling and the floor, in turn."""
    bare = home.root / f"bare{modules}"
    generate(bare, modules)
    build(bare, home.env, 0)
    projects = {}
    for strategy in ("auto", "rolling"):
        projects[strategy] = home.root / f"{strategy}{modules}"
        generate(projects[strategy], modules)
        home.repository(projects[strategy], projects[strategy].name, strategy)
        push(home, projects[strategy], projects[strategy].name, 0)
    floors: list[float] = []
    used: dict[str, list[float]] = {strategy: [] for strategy in ("floor", *projects)}
    answers: dict[str, list[float]] = {strategy: [] for strategy in projects}
    for number in range(1, rounds + 1):
        time.sleep(BETWEEN_SECONDS)
        before = cpu()
        floors.append(build(bare, home.env, number))
        used["floor"].append(cpu() - before)
        for strategy, project in projects.items():
            time.sleep(BETWEEN_SECONDS)
            before = cpu()
            answers[strategy].append(push(home, project, project.name, number)[0])
            used[strategy].append(cpu() - before)
    floor = statistics.median(floors)
    print(f"{8 + modules} modules, one line changed, {rounds} rounds:")
    print(f"  floor: warm compile + release     {spread(floors)}")
    print(f"  floor: its CPU time               {spread(used['floor'])}")
    for strategy, word in (("auto", "hot"), ("rolling", "rolling")):
        ratio = statistics.median(answers[strategy]) / floor
        print(f"  {word:<8} push → new code answers  {spread(answers[strategy])}   {ratio:.2f} ×")
        print(f"  {word:<8} CPU time of the push     {spread(used[strategy])}")
        name = "hot" if strategy == "auto" else strategy
        print(f"  {word:<8} {phases(home, projects[strategy].name, name, rounds)}")
    for project in projects.values():
        home.gatling("stop", project.name)
    suspended(home, projects["auto"].name)


def suspended(home: Bed, app: str) -> None:
    """What the deployments recorded."""
    found = json.loads(home.gatling("deployments", app, "--json"))
    hot = [d for d in found if d["strategy"] == "hot"]
    failed = sum(d["probe"]["failed"] for d in hot)
    print(
        f"  {len(hot)} hot: probe {failed} failed,"
        f" suspended at most {max(d['suspended_ms'] for d in hot):.2f} ms"
    )


def load(home: Bed, pauses: list[float]) -> None:
    """Ten clients each way while upgrades with a converted process go up and down.

    They pause for so many seconds between two requests. After 2 ms, no core is idle, and they wait
    for each other.
    """
    project = home.root / "load"
    generate(project, 0)
    home.repository(project, "load", "auto")
    push(home, project, "load", 0)
    store = project / "lib/counter/store.ex"
    store.write_text(store.read_text() + "\n# another edition\n")
    text = store.read_text().replace("state.count + 1", "state.count + 2")
    store.write_text(text)
    push(home, project, "load", 1)
    status = json.loads(home.gatling("status", "load", "--json"))
    for pause in pauses:
        print(f"10 clients with kept connections that ask again after {1000 * pause:.0f} ms:")
        for word, port in (("through nginx", home.port), ("direct", status["port"])):
            for what in ("nothing happens", "up and down, 6 upgrades"):
                clients = [KeepAliveClient(port, "load.localhost", pause) for _ in range(10)]
                before = busy()
                with ExitStack() as stack:
                    for client in clients:
                        stack.enter_context(client)
                    if what == "nothing happens":
                        time.sleep(10)
                    else:
                        for number in range(6):
                            home.gatling("rollback", "load", f"v{1 + number % 2}")
                used, all_of_them = (now - then for now, then in zip(busy(), before, strict=True))
                print(
                    f"  {word}, {what}: {sum(c.requests for c in clients)} requests,"
                    f" {sum(c.failed for c in clients)} failed,"
                    f" {sum(c.closed_idle for c in clients)} closed while idle,"
                    f" {waits([wait for c in clients for wait in c.waits])},"
                    f" cores busy for {100 * used / all_of_them:.0f} %"
                )
    suspended(home, "load")


PRICE = """
defmodule Counter.Price do
  def {name}(n), do: "{name} #{{n}}"
end

defmodule Counter.Offer do
  def text do
    Process.sleep(:rand.uniform(16))
    Counter.Price.{name}(Counter.Store.count())
  end
end
"""


def losing(home: Bed, swaps: int) -> None:
    """Requests for a page while upgrades go up and down that each remove a function it calls."""
    project = home.root / "offer"
    generate(project, 0)
    home.repository(project, "offer", "auto")
    router = project / "lib/counter/router.ex"
    text = router.read_text().replace('"/count" =>', '"/offer" => ["GET"],\n    "/count" =>', 1)
    call = '  defp answer("/offer"), do: text(200, Counter.Offer.text())\n'
    router.write_text(text.replace('  defp answer("/events")', f'{call}  defp answer("/events")'))
    for number, name in enumerate(("net", "gross")):
        (project / "lib/counter/price.ex").write_text(PRICE.format(name=name))
        push(home, project, "offer", number)
    home.gatling("settings", "set", "offer", "hot.watch=0.3", "hot.boot_check=off")
    with Load(home.port, "offer.localhost", "/offer", rate=200) as quiet:
        time.sleep(10)
    with Load(home.port, "offer.localhost", "/offer", rate=200) as client:
        for number in range(swaps):
            home.gatling("rollback", "offer", f"v{1 + number % 2}")
    found = json.loads(home.gatling("deployments", "offer", "--json"))[:swaps]
    hot = [d["probe"]["paused_ms"] for d in found if d["strategy"] == "hot"]
    print(f"200 requests a second for a page that loses a function, {swaps} upgrades:")
    print(
        f"  nothing happens: {quiet.requests} requests, {quiet.failed} failed, {waits(quiet.waits)}"
    )
    print(
        f"  up and down, {len(hot)} hot: {client.requests} requests, {client.failed} failed,"
        f" {waits(client.waits)}, new requests paused for"
        f" {statistics.median(hot):.0f} ms ({max(hot):.0f} ms at most)"
    )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Measure hot upgrades against their floor.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--modules", type=int, nargs="*", default=[0, 300])
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument(
        "--pauses", type=float, nargs="*", default=[0.05, 0.002],
        help="seconds between two requests of a client",
    )  # fmt: skip
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at start")
    with bed() as home:
        for modules in arguments.modules:
            compare(home, modules, arguments.rounds)
        if arguments.swaps:
            losing(home, arguments.swaps)
        load(home, arguments.pauses)


if __name__ == "__main__":
    main()
