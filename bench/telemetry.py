"""Measure the processor time that an event of :telemetry costs an app's node.

    python bench/telemetry.py [--events 2000000]

compiles gatling_telemetry, and has as many processes as there are schedulers report requests for
twenty routes. The result is the processor time of one event, above that of the loop, in which all
code and data stay in the processor's caches. bench/sight.py measures the cost within a request.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile

from gatling.beam import toolbox

RUN = """
    _ = gatling_telemetry:state(),
    Names = [integer_to_binary(N) || N <- lists:seq(1, 20)],
    Routes = list_to_tuple([{<<"/posts/", Name/binary>>} || Name <- Names]),
    Conn = #{method => <<"GET">>, status => 200},
    Events = EVENTS div erlang:system_info(schedulers_online),
    Report = fun(N) ->
        {Route} = element(N rem 20 + 1, Routes),
        gatling_telemetry:handle([phoenix, router_dispatch, stop], #{duration => 12000000},
                                 #{route => Route, conn => Conn}, route)
    end,
    Nothing = fun(N) ->
        {Route} = element(N rem 20 + 1, Routes),
        #{route => Route, conn => Conn}
    end,
    Loop = fun Loop(_, 0) -> ok; Loop(Do, N) -> Do(N), Loop(Do, N - 1) end,
    Timed = fun(Do) ->
        {Before, _} = statistics(runtime),
        Refs = [element(2, spawn_monitor(fun() -> Loop(Do, Events) end))
                || _ <- lists:seq(1, erlang:system_info(schedulers_online))],
        [receive {'DOWN', Ref, process, _, normal} -> ok end || Ref <- Refs],
        {After, _} = statistics(runtime),
        1000 * (After - Before) / EVENTS
    end,
    Timed(Report),
    {With, Without} = {Timed(Report), Timed(Nothing)},
    io:format("~.2f us each, above ~.2f us of the loop (OTP ~s, ~b schedulers)~n",
              [With - Without, Without, erlang:system_info(otp_release),
               erlang:system_info(schedulers_online)]),
    halt().
"""


def main() -> None:
    """Measure once, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory() as beams:
        source = toolbox.SOURCES / "gatling_telemetry.erl"
        # eval runs interpreted code, so the loop is a module of its own
        module = f"{beams}/bench.erl"
        code = RUN.replace("EVENTS", str(events))
        with open(module, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"-module(bench).\n-export([run/0]).\nrun() ->\n{code}")
        subprocess.run(["erlc", "+export_all", "+nowarn_export_all", "-o", beams, source, module],
                       check=True)  # fmt: skip
        subprocess.run(["erl", "-noinput", "-pa", beams, "-s", "bench", "run"], check=True)


if __name__ == "__main__":
    main()
