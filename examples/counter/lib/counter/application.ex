defmodule Counter.Application do
  @moduledoc false
  use Application

  # Stopped in reverse order: the listener first, then the connections, each after
  # the answer it is writing, and the count last.
  @impl true
  def start(_type, _args) do
    children = [
      Counter.Store,
      Supervisor.child_spec(
        {DynamicSupervisor, name: Counter.Connections, strategy: :one_for_one},
        id: Counter.Connections
      ),
      {Counter.Listener, port: Application.fetch_env!(:counter, :port)}
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Counter.Supervisor)
  end
end
