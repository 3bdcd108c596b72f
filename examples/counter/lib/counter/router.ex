defmodule Counter.Router do
  @moduledoc "Answers a request: `{status, headers, body}`, or `:events` for the stream."

  @allowed %{
    "/" => ["GET", "HEAD"],
    "/health" => ["GET", "HEAD"],
    "/count" => ["GET", "HEAD"],
    "/version" => ["GET", "HEAD"],
    "/events" => ["GET"],
    "/increment" => ["POST"]
  }

  def call(%{method: method, path: path}) do
    case @allowed do
      %{^path => methods} ->
        if method in methods, do: answer(path), else: not_allowed(methods)

      _ ->
        text(404, "not found\n")
    end
  end

  defp answer("/"), do: {200, headers("text/html; charset=utf-8"), page()}
  defp answer("/health"), do: text(200, "ok")
  defp answer("/count"), do: text(200, Integer.to_string(Counter.Store.count()))
  defp answer("/version"), do: text(200, Counter.version())
  defp answer("/increment"), do: text(200, Integer.to_string(Counter.Store.increment()))
  defp answer("/events"), do: :events

  defp page do
    greeting = Application.get_env(:counter, :greeting)
    Counter.Page.html(Counter.version(), greeting, Counter.Store.count())
  end

  defp not_allowed(methods) do
    {405, [{"Allow", Enum.join(methods, ", ")} | headers("text/plain")], "method not allowed\n"}
  end

  defp text(status, body), do: {status, headers("text/plain"), body}

  defp headers(type), do: [{"Content-Type", type}, {"Cache-Control", "no-store"}]
end
