defmodule Counter.HTTP do
  @moduledoc "The HTTP/1 format, without any socket: request heads in, answers out."

  defstruct method: "GET", path: "/", version: {1, 1}, headers: [], length: 0

  @max_head 16_384
  @max_body 1_048_576

  @reasons %{
    200 => "OK",
    400 => "Bad Request",
    404 => "Not Found",
    405 => "Method Not Allowed",
    413 => "Content Too Large",
    431 => "Request Header Fields Too Large",
    501 => "Not Implemented",
    505 => "HTTP Version Not Supported"
  }

  @doc "Takes one request head off the buffer: `{:ok, request, rest}`, `:more` or `{:error, status}`."
  def parse(buffer) do
    with {:ok, request, rest} <- request_line(buffer),
         {:ok, headers, rest} <- headers(rest, []),
         :ok <- check(byte_size(buffer) - byte_size(rest) <= @max_head, 431),
         :ok <- check(request.version in [{1, 0}, {1, 1}], 505),
         :ok <- check(request.version == {1, 0} or match?([_], values(headers, "host")), 400),
         {:ok, length} <- body_length(headers) do
      {:ok, %{request | headers: headers, length: length}, rest}
    else
      :more when byte_size(buffer) > @max_head -> {:error, 431}
      other -> other
    end
  end

  @doc "All values of a header; its name in lower case."
  def values(headers, name), do: for({^name, value} <- headers, do: value)

  @doc "Whether the connection stays open for a further request."
  def keep_alive?(%{version: version, headers: headers}) do
    options = headers |> values("connection") |> Enum.join(",") |> String.downcase()
    options = options |> String.split(",") |> Enum.map(&String.trim/1)
    "close" not in options and (version == {1, 1} or "keep-alive" in options)
  end

  @doc "The answer's head; `keep_alive?` is what the connection does after it."
  def head(status, headers, keep_alive?) do
    connection = if keep_alive?, do: "keep-alive", else: "close"
    date = Calendar.strftime(DateTime.utc_now(), "%a, %d %b %Y %H:%M:%S GMT")
    headers = [{"Date", date}, {"Connection", connection} | headers]
    lines = for {name, value} <- headers, do: [name, ": ", value, "\r\n"]
    ["HTTP/1.1 #{status} #{reason(status)}\r\n", lines, "\r\n"]
  end

  def reason(status), do: Map.fetch!(@reasons, status)

  defp request_line(buffer) do
    case :erlang.decode_packet(:http_bin, buffer, []) do
      {:ok, {:http_request, method, target, version}, rest} ->
        {:ok, %__MODULE__{method: to_string(method), path: path(target), version: version}, rest}

      {:ok, {:http_error, empty}, rest} when empty in ["\r\n", "\n"] ->
        request_line(rest)

      {:more, _} ->
        :more

      _ ->
        {:error, 400}
    end
  end

  defp path({:abs_path, target}), do: target |> String.split("?", parts: 2) |> hd()
  defp path({:absoluteURI, _, _, _, target}), do: path({:abs_path, target})
  defp path(_other), do: "*"

  defp headers(buffer, headers) do
    case :erlang.decode_packet(:httph_bin, buffer, []) do
      {:ok, :http_eoh, rest} ->
        {:ok, headers, rest}

      {:ok, {:http_header, _, name, _, value}, rest} ->
        headers(rest, [{name |> to_string() |> String.downcase(), String.trim(value)} | headers])

      {:more, _} ->
        :more

      _ ->
        {:error, 400}
    end
  end

  # Chunked bodies are not read: nginx, in front, sends a length.
  defp body_length(headers) do
    case {values(headers, "transfer-encoding"), Enum.uniq(values(headers, "content-length"))} do
      {[], []} -> {:ok, 0}
      {[], [<<digit, _::binary>> = length]} when digit in ?0..?9 -> limit(Integer.parse(length))
      {[_ | _], _} -> {:error, 501}
      _ -> {:error, 400}
    end
  end

  defp limit({length, ""}) when length <= @max_body, do: {:ok, length}
  defp limit({_length, ""}), do: {:error, 413}
  defp limit(_), do: {:error, 400}

  defp check(true, _status), do: :ok
  defp check(false, status), do: {:error, status}
end
