"""How the API server is found."""

import base64

import pytest
import yaml

from paritygate.cluster.connection import connection, from_kubeconfig
from paritygate.errors import UsageError


def kubeconfig(folder, **user):
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "models"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://host:6443/", "certificate-authority": "ca.crt"}}],
        "users": [{"name": "u", "user": user}],
    }
    (folder / "ca.crt").write_text("authority")
    file = folder / "config"
    file.write_text(yaml.safe_dump(content))
    return file


def test_kubeconfig_is_read_with_files_beside_it_and_data_inside_it(tmp_path):
    found = from_kubeconfig(kubeconfig(tmp_path, **{"client-certificate-data": base64.b64encode(b"x").decode()}))
    assert (found.server, found.namespace, found.ca, found.certificate) == (
        "https://host:6443",
        "models",
        b"authority",
        b"x",
    )


def test_kubeconfig_of_the_environment_wins_over_the_pod(tmp_path):
    (tmp_path / "token").write_text("t")
    found = connection({"KUBECONFIG": str(kubeconfig(tmp_path, token="secret"))}, account=tmp_path)
    assert found.authorization() == {"Authorization": "Bearer secret"}


def test_a_pod_knows_its_server_and_reads_its_token_anew(tmp_path):
    for name in ("token", "ca.crt", "namespace"):
        (tmp_path / name).write_text(name)
    found = connection({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, account=tmp_path)
    assert found.server == "https://[fd00::1]:443"
    (tmp_path / "token").write_text("newer\n")
    assert found.authorization() == {"Authorization": "Bearer newer"}


def test_a_user_who_logs_in_by_a_plug_in_is_refused(tmp_path):
    with pytest.raises(UsageError, match="plug-in"):
        from_kubeconfig(kubeconfig(tmp_path, exec={"command": "aws"}))


@pytest.mark.parametrize("text", ["", "a: [", "current-context: gone\ncontexts: []"])
def test_a_broken_kubeconfig_is_named(tmp_path, text):
    (tmp_path / "config").write_text(text)
    with pytest.raises(UsageError, match="not a usable kubeconfig"):
        from_kubeconfig(tmp_path / "config")


def test_without_a_cluster_it_is_said_how_to_name_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="set KUBECONFIG"):
        connection({}, account=tmp_path)
