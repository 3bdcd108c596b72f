"""The README of the package: its links must work outside of the repository as well.

Relative links become absolute ones below $GATLING_REPOSITORY, if that variable is set when the
package is built: `https://HOST/OWNER/gatling/blob/v2`. Otherwise they become plain text, because
the page of a package index has no `docs/` next to it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#)([^)]+)\)")


def portable(text: str, repository: str) -> str:
    """A page of the repository with links that work anywhere."""
    if repository:
        return _LINK.sub(rf"[\1]({repository.rstrip('/')}/\2)", text)
    return _LINK.sub(r"\1", text)


class PortableReadme(MetadataHookInterface):
    """Sets `readme`, which pyproject.toml declares as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read README.md and rewrite its links."""
        text = (Path(self.root) / "README.md").read_text()
        repository = os.environ.get("GATLING_REPOSITORY", "")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": portable(text, repository),
        }
