"""The objects of an app: valid by the schemas of Kubernetes, confined, and none another's."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gatling.errors import InvalidInput
from gatling.images.tree import PLACE
from gatling.platform.kubernetes import objects, page, pods, rights
from gatling.platform.kubernetes.pods import Health, Pods
from gatling.platform.limits import Limits
from tests.images.trees import release

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = ("1.25", ".".join(kubernetes_validate.latest_version().split(".")[:2]))
"""The oldest version whose schemas there are, and the newest."""
PODS = Pods(
    app="shop", namespace="prod", release=12,
    image=f"registry.example.com/team/shop@sha256:{'0' * 64}", command=("bin/shop", "start"),
    node="shop", config="shop-v12-0", limits=Limits(memory="512M", cpu="150%", tasks=100),
)  # fmt: skip
ENCRYPTED = structs.replace(PODS, distribution="distribution-shop")
HEALTH = Health("/health", "shop.example.com")
ENV = {"SECRET": "ü$(POD_IP)", "PORT": "4001", "RELEASE_NODE": "shop@127.0.0.1", "LANG": "C.UTF-8"}


def every() -> list[dict[str, Any]]:
    """All kinds of objects."""
    migrate = msgspec.structs.replace(PODS, command=("bin/shop", "eval", "Shop.migrate($(X))"))
    return [
        objects.config(PODS, ENV),
        objects.registry_login("prod", "registry.example.com", "ann", "secret"),
        objects.instances(PODS, HEALTH, 3),
        objects.worker(PODS, "mail_er", 2),
        objects.service(PODS),
        objects.nodes(PODS),
        objects.budget(PODS),
        objects.network(PODS),
        objects.ingress("prod", "shop", ["shop.example.com", "*.shop.example.com"], "le"),
        objects.job(migrate, "migrate", 0.5),
        objects.boot_check(PODS, HEALTH, "check-7", "GATLING_BOOT_CHECK", 90),
        objects.instances(ENCRYPTED, HEALTH, 3),
        page.secret(PODS, "<h1>Back soon</h1>"),
        page.deployment(PODS, "<h1>Back soon</h1>"),
    ]


def kind(name: str) -> dict[str, Any]:
    return next(one for one in every() if one["kind"] == name)


def templates() -> list[dict[str, Any]]:
    """The specs of pods."""
    return [one["spec"]["template"]["spec"] for one in every() if "template" in one.get("spec", {})]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_of_kubernetes_accept_all(version: str) -> None:
    assert tuple(map(int, VERSIONS[-1].split("."))) >= (1, 37)
    for one in every():
        assert kubernetes_validate.validate(one, version, strict=True) == version


def test_what_is_no_object_is_found() -> None:
    one = kind("Deployment")
    one["spec"]["template"]["spec"]["runAsRoot"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)


def test_pods_are_restricted() -> None:
    """As the profile of that name of the Pod Security Standards asks for."""
    assert len(templates()) == 6
    for spec in templates():
        around = spec["securityContext"]
        assert around["runAsNonRoot"]
        assert around["runAsUser"] == 10001
        assert around["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec["automountServiceAccountToken"]
        assert all({"emptyDir", "secret"} & volume.keys() for volume in spec["volumes"])
        assert "hostNetwork" not in spec
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            own = container["securityContext"]
            assert not own["allowPrivilegeEscalation"]
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert own["readOnlyRootFilesystem"]


def test_secrets_are_in_secrets_only() -> None:
    said = json.dumps([one for one in every() if one["kind"] != "Secret"])
    assert "ü" not in said
    for named in ("secretref", "pullsecrets", '"secret": {"secretname"', "secretname"):
        said = said.lower().replace(named, "")
    assert "secret" not in said
    data = objects.config(PODS, ENV)["data"]
    assert data.keys() == {"SECRET", "LANG"}
    assert base64.b64decode(data["SECRET"]).decode() == ENV["SECRET"]
    login = objects.registry_login("prod", "r.example.com", "ann", "secret")
    kept = json.loads(base64.b64decode(login["data"][".dockerconfigjson"]))
    assert base64.b64decode(kept["auths"]["r.example.com"]["auth"]) == b"ann:secret"


def test_pods_with_nodes_have_the_certificate_of_distribution() -> None:
    web, check, job, worker = (
        one["spec"]["template"]["spec"]
        for one in (
            objects.instances(ENCRYPTED, HEALTH, 3),
            objects.boot_check(ENCRYPTED, HEALTH, "check-7", "GATLING_BOOT_CHECK", 90),
            objects.job(ENCRYPTED, "migrate", 5),
            objects.worker(ENCRYPTED, "mailer", 2),
        )
    )
    for spec in (web, check):
        (volume,) = [one for one in spec["volumes"] if "secret" in one]
        assert volume["secret"]["secretName"] == "distribution-shop"
        files = {one["key"] for one in volume["secret"]["items"]}
        assert {"tls.key", "ca.crt"} < files
        assert "ca.key" not in files, "no pod needs the key of the authority"
        assert volume["secret"]["defaultMode"] == 0o400
        (mount,) = [one for one in spec["containers"][0]["volumeMounts"] if "readOnly" in one]
        assert mount["mountPath"] == "/etc/gatling/distribution"
    for spec in (job, worker):
        assert not [one for one in spec["volumes"] if "secret" in one]
    assert pods.encrypted({"spec": web})
    assert not pods.encrypted({"spec": job})


def test_an_instance_that_only_boots_serves_nobody_and_joins_no_other() -> None:
    job = objects.boot_check(PODS, HEALTH, "check-7", "GATLING_BOOT_CHECK", 90)
    template = job["spec"]["template"]
    for one in (objects.service(PODS), objects.nodes(PODS)):
        assert not one["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert env["GATLING_BOOT_CHECK"] == "1"
    assert env["RELEASE_COOKIE"], "over that of the config, which the other nodes have"
    assert "unset DNS_CLUSTER_QUERY" in container["command"][2]
    assert container["command"][-2:] == ["/gatling/current/bin/shop", "start"]
    assert template["spec"]["restartPolicy"] == "Never"


def test_a_new_instance_is_ready_before_an_old_one_stops() -> None:
    spec = kind("Deployment")["spec"]
    assert spec["strategy"] == {
        "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}
    }  # fmt: skip
    (container,) = spec["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert "livenessProbe" not in container


def test_instances_that_must_be_alone_end_before_new_ones_start() -> None:
    alone = objects.instances(PODS, HEALTH, 1, alone=True)
    for version in VERSIONS:
        assert kubernetes_validate.validate(alone, version, strict=True) == version
    assert alone["spec"].pop("strategy") == {"type": "Recreate"}
    beside = objects.instances(PODS, HEALTH, 1)
    assert beside["spec"].pop("strategy")["type"] == "RollingUpdate"
    assert alone == beside


def test_each_deployment_has_pods_of_its_own() -> None:
    one, two = (
        objects.instances(msgspec.structs.replace(PODS, deployment=number), HEALTH, 1)
        for number in (7, 8)
    )
    assert one["spec"]["template"] != two["spec"]["template"]
    assert one["spec"]["selector"] == two["spec"]["selector"]


def test_a_drain_comes_before_the_end() -> None:
    shown = objects.instances(
        msgspec.structs.replace(PODS, drain_seconds=10.5, stop_seconds=20), HEALTH, 1
    )["spec"]["template"]["spec"]
    hook = shown["containers"][0]["lifecycle"]["preStop"]
    assert hook == {"exec": {"command": ["sleep", "11"]}}
    assert shown["terminationGracePeriodSeconds"] == 31


def test_instances_of_a_lost_node_are_soon_started_elsewhere() -> None:
    for spec in templates():
        found = {one["key"]: one["tolerationSeconds"] for one in spec["tolerations"]}
        assert found == {
            "node.kubernetes.io/not-ready": 30, "node.kubernetes.io/unreachable": 30
        }  # fmt: skip


def test_distribution_is_reached_by_instances_alone() -> None:
    rules = kind("NetworkPolicy")["spec"]["ingress"]
    assert [rule["ports"][0]["port"] for rule in rules if "from" not in rule] == [4000]
    (own,) = [rule for rule in rules if "from" in rule]
    assert own["ports"][0]["port"] == 4370
    chosen = own["from"][0]["podSelector"]["matchLabels"]
    assert chosen == kind("Deployment")["spec"]["selector"]["matchLabels"]
    for one in (objects.worker(PODS, "mailer", 1), kind("Job")):
        env = one["spec"]["template"]["spec"]["containers"][0]["env"]
        assert {"name": "RELEASE_DISTRIBUTION", "value": "none"} in env


def test_selectors_choose_the_pods_of_their_own() -> None:
    for one in (one for one in every() if one["kind"] == "Deployment"):
        spec = one["spec"]
        chosen = spec["selector"]["matchLabels"].items()
        assert chosen <= spec["template"]["metadata"]["labels"].items()
        for other in every():
            inner = other.get("spec", {}).get("template")
            if inner and other["metadata"]["name"] != one["metadata"]["name"]:
                assert not chosen <= inner["metadata"]["labels"].items()


def test_words_of_a_command_are_not_replaced() -> None:
    (container,) = kind("Job")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["/gatling/current/bin/shop", "eval", "Shop.migrate($$(X))"]


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        (Limits(), {}),
        (Limits(memory="512M"), {"limits": {"memory": "512Mi"}, "requests": {"memory": "512Mi"}}),
        (Limits(memory="1000"), {"limits": {"memory": "1000"}, "requests": {"memory": "1000"}}),
        (Limits(cpu="5%"), {"limits": {"cpu": "50m"}}),
    ],
)
def test_limits_in_units_of_kubernetes(limits: Limits, found: dict[str, Any]) -> None:
    assert pods.resources(limits) == found


@pytest.mark.parametrize("limits", [Limits(memory="75%"), Limits(cpu="fast")])
def test_limits_that_no_cluster_keeps(limits: Limits) -> None:
    with pytest.raises(InvalidInput, match=r"limits\."):
        pods.resources(limits)


APPS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,12}[a-z0-9])?", fullmatch=True)
PARTS = st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True)


@given(APPS, APPS, PARTS, PARTS, st.integers(1, 99))
def test_no_object_is_another_app_s(one: str, two: str, a: str, b: str, number: int) -> None:
    def names(app: str, part: str) -> set[tuple[str, str]]:
        mine = msgspec.structs.replace(
            PODS, app=app, release=number, config=pods.secret_name(app, number, ENV)
        )
        made = (
            objects.config(mine, ENV), objects.instances(mine, HEALTH, 1), objects.service(mine),
            objects.nodes(mine), objects.worker(mine, part, 1), objects.job(mine, part, 1),
        )  # fmt: skip
        found = {(each["kind"], each["metadata"]["name"]) for each in made}
        assert len(found) == len(made)
        assert all(len(name) <= 63 for _, name in found)
        return found

    if one != two:
        assert not names(one, a) & names(two, b)


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too long for a cluster"):
        objects.instances(msgspec.structs.replace(PODS, app="a" * 41), HEALTH, 1)


def test_there_is_a_right_for_each_kind() -> None:
    written = {one.resource for one in rights.NAMESPACE if "patch" in one.verbs}
    for one in every():
        plural = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}.get(one["kind"])
        assert (plural or f"{one['kind'].lower()}s") in written


@pytest.mark.skipif(not shutil.which("dash"), reason="runs the script with Debian's sh")
def test_the_tree_is_filled_once_and_current_stays(tmp_path: Path) -> None:
    """An init container runs again when a node boots: what a hot upgrade has changed stays."""
    (script, _, tree) = templates()[0]["initContainers"][0]["command"][2:]
    image = release(tmp_path)
    script = script.replace(f"/{PLACE}", str(image)).replace("/gatling", f"{tmp_path}/gatling")
    tree = tree.replace("/gatling", f"{tmp_path}/gatling")

    def fill() -> None:
        subprocess.run(["dash", "-c", script, "sh", tree], check=True, umask=0o022)

    left = tmp_path / "gatling/releases/v12.new"
    left.mkdir(parents=True)
    (left / "half").write_text("of a killed run")
    fill()
    current = tmp_path / "gatling/current"
    assert (current / "bin/shop").read_bytes() == (image / "bin/shop").read_bytes()
    assert os.access(current / "bin/shop", os.X_OK)
    assert (current / "lib/shop-0.1.0/priv/static/latest.js").is_symlink()
    assert not (current / "half").exists()
    upgraded = tmp_path / "gatling/releases/v13"
    shutil.copytree(image, upgraded, symlinks=True)
    current.unlink()
    current.symlink_to(upgraded)
    fill()
    assert current.readlink() == upgraded


def test_pods_of_a_worker_have_its_name() -> None:
    """Whatever a name ends with: the value of a label ends with a letter or a digit."""
    for name in ("mailer", "mail_er", "a-", "b_", "c0", "worker-x"):
        component = objects.worker_component(name)
        assert component[-1].isalnum()
        assert objects.process_of(component) == name
    assert objects.process_of("web") == "web"
    assert objects.process_of("job") == ""
    made = objects.worker(structs.replace(PODS, process="mailer"), "mailer", 2)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert {"name": "GATLING_PROCESS", "value": "mailer"} in container["env"]


def test_an_issuer_obtains_the_certificate_of_the_domains() -> None:
    plain = objects.ingress("prod", "shop", ["shop.example.com"])
    assert "tls" not in plain["spec"]
    assert "annotations" not in plain["metadata"]
    for issuer, note in (("le", "cluster-issuer"), ("issuer/le", "issuer")):
        made = objects.ingress("prod", "shop", ["shop.example.com"], issuer)
        assert made["metadata"]["annotations"] == {f"cert-manager.io/{note}": "le"}
        assert made["spec"]["tls"] == [{"hosts": ["shop.example.com"], "secretName": "tls-shop"}]
