defmodule Counter.Page do
  @moduledoc "The page at `/`: complete in itself, no other file is loaded."

  def title, do: "Counter"

  def html(version, greeting, count) do
    """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>#{escape(title())}</title>
    <link rel="icon" href="data:,">
    <style>
      :root { color-scheme: light dark; --accent: #6d4aff; }
      body { font: 1.1rem/1.5 system-ui, sans-serif; display: grid; place-items: center;
             min-height: 100vh; margin: 0; text-align: center; }
      h1 { margin: 0; }
      p { margin: .3rem; opacity: .7; }
      output { display: block; font-size: 6rem; font-variant-numeric: tabular-nums; }
      button { font: inherit; padding: .6rem 1.6rem; border: 0; border-radius: .5rem;
               color: white; background: var(--accent); cursor: pointer; }
    </style>
    </head>
    <body>
    <main>
      <h1>#{escape(title())}</h1>
      <p>version <span id="version">#{escape(version)}</span></p>
      #{greeting(greeting)}
      <output id="count">#{count}</output>
      <button id="add">Add one</button>
      <p id="state" role="status">&nbsp;</p>
    </main>
    <script>
      const show = (id, text) => { document.getElementById(id).textContent = text }
      document.getElementById("add").onclick = () => fetch("/increment", {method: "POST"})
      function connect() {
        const events = new EventSource("/events")
        events.onopen = async () => {
          show("state", "live")
          show("version", await (await fetch("/version")).text())
        }
        events.onmessage = (event) => show("count", event.data)
        events.onerror = () => {
          events.close()
          show("state", "reconnecting …")
          setTimeout(connect, 1000)
        }
      }
      connect()
    </script>
    </body>
    </html>
    """
  end

  defp greeting(text) when text in [nil, ""], do: ""
  defp greeting(text), do: "<p id=\"greeting\">#{escape(text)}</p>"

  defp escape(text) do
    for <<character <- text>>, into: "" do
      case character do
        ?& -> "&amp;"
        ?< -> "&lt;"
        ?> -> "&gt;"
        ?" -> "&quot;"
        ?' -> "&#39;"
        other -> <<other>>
      end
    end
  end
end
