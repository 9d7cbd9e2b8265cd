"""What is written for the parts of a cluster for tests: they fit together, and stay in their place."""

import ipaddress
import json
import re
import tomllib
from pathlib import Path

import pytest

from cluster import components, config, layout, manifests
from cluster.layout import Layout

MADE = Layout(Path("/disk/paritygate-cluster-0-abc"))
PAUSE, HELPER = "paritygate.test/pause@sha256:1", "paritygate.test/base@sha256:2"
PROGRAMS = components.Programs(
    Path("/bin/kubernetes"), ("/bin/kubernetes", "coredns"), Path("/bin/local-path"), Path("/bin/kube-router")
)
FILES = config.files(MADE, PAUSE, HELPER)
COMMANDS = components.commands(MADE, PROGRAMS, HELPER)


def test_addresses_do_not_overlap():
    ranges = [ipaddress.ip_network(text) for text in (layout.NODES, layout.PODS, layout.SERVICES)]
    assert not any(a.overlaps(b) for a in ranges for b in ranges if a is not b)
    assert ipaddress.ip_address(layout.ADDRESS) in ranges[0]
    assert {ipaddress.ip_address(text) for text in (layout.DNS, layout.FIRST_SERVICE)} <= set(ranges[2].hosts())


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".json", ".conflist"))])
def test_what_is_json_is_json(name):
    assert json.loads(FILES[name])


def test_containerd_keeps_to_the_nodes_own_places():
    told = tomllib.loads(FILES["containerd.toml"])
    plugins = told["plugins"]
    own = (told["root"], plugins["io.containerd.internal.v1.opt"]["path"])
    assert all(path.startswith("/var/lib/containerd") for path in own)
    assert told["state"] == "/run/containerd"
    assert told["temp"].startswith(str(MADE.folder))
    cri = plugins["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == PAUSE
    assert cri["restrict_oom_score_adj"]
    assert cri["disable_apparmor"]
    assert Path(cri["cni"]["conf_dir"], "10-pods.conflist") == MADE.path("cni/10-pods.conflist")


def test_the_kubelet_asks_who_comes_and_hangs_its_pods_below_our_control_group():
    told = json.loads(FILES["kubelet.json"])
    assert told["authentication"]["anonymous"] == {"enabled": False}
    assert told["cgroupRoot"] == f"/{MADE.folder.name}"
    assert told["containerRuntimeEndpoint"] == f"unix://{layout.CONTAINERD}"
    assert told["clusterDNS"] == [layout.DNS]
    assert told["volumePluginDir"].startswith(layout.KUBELET)


def test_names_of_nobody_are_answered_at_once():
    known, others = re.findall(r"^([^\n]*) \{\n(.*?)^\}", FILES["Corefile"], re.MULTILINE | re.DOTALL)
    assert known[0].startswith(f"{layout.DOMAIN}:53")
    assert "kubernetes" in known[1]
    assert others[0] == ".:53"
    assert "rcode NXDOMAIN" in others[1]


def test_pods_inherit_no_server_for_names():
    lines = FILES["node-resolv.conf"].splitlines()
    assert all(line.startswith("#") for line in lines)


def test_nothing_leaves_whichever_way_it_goes():
    for hook in ("output", "forward"):
        chain = re.search(rf"chain {hook} \{{(.*?)\n    \}}", FILES["edge.nft"], re.DOTALL)[1]
        assert "reject" in chain
        assert all(inside in chain for inside in (layout.NODES, layout.PODS, layout.SERVICES, "127.0.0.0/8"))


def test_every_configuration_is_read_by_its_component():
    for component, name in (
        ("containerd", "containerd.toml"),
        ("kubelet", "kubelet.json"),
        ("kube-proxy", "kube-proxy.json"),
        ("coredns", "Corefile"),
        ("local-path-provisioner", "local-path.json"),
    ):
        assert name in FILES
        assert any(part.endswith(str(MADE.path(name))) for part in COMMANDS[component])


def test_components_speak_for_themselves_only():
    for name in ("kube-scheduler", "kube-controller-manager", "kubelet"):
        assert name in components.CLIENTS
        assert f"--kubeconfig={MADE.kubeconfig(name)}" in COMMANDS[name]
    assert json.loads(FILES["kube-proxy.json"])["clientConnection"]["kubeconfig"] == str(MADE.kubeconfig("kube-proxy"))
    masters = [name for name, (_, groups) in components.CLIENTS.items() if "system:masters" in groups]
    assert masters == ["kubelet-client"]


def test_the_server_decides_as_in_production():
    flags = COMMANDS["kube-apiserver"]
    assert "--authorization-mode=Node,RBAC" in flags
    assert "--anonymous-auth=false" in flags
    assert "--enable-admission-plugins=NodeRestriction" in flags
    assert not any(flag.startswith("--disable-admission-plugins") for flag in flags)
    assert not any(flag.startswith("--controllers") for flag in COMMANDS["kube-controller-manager"])


def test_a_kubeconfig_names_one_user():
    told = json.loads(config.kubeconfig(MADE, components.SERVER, "kubelet"))
    (user,) = told["users"]
    assert user["user"] == {
        "client-certificate": str(MADE.path("kubelet.crt")),
        "client-key": str(MADE.path("kubelet.key")),
    }


def test_objects_come_after_the_namespaces_that_they_are_in():
    made = {"kube-system", "default"}
    for path, obj in manifests.objects():
        namespace = obj["metadata"].get("namespace")
        assert namespace is None or (namespace in made and f"/namespaces/{namespace}/" in path)
        if obj["kind"] == "Namespace":
            made.add(obj["metadata"]["name"])


def test_volumes_are_of_the_type_that_honours_groups():
    (storage,) = [obj for _, obj in manifests.objects() if obj["kind"] == "StorageClass"]
    assert storage["metadata"]["annotations"]["defaultVolumeType"] == "local"
    assert storage["volumeBindingMode"] == "WaitForFirstConsumer"
