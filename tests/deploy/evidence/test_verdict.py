"""What speaks against a hot upgrade that is watched."""

from __future__ import annotations

import pytest

from gatling.beam.control import Logged, Watched
from gatling.deploy.evidence.verdict import FEW, against, beside

ERROR = "KeyError (key :x not found) in Shop.Page.render/1 (lib/shop/page.ex:41)"


def watched(
    *logged: Logged, crashed: tuple[str, ...] = (), others: tuple[str, ...] = ()
) -> Watched:
    return Watched(list(crashed), list(others), list(logged))


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (watched(), ""),
        (watched(Logged(ERROR, 1, True)), f"the app logged errors: 1 × {ERROR}."),
        (watched(Logged(ERROR, FEW - 1, False)), ""),
        (watched(Logged(ERROR, FEW, False)), f"the app logged errors: {FEW} × {ERROR}."),
        (watched(Logged("other", 9, False), Logged(ERROR, 2, True)), f"2 × {ERROR}; 9 × other."),
        (watched(others=("x in Shop.Live.render/1",)), ""),
        (watched(crashed=("Shop.Cart: x",)), "1 converted process crashed within 1 s"),
    ],
)
def test_what_takes_an_upgrade_back(seen: Watched, problem: str) -> None:
    said = against(seen, 1.0)
    assert problem in said
    assert bool(said) == bool(problem)


def test_what_is_only_noted() -> None:
    seen = watched(
        Logged(ERROR, 1, False), Logged("many", FEW, False), others=("y in A.b/1", "y in A.b/1")
    )
    assert beside(seen) == [
        "crashed beside the upgrade: 2 × y in A.b/1",
        f"the app logged an error: 1 × {ERROR}",
    ]
