"""What git tells the hook: which of it deploys, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling.errors import Exit, PushRefused
from gatling.project.refs import Update, parse
from gatling.ssh.receive import choose
from tests.conftest import loaded
from tests.scale import scaled

EXAMPLES = settings(max_examples=scaled(30, 100))

ZERO, ONE, TWO = "0" * 40, "1" * 40, "2" * 40
IDS = st.text("0123456789abcdef", min_size=40, max_size=40) | st.just(ZERO)
BRANCHES = st.sampled_from(["main", "master", "production", "topic", "main/x", "mainly"])
REFS = st.one_of(
    BRANCHES.map("refs/heads/{}".format),
    BRANCHES.map("refs/tags/{}".format),
    st.sampled_from(
        ["refs/notes/main", "main", "refs/heads/", "HEAD", "refs/heads/refs/heads/main"]
    ),
)
PUSHES = st.lists(
    st.builds(Update, IDS, IDS, REFS), max_size=6, unique_by=lambda update: update.ref
)
HOSTILE = st.one_of(
    st.text(max_size=100),
    st.text(alphabet="0123456789abcdef \n\t\0é", max_size=140),
    st.builds("{} {} {}".format, IDS, st.text(max_size=50), st.text(max_size=10)),
    st.builds("{} {}{}".format, IDS, IDS, st.text(max_size=10)),
)


@EXAMPLES
@given(PUSHES)
def test_what_git_writes_comes_back_as_it_is(push: list[Update]) -> None:
    lines = [f"{update.old} {update.new} {update.ref}\n" for update in push]
    assert parse(lines) == push


@EXAMPLES
@given(st.lists(HOSTILE, min_size=1, max_size=3))
@example([f"{ONE} {TWO}\n"])
@example([f"{ONE}  {TWO} refs/heads/main\n"])
@example([f"{ONE[1:]} {TWO} refs/heads/main\n"])
@example([f"{'A' * 40} {TWO} refs/heads/main\n"])
@example(["\n"])
@example([""])
def test_anything_else_is_refused(lines: list[str]) -> None:
    try:
        updates = parse(lines)
    except PushRefused as error:
        refused = error
        assert any(repr(line) in refused.what for line in lines)
        return
    hexadecimal = set("0123456789abcdef")
    for update, line in zip(updates, lines, strict=True):
        assert set(update.old + update.new) <= hexadecimal
        assert {len(update.old), len(update.new)} <= {40, 64}
        assert line.rstrip("\n") == f"{update.old} {update.new} {update.ref}"


def test_one_hostile_line_among_good_ones_refuses_all() -> None:
    with pytest.raises(PushRefused) as caught:
        parse([f"{ONE} {TWO} refs/heads/main\n", "garbage\n"])
    assert caught.value.exit_status == Exit.REFUSED


def test_a_ref_keeps_its_blanks_and_the_longer_ids_will_do() -> None:
    (update,) = parse([f"{'0' * 64} {'1' * 64} refs/heads/a b c"])
    assert update == Update("0" * 64, "1" * 64, "refs/heads/a b c")


@EXAMPLES
@given(PUSHES, st.sampled_from([("main", "master"), ("production",)]))
def test_a_deploy_branch_is_chosen_and_nothing_else(
    push: list[Update], branches: tuple[str, ...]
) -> None:
    deploying = {f"refs/heads/{branch}" for branch in branches}
    pushed = [update for update in push if update.ref in deploying]
    if any(update.new == ZERO for update in pushed):
        with pytest.raises(PushRefused, match="cannot be deleted"):
            choose(push, branches)
        return
    chosen = choose(push, branches)
    assert (chosen is None) == (pushed == [])
    assert chosen is None or chosen in pushed


def test_main_is_preferred_to_master_in_whatever_order_they_come() -> None:
    main = Update(ONE, TWO, "refs/heads/main")
    master = Update(ONE, TWO, "refs/heads/master")
    for push in ([main, master], [master, main]):
        assert choose(push, ("main", "master")) == main
    assert choose([master], ("main", "master")) == master
    assert choose([main, master], ("master",)) == master
    assert choose([], ("main",)) is None


def test_another_branch_may_be_deleted() -> None:
    topic = Update(ONE, ZERO, "refs/heads/topic")
    main = Update(ONE, TWO, "refs/heads/main")
    assert choose([topic, main], ("main", "master")) == main
    with pytest.raises(PushRefused, match="master is deployed") as caught:
        choose([main, Update(ONE, ZERO, "refs/heads/master")], ("main", "master"))
    assert "deploy.branch" in caught.value.hint


@pytest.mark.parametrize(
    ("ref", "what"),
    [
        ("refs/heads/main", "branch main"),
        ("refs/heads/a/b", "branch a/b"),
        ("refs/tags/v1.0", "tag v1.0"),
        ("refs/notes/commits", "refs/notes/commits"),
    ],
)
def test_a_ref_in_words(ref: str, what: str) -> None:
    assert Update(ONE, TWO, ref).what == what
    assert not Update(ZERO, TWO, ref).deletes
    assert Update(ONE, ZERO, ref).deletes
    assert Update("1" * 64, "0" * 64, ref).deletes


def test_the_hook_of_a_server_loads_nothing_that_deploys() -> None:
    """It hands the push over to a job, for which the same would be loaded a second time."""
    slow = ("msgspec", "gatling.operations", "gatling.build", "gatling.deploy.", "gatling.project",
            "sqlite3")  # fmt: skip
    assert loaded("from gatling.ssh import pre_receive, push", *slow) == []
