"""The file `domains` of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.errors import InvalidManifest
from gatling.project import domains

if TYPE_CHECKING:
    from pathlib import Path


def test_as_gatling_1_reads_it() -> None:
    text = b"www.example.com\r\nSample_Project.example.com, api.example.com  *.example.com\n\n"
    assert domains.parse(text) == (
        "www.example.com", "sample_project.example.com", "api.example.com", "*.example.com"
    )  # fmt: skip
    assert domains.parse(b"") == domains.parse(b" \n,\n# none yet\n") == ()
    assert domains.parse(b"a.example # the first\na.example") == ("a.example",)


@pytest.mark.parametrize(
    "line", [b"x; }", b"a.example;", b"http://a.example", b"a\0b", b"\xff", b"_", b"-", b"$host"]
)
def test_what_is_no_domain_is_refused_with_its_line(line: bytes) -> None:
    with pytest.raises(InvalidManifest, match=r"^domains, line 2: .* is not a domain\."):
        domains.parse(b"www.example.com\n" + line + b"\n")


def test_a_large_file_is_refused() -> None:
    with pytest.raises(InvalidManifest, match="larger than 16 KB"):
        domains.parse(b"a\n" * 10_000)


def test_it_is_the_projects_own_file(tmp_path: Path) -> None:
    assert domains.read(tmp_path) == ()
    (tmp_path / "domains").symlink_to("/etc/hostname")
    with pytest.raises(InvalidManifest, match="not a link"):
        domains.read(tmp_path)
