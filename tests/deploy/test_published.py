"""What a deployment says of files that the app has written into its release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.deploy import published
from tests.deploy.stage import release

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deploy.stage import Stage


def test_files_that_the_next_release_lacks_are_named(stage: Stage, said: Path) -> None:
    tree = stage.gatling.home.app("shop").release(7)
    upload = tree / "lib/shop-0.1.0/priv/static/uploads/a.png"
    context = stage.context()
    published.warn_of_written(stage.gatling, context, release(8))
    (tree / "bin/shop").chmod(0o555)  # as the store keeps it
    published.warn_of_written(stage.gatling, context, release(8))
    before = said.read_text()
    upload.parent.mkdir(parents=True)
    upload.write_text("x")
    published.warn_of_written(stage.gatling, context, release(7))
    assert said.read_text() == before, "the live release itself has them"
    published.warn_of_written(stage.gatling, context, release(8))
    assert said.read_text().removeprefix(before) == (
        "       v7 has files that the app wrote there and v8 lacks, such as"
        " lib/shop-0.1.0/priv/static/uploads/a.png."
        " Store uploads outside of the release (docs/operations.md, Uploads).\n"
    )
