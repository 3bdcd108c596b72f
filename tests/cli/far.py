"""A server that is asked over ssh: a stand-in for ssh that prints prepared answers."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SSH = """\
#!{python}
import json, pathlib, sys
place = pathlib.Path({place!r})
(place / "argv").write_text(json.dumps(sys.argv[1:]))
answers = json.loads((place / "answers").read_text())
answer = answers.get(sys.argv[-1].split()[0]) or answers[""]
sys.stdout.write(answer["out"])
sys.stderr.write(answer["err"])
sys.exit(answer["status"])
"""


class Far:
    """A server with an answer to each command."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._answers: dict[str, object] = {}
        program = place / "bin/ssh"
        program.parent.mkdir()
        program.write_text(SSH.format(python=sys.executable, place=str(place)))
        program.chmod(0o755)
        self.answers()

    def answers(
        self, out: object = "", err: str = "", status: int = 0, *, command: str = ""
    ) -> None:
        """From now on a command (by default every one) is answered so."""
        text = out if isinstance(out, str) else json.dumps(out)
        self._answers[command] = {"out": text, "err": err, "status": status}
        (self.place / "answers").write_text(json.dumps(self._answers))

    def asked(self) -> list[str]:
        """What ssh was called with last."""
        words: list[str] = json.loads((self.place / "argv").read_text())
        return words
