"""Images as another program reads them, and their way to a real registry and away from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import DiskFull, InvalidInput, RegistryFailed
from gatling.images import archive, image, layout, reference
from gatling.images.http import Login
from gatling.images.image import Base
from gatling.images.layout import Layout
from tests.images import registries
from tests.images.registries import LOGIN, Running
from tests.images.trees import release
from tests.proxy.authority import certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = ("/opt/release/bin/shop", "start")


def base(into: Layout) -> Base:
    """A base of one file, much smaller than a real one."""
    return Base((into.layer([archive.text("etc/os-release", "ID=test\n")]),), ("LANG=C.UTF-8",))


def written(into: Layout, tree: Path) -> layout.Image:
    return image.write(into, tree, base(into), own={"shop"}, command=COMMAND)


def skopeo(*words: str) -> Any:
    """What skopeo prints; it must be content."""
    if not shutil.which("skopeo"):
        pytest.skip("images are checked with skopeo")
    done = subprocess.run(["skopeo", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with registries.running(tmp_path_factory.mktemp("registry")) as found:
        yield found


def test_another_program_reads_a_layout(tmp_path: Path) -> None:
    into = Layout(tmp_path / "images")
    made = written(into, release(tmp_path))
    into.tag("v1", made.manifest)
    said = skopeo("inspect", f"oci:{into.root}:v1")
    assert said["Digest"] == made.manifest.digest
    assert said["Os"] == "linux"
    assert said["Layers"] == [layer.blob.digest for layer in made.layers]
    skopeo("copy", "--quiet", f"oci:{into.root}:v1", f"dir:{tmp_path}/copy")
    config = skopeo("inspect", "--config", f"oci:{into.root}:v1")
    assert config["config"]["Cmd"] == list(COMMAND)
    assert config["config"]["User"] == "10001:10001"
    assert config["rootfs"]["diff_ids"] == [layer.diff for layer in made.layers]


def test_the_same_tree_has_the_same_digest_in_another_layout(tmp_path: Path) -> None:
    one = written(Layout(tmp_path / "a"), release(tmp_path))
    two = written(Layout(tmp_path / "b"), release(tmp_path))
    assert one.manifest == two.manifest


def test_a_layer_that_is_known_is_not_compressed_again(tmp_path: Path) -> None:
    into = Layout(tmp_path / "images")
    first = written(into, release(tmp_path))
    assert [layer.made for layer in first.layers[1:]] == [True] * 4
    changed = written(Layout(tmp_path / "images"), release(tmp_path, title="two"))
    assert [layer.made for layer in changed.layers[1:]] == [False, False, False, True]
    assert changed.layers[:-1] == tuple(
        layout.Layer(layer.blob, layer.diff) for layer in first.layers[:-1]
    )
    (into.root / "layers.json").write_text("{broken")
    assert written(into, release(tmp_path)).manifest == first.manifest


def test_only_images_that_are_kept_take_space(tmp_path: Path) -> None:
    into = Layout(tmp_path / "images")
    for tag, title in (("v1", "one"), ("v2", "two")):
        into.tag(tag, written(into, release(tmp_path, title=title)).manifest)
    assert set(into.tags()) == {"v1", "v2"}
    assert into.keep(["v2"]) > 0
    assert set(into.tags()) == {"v2"}
    assert into.keep(["v2"]) == 0
    skopeo("copy", "--quiet", f"oci:{into.root}:v2", f"dir:{tmp_path}/copy")
    again = written(into, release(tmp_path, title="one"))
    assert [layer.made for layer in again.layers] == [False] * 4 + [True]


def test_a_killed_command_leaves_no_blob_under_a_false_name(tmp_path: Path) -> None:
    into = Layout(tmp_path / "images")
    left = into.root / "blobs/sha256/123.new"
    left.write_text("half")
    into = Layout(tmp_path / "images")
    assert not left.exists()
    made = written(into, release(tmp_path))
    blob = into.path(made.layers[1].blob.digest)
    blob.write_bytes(blob.read_bytes()[:-1])  # a power cut
    assert written(into, release(tmp_path)).manifest == made.manifest
    into.tag("v1", made.manifest)
    skopeo("copy", "--quiet", f"oci:{into.root}:v1", f"dir:{tmp_path}/copy")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_leaves_the_layout_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatling.files.RESERVE_BYTES", 0)
    monkeypatch.setattr("gatling.files.RESERVE_FILES", 0)
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "t", place], check=False
    ).returncode:
        pytest.skip("no tmpfs can be mounted")
    try:
        into = Layout(place)
        made = written(into, release(tmp_path))
        into.tag("v1", made.manifest)
        tree = release(tmp_path, title="large")
        (tree / "lib/shop-0.1.0/priv/noise").write_bytes(os.urandom(2 << 20))
        with pytest.raises(DiskFull):
            written(into, tree)
        into.keep(["v1"])
        skopeo("copy", "--quiet", f"oci:{into.root}:v1", f"dir:{tmp_path}/copy")
        assert not list(place.glob("blobs/sha256/*.new"))
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_registry_gets_what_it_does_not_have(tmp_path: Path, registry: Running) -> None:
    into = Layout(tmp_path / "images")
    with registry.open("first/shop") as target:
        one = written(into, release(tmp_path))
        pushed = image.push(target, into, one, "v1")
        assert pushed.sent == pushed.size
        said = skopeo("inspect", "--tls-verify=false", f"docker://{registry.host}/first/shop:v1")
        assert said["Digest"] == pushed.digest == one.manifest.digest
        assert image.push(target, into, one, "v1").sent == one.manifest.size
        two = written(into, release(tmp_path, title="two"))
        change = image.push(target, into, two, "v2")
        own = (two.layers[-1].blob, two.config, two.manifest)
        assert change.sent == sum(blob.size for blob in own)
        assert sorted(target.tags()) == ["v1", "v2"]
    skopeo("copy", "--quiet", "--src-tls-verify=false",
           f"docker://{registry.host}/first/shop:v2", f"dir:{tmp_path}/copy")  # fmt: skip


def test_a_large_layer_is_sent_in_parts(
    tmp_path: Path, registry: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatling.images.registry.PART", 3000)
    into = Layout(tmp_path / "images")
    made = written(into, release(tmp_path))
    assert max(layer.blob.size for layer in made.layers) > 9000
    with registry.open("parts/shop") as target:
        pushed = image.push(target, into, made, "v1")
    assert pushed.sent == pushed.size
    skopeo("copy", "--quiet", "--src-tls-verify=false",
           f"docker://{registry.host}/parts/shop:v1", f"dir:{tmp_path}/copy")  # fmt: skip


def test_old_images_are_removed_and_shared_ones_stay(tmp_path: Path, registry: Running) -> None:
    into = Layout(tmp_path / "images")
    one, two = (written(into, release(tmp_path, title=title)) for title in ("one", "two"))
    with registry.open("old/shop", rights="pull,push,delete") as target:
        for tag, made in (("v1", one), ("v2", two), ("v3", one), ("v4", two)):
            image.push(target, into, made, tag)
        done = image.collect(target, ["v1", "v2", "v0"], ["v3"])
        assert target.manifest("v2") is None
        assert target.manifest("v3") is not None
        # docker-registry cannot remove the tag of a manifest that another tag needs
        assert (done.removed, done.left) == (("v2",), ("v1",))
        assert "refused" in done.why


def test_a_registry_that_removes_nothing_is_no_failure(tmp_path: Path) -> None:
    into = Layout(tmp_path / "images")
    with (
        registries.running(tmp_path / "registry", removes=False) as found,
        found.open(rights="pull,push,delete") as target,
    ):
        image.push(target, into, written(into, release(tmp_path)), "v1")
        done = image.collect(target, ["v1"], [])
    assert (done.removed, done.left) == ((), ("v1",))
    assert "unsupported" in done.why


def test_a_named_image_is_a_base(tmp_path: Path, registry: Running) -> None:
    there = Layout(tmp_path / "there")
    lowest = written(there, release(tmp_path, title="base"))
    with registry.open("images/base") as origin:
        image.push(origin, there, lowest, "1")
        named = reference.reference(f"{registry.host}/images/base:1")
        here = Layout(tmp_path / "here")
        found = image.named_base(here, origin, named)
        pinned = reference.reference(f"{registry.host}/images/base@{lowest.manifest.digest}")
        assert image.named_base(here, origin, pinned) == found
        with pytest.raises(RegistryFailed, match="There is no image"):
            image.named_base(here, origin, reference.reference(f"{registry.host}/images/base:2"))
    made = image.write(here, release(tmp_path), found, own={"shop"}, command=COMMAND)
    assert [layer.blob for layer in made.layers[:5]] == [layer.blob for layer in lowest.layers]
    with registry.open("on/shop") as target:
        pushed = image.push(target, here, made, "v1", found.origin)
    mounted = sum(layer.blob.size for layer in lowest.layers)
    assert pushed.sent <= pushed.size - mounted + made.layers[-1].blob.size
    config = skopeo("inspect", "--tls-verify=false", "--config",
                    f"docker://{registry.host}/on/shop:v1")  # fmt: skip
    assert config["config"]["Env"] == ["LANG=C.UTF-8"]


def test_a_password_is_needed_and_used(tmp_path: Path) -> None:
    into = Layout(tmp_path / "images")
    made = written(into, release(tmp_path))
    auth = registries.basic(tmp_path / "auth")
    with registries.running(tmp_path / "registry", auth=auth, tls=True) as found:
        with found.open(login=LOGIN) as target:
            target.check()
            assert image.push(target, into, made, "v1").sent > 0
        for login in (None, Login("pusher", "wrong"), Login("nobody", "secret")):
            with found.open(login=login) as target, pytest.raises(RegistryFailed) as caught:
                target.check()
            assert caught.value.reason == "login"
            assert "secret" not in caught.value.what
        other = tmp_path / "other.pem"
        other.write_text(certificate(name="other", authority=True).pem)
        untrusting = Running(found.host, found.storage, other)
        with untrusting.open(login=LOGIN) as target, pytest.raises(RegistryFailed) as caught:
            target.check()
        assert caught.value.reason == "untrusted"


def test_a_token_is_asked_of_the_server_that_the_registry_names(tmp_path: Path) -> None:
    into = Layout(tmp_path / "images")
    made = written(into, release(tmp_path))
    with (
        registries.tokens(tmp_path / "auth") as auth,
        registries.running(tmp_path / "registry", auth=auth) as found,
    ):
        with found.open(login=LOGIN) as target:
            target.check()
            assert image.push(target, into, made, "v1").sent > 0
        with found.open() as target:  # may pull only
            assert target.manifest("v1") is not None
            with pytest.raises(RegistryFailed) as caught:
                target.check()
            assert caught.value.reason in {"login", "denied"}
        with (
            found.open(login=Login("pusher", "wrong")) as target,
            pytest.raises(RegistryFailed, match="wrong password") as caught,
        ):
            target.check()
        assert caught.value.reason == "login"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_registry_is_named(tmp_path: Path) -> None:
    into = Layout(tmp_path / "images")
    tree = release(tmp_path)
    (tree / "lib/shop-0.1.0/priv/noise").write_bytes(os.urandom(3 << 20))
    made = written(into, tree)
    place = tmp_path / "registry"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "t", place], check=False
    ).returncode:
        pytest.skip("no tmpfs can be mounted")
    try:
        with registries.running(place) as found, found.open() as target:
            with pytest.raises(RegistryFailed) as caught:
                image.push(target, into, made, "v1")
            assert caught.value.reason == "full"
            assert "space" in caught.value.hint
            assert target.manifest("v1") is None
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_base_for_another_machine_is_refused(tmp_path: Path, registry: Running) -> None:
    there = Layout(tmp_path / "there")
    config = {"architecture": "s390x", "os": "linux", "config": {}}
    made = there.image(base(there).layers, config)
    with registry.open("images/other") as origin:
        image.push(origin, there, made, "1")
        named = reference.reference(f"{registry.host}/images/other:1")
        with pytest.raises(InvalidInput, match="is for 's390x' only"):
            image.named_base(Layout(tmp_path / "here"), origin, named)
