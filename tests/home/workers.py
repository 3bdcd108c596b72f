"""An app with two processes: one that works, one that takes its time to end."""

from __future__ import annotations

WORKER = """\
defmodule Counter.Worker do
  def run(task) do
    IO.puts("#{System.get_env("GATLING_PROCESS")} does #{task}")
    Process.sleep(:infinity)
  end

  # tells what it was doing when it is asked to end, as a worker that finishes its job does
  def patient do
    {:ok, _} = Application.ensure_all_started(:sasl)
    System.trap_signal(:sigterm, fn ->
      IO.puts("finishing")
      Process.sleep(500)
      IO.puts("finished")
      System.stop(0)
    end)
    IO.puts("patient one is there")
    Process.sleep(:infinity)
  end

  def fail, do: raise("no such queue")
end
"""
MANIFEST = """\
[processes]
worker = "eval 'Counter.Worker.run(\\"sorting\\")'"

[processes.patient]
command = "eval Counter.Worker.patient()"
stop = 10
"""
