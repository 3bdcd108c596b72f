defmodule Counter do
  @moduledoc "A number in memory, a web page that shows it, and a button that adds one."

  @doc "The version that runs now; it changes with a hot upgrade."
  def version, do: to_string(Application.spec(:counter, :vsn))
end
