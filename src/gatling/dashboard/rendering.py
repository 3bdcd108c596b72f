"""Templates, and how they write numbers and times. All text is escaped."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from gatling import __version__, visible
from gatling.project.schedule import here
from gatling.text import step
from gatling.ui import output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatling.dashboard.door import Door
    from gatling.dashboard.visit import Visit

HERE = Path(__file__).parent
STATIC = HERE / "static"
UNKNOWN = "–"


class Renderer:
    """Makes pages of templates."""

    def __init__(self, door: Door) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True,
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
            auto_reload=False,
        )  # fmt: skip
        self._environment.filters |= {
            "ago": _ago, "duration": _duration, "size": _size, "ms": _ms, "rate": _rate,
            "count": _count, "plain": visible.one_line, "lines": visible.lines, "value": _value,
            "step": step, "moment": _moment,
        }  # fmt: skip
        self._environment.globals |= {
            "base": door.base, "token": door.token, "version": __version__,
        }  # fmt: skip

    def load(self) -> list[str]:
        """Compile all templates, so that no page waits for it; their names."""
        names = self._environment.list_templates()
        for name in names:
            self._environment.get_template(name)
        return names

    def render(self, template: str, context: Mapping[str, Any], visit: Visit | None = None) -> str:
        """The text of a page. Without a visit it is one for strangers."""
        return self._environment.get_template(template).render(visit=visit, **context)


def _ago(stamp: str | None) -> str:
    return output.ago(stamp) if stamp else UNKNOWN


def _moment(stamp: str) -> str:
    """A time that is to come, in the time zone of the machine."""
    return f"{datetime.fromisoformat(stamp).astimezone(here()):%Y-%m-%d %H:%M}"


def _duration(seconds: float | None) -> str:
    return output.duration(seconds) if seconds is not None else UNKNOWN


def _size(count: float | None) -> str:
    if count is None:
        return UNKNOWN
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e8 else output.size(int(count))


def _ms(number: float | None) -> str:
    if number is None:
        return UNKNOWN
    return f"{number:.0f} ms" if number >= 10 or number == round(number) else f"{number:.1f} ms"


def _rate(number: float | None) -> str:
    if number is None:
        return UNKNOWN
    return f"{number:,.0f}/s" if number >= 10 or not number else f"{number:.2g}/s"


def _count(number: float | None) -> str:
    return f"{number:,.0f}" if number is not None else UNKNOWN


def _value(value: object) -> str:
    """A setting as it is written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value)) or UNKNOWN
    return visible.one_line(str(value)) if value not in (None, "") else UNKNOWN
