"""The pages that the proxy itself answers with."""

from __future__ import annotations


def page(title: str, text: str) -> str:
    """A small HTML page."""
    return f"""\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:18vh auto;padding:0 1rem;\
color:#222;background:#fafafa}}h1{{font-size:1.5rem}}\
@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}}}</style>
</head>
<body><h1>{title}</h1><p>{text}</p></body>
</html>
"""


PAGES = {
    "down.html": page("This app is not running", "It may be back in a moment. Please try again."),
    "failed.html": page("This request failed", "The app could not answer it. Please try again."),
    "slow.html": page("No answer in time", "The app took too long to answer. Please try again."),
    "busy.html": page(
        "Too many connections",
        "More requests are open at the same time than this server allows. Please try again.",
    ),
    "unknown-host.html": page("No app here", "This server has no app for the host you asked for."),
}
