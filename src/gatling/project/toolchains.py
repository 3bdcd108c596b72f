"""Versions of Elixir and OTP: as people write them, as builds are named, and which one to use.

Pure, and without anything but the standard library, so that the program that downloads a toolchain
reads versions in the same way.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, NamedTuple

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

AUTO = ""
"""The setting `build.toolchain` that leaves the choice to the project's own files."""
SYSTEM = "system"
"""Names the Elixir and OTP of the host itself, such as those of Debian's packages."""

_NUMBERS = r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,4}"
_PRE = r"(?:-(?:rc|dev|alpha|beta)[.0-9a-z]{0,12})?"
WANTED = rf"v?{_NUMBERS}{_PRE}(?:(?:-otp-|/){_NUMBERS}{_PRE})?|/{_NUMBERS}{_PRE}"
"""The pattern of the words that `parse` reads."""
_WANTED = re.compile(rf"(?:v?({_NUMBERS}{_PRE}))?(?:(?:-otp-|/)({_NUMBERS}{_PRE}))?")
_VERSION = re.compile(rf"v?({_NUMBERS})({_PRE})")


class Version(NamedTuple):
    """A version, or the beginning of one: 1.18 stands for each 1.18.x."""

    numbers: tuple[int, ...]
    pre: str = ""
    """The word of a pre-release, such as rc.1."""

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers)) + (f"-{self.pre}" if self.pre else "")

    @property
    def order(self) -> tuple[tuple[int, ...], bool, list[tuple[int, str]]]:
        """The key by which versions are sorted; a pre-release comes before its release."""
        numbers = self.numbers
        while numbers and numbers[-1] == 0:
            numbers = numbers[:-1]
        parts = [(int(p or 0), w) for w, p in re.findall(r"([a-z]*)\.?([0-9]*)", self.pre)]
        return numbers, not self.pre, parts

    def begins(self, other: Version) -> bool:
        """Whether the other version is this one, or one of those that it stands for.

        A pre-release has to be named in full.
        """
        return other.numbers[: len(self.numbers)] == self.numbers and self.pre == other.pre


def version(text: str) -> Version | None:
    """Read a version, which may have a `v` in front; None for anything else, such as `latest`."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    return Version(tuple(map(int, match[1].split("."))), match[2].removeprefix("-"))


class Wanted(NamedTuple):
    """A request for a toolchain. None: any version, the newest one preferred."""

    elixir: Version | None
    otp: Version | None

    def __str__(self) -> str:
        otp = f"/{self.otp}" if self.otp else ""
        return f"{self.elixir or ''}{otp}"

    def fits(self, elixir: Version, otp: Version) -> bool:
        """Whether a toolchain of these two versions is one of those that are meant."""
        return (self.elixir is None or self.elixir.begins(elixir)) and (
            self.otp is None or self.otp.begins(otp)
        )


def parse(text: str) -> Wanted:
    """Read 1.18, 1.18.4, 1.18/27, 1.18.4-otp-27.3 or /27 (OTP alone); raises InvalidInput."""
    match = _WANTED.fullmatch(text.strip())
    elixir, otp = (match[1], match[2]) if match else (None, None)
    if not elixir and not otp:
        raise InvalidInput(
            f"{text[:60]!r} is not the version of a toolchain.",
            hint="Write 1.18 or 1.18.4 for Elixir, and 1.18/27 or 1.18.4-otp-27 for Elixir and"
            " OTP.",
        )
    return Wanted(version(elixir) if elixir else None, version(otp) if otp else None)


_TERM = re.compile(r"(~>|>=|<=|==|!=|>|<)?\s*v?([0-9]+(?:\.[0-9]+){0,2})(-[0-9A-Za-z.-]+)?")


class Requirement(NamedTuple):
    """A requirement as mix.exs has it for Elixir: `~> 1.17` or `>= 1.15.0 and < 2.0.0`."""

    text: str
    least: Version | None
    """The first version that a term names and that it allows, for a command that installs it."""
    any_of: tuple[tuple[tuple[str, tuple[int, ...], int], ...], ...]

    def allows(self, elixir: Version) -> bool:
        """Whether it holds for a version. As with mix, a pre-release counts as what it precedes."""
        have = _padded(elixir.numbers)
        if elixir.pre:  # just below the release
            have = (*have[:2], have[2] - 0.5) if have[2] else (have[0], have[1] - 0.5, 0)
        return any(all(_holds(term, have) for term in terms) for terms in self.any_of)

    @property
    def is_open(self) -> bool:
        """Whether it holds for the newest versions too, up to the next major one."""
        major = self.least.numbers[0] if self.least else 1
        return self.allows(Version((major, 999_999)))


def requirement(text: str) -> Requirement | None:
    """Read a requirement; None for one that is written in a way that is not known here."""
    any_of, least = [], None
    for alternative in re.split(r"\s+or\s+|\s*\|\|\s*", text.strip()):
        terms = []
        for part in re.split(r"\s+and\s+|\s*,\s*|\s*&&\s*", alternative):
            match = _TERM.fullmatch(part.strip())
            if match is None:
                return None
            numbers = tuple(int(number) for number in match[2].split(".") if len(number) < 7)
            if len(numbers) != match[2].count(".") + 1:
                return None
            sign = match[1] or "=="
            terms.append((sign, numbers, len(numbers)))
            if sign in ("==", "<="):  # that one: a newer patch level is another
                least = least or Version(numbers)
            elif sign in ("~>", ">="):
                least = least or Version(numbers[:2])
        any_of.append(tuple(terms))
    return Requirement(text, least, tuple(any_of))


def _padded(numbers: Sequence[int]) -> tuple[float, ...]:
    return (*numbers, 0, 0, 0)[:3]


def _holds(term: tuple[str, tuple[int, ...], int], have: tuple[float, ...]) -> bool:
    sign, numbers, given = term
    wanted = _padded(numbers)
    if sign == "~>":
        kept = max(1, given - 1)
        return have >= wanted and have[:kept] == wanted[:kept]
    return _COMPARE[sign](have, wanted)


_COMPARE: dict[str, Callable[[tuple[float, ...], tuple[float, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "!=": operator.ne,
    "==": operator.eq,
}


class Asked(NamedTuple):
    """The versions that a project asks for, and the file that says so of each."""

    elixir: Version | None = None
    elixir_file: str = ""
    otp: Version | None = None
    otp_file: str = ""
    requirement: Requirement | None = None
    """`elixir:` of mix.exs."""

    @property
    def anything(self) -> bool:
        """Whether the project asks for any version."""
        return bool(self.elixir or self.otp or self.requirement)

    @property
    def to_install(self) -> str:
        """The version to install for the project, as `gatling toolchain install` reads it.

        Empty where the project only says what it does not need.
        """
        if self.requirement is None or self.elixir:
            return str(Wanted(self.elixir, self.otp))
        least = self.requirement.least
        if self.otp and self.requirement.is_open:
            # the newest Elixir that runs on this OTP: the least one may be too old for it
            return str(Wanted(None, self.otp))
        return str(Wanted(least, self.otp)) if least else ""

    def __str__(self) -> str:
        said = []
        if self.elixir is not None:
            said.append(f"Elixir {self.elixir} ({self.elixir_file})")
        elif self.requirement is not None and self.otp is None:
            said.append(f"Elixir {self.requirement.text} (mix.exs)")
        if self.otp is not None:
            said.append(f"OTP {self.otp} ({self.otp_file})")
        return " and ".join(said)


class Toolchain(NamedTuple):
    """An Elixir with its OTP that a build can use."""

    name: str
    """The directory of an installed one; `system`, or empty for one that root has linked."""
    elixir: Version
    otp: Version


def name(elixir: Version, otp: Version) -> str:
    """The name of an installed toolchain."""
    return f"{elixir}-otp-{otp}"


def newest_first(toolchains: Iterable[Toolchain]) -> list[Toolchain]:
    """Sort by Elixir, then by OTP."""
    return sorted(toolchains, key=lambda t: (t.elixir.order, t.otp.order), reverse=True)


def choose(
    asked: Asked, base: Toolchain | None, installed: Iterable[Toolchain]
) -> Toolchain | None:
    """Return the toolchain to build a project with; None when no known one is good enough.

    The base is the host's own. It is used for a project that asks for nothing, and whenever it is
    the requested version. A version file names a version that may be older than the toolchain, but
    not newer: then the nearest one is used. A requirement of mix.exs allows what it allows.
    """
    others = newest_first(installed)
    every = [base, *others] if base else others
    if asked.elixir or asked.otp:
        wanted = Wanted(asked.elixir, asked.otp)
        exact = _first(every, lambda t: wanted.fits(t.elixir, t.otp) and _new_enough(asked, t))
        if exact is not None or base is None:
            return exact or _first(reversed(others), lambda t: _new_enough(asked, t))
        return _first([base, *reversed(others)], lambda t: _new_enough(asked, t))
    if asked.requirement is not None:
        needed = asked.requirement
        return _first(every, lambda t: needed.allows(t.elixir))
    return base


def _new_enough(asked: Asked, have: Toolchain) -> bool:
    if asked.elixir is None and asked.requirement and not asked.requirement.allows(have.elixir):
        return False
    return (asked.elixir is None or have.elixir.numbers[:2] >= asked.elixir.numbers[:2]) and (
        asked.otp is None or have.otp.numbers[:1] >= asked.otp.numbers[:1]
    )


def _first(toolchains: Iterable[Toolchain], good: Callable[[Toolchain], bool]) -> Toolchain | None:
    return next((each for each in toolchains if good(each)), None)
