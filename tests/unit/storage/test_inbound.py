"""Models and datasets from claims: what is there is copied, and nothing else is reached."""

import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from obstore.store import HTTPStore

from paritygate.errors import ConfigurationError
from paritygate.storage import inbound
from paritygate.storage.digests import digest_of_path
from paritygate.storage.inbound import Inbound


@pytest.fixture
def claims(tmp_path):
    root = tmp_path / "claims"
    (root / "models" / "churn" / "v12").mkdir(parents=True)
    (root / "models" / "churn" / "v12" / "model.pkl").write_bytes(b"model")
    (root / "others").mkdir()
    (root / "others" / "secret").write_text("of somebody else")
    return root


def bring(claims, uri, **how):
    return Inbound(claims).bring(uri, claims.parent / "inputs", "spec.source.uri", **how)


def refusal(claims, uri):
    with pytest.raises(ConfigurationError) as caught:
        bring(claims, uri)
    assert "spec.source.uri" in caught.value.message
    return caught.value.reason, caught.value.message


def test_a_file_and_a_folder_are_brought_as_they_are(claims):
    found = bring(claims, "pvc://models/churn/v12/model.pkl")
    assert (found.name, found.read_bytes()) == ("model.pkl", b"model")
    folder = bring(claims, "pvc://models/churn/v12/")
    assert digest_of_path(folder) == digest_of_path(claims / "models" / "churn" / "v12")


def test_what_is_missing_is_told_with_what_there_is(claims):
    reason, message = refusal(claims, "pvc://models/churn/v13/model.pkl")
    assert reason == "NotFound"
    assert "there is nothing at pvc://models/churn/v13/model.pkl" in message
    assert "(folder 'churn' of claim models holds v12)" in message
    assert bring(claims, "pvc://models/churn/v13", optional=True) is None


@pytest.mark.parametrize("path", ["../others/secret", "churn/../../others/secret"])
def test_a_path_cannot_lead_to_another_claim(claims, path):
    assert refusal(claims, f"pvc://models/{path}")[0] == "OutsideClaim"


def test_a_link_cannot_lead_out_of_the_claim(claims):
    (claims / "models" / "link").symlink_to(claims / "others" / "secret")
    (claims / "models" / "up").symlink_to("..")
    assert refusal(claims, "pvc://models/link")[0] == "OutsideClaim"
    assert refusal(claims, "pvc://models/up/others/secret")[0] == "OutsideClaim"


def test_a_link_inside_a_folder_is_not_followed(claims):
    (claims / "models" / "churn" / "data").symlink_to(claims / "others")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        digest_of_path(bring(claims, "pvc://models/churn"))


def test_a_link_inside_the_claim_is_what_it_leads_to(claims):
    (claims / "models" / "latest").symlink_to("churn/v12/model.pkl")
    assert bring(claims, "pvc://models/latest").read_bytes() == b"model"


def test_what_is_no_file_is_refused(claims):
    os.mkfifo(claims / "models" / "churn" / "pipe")
    assert refusal(claims, "pvc://models/churn")[0] == "Unreadable"


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A web server for https:// addresses, which stands for any host; it lists no folders."""
    (tmp_path / "site" / "models").mkdir(parents=True)
    (tmp_path / "site" / "models" / "churn.pkl").write_bytes(b"model")

    class Site(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(tmp_path / "site")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(
        inbound, "bucket_of",
        lambda uri: HTTPStore(address + urlsplit(uri).path, client_options={"allow_http": True}),
    )  # fmt: skip
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("web")
def test_a_file_of_a_web_server_is_brought_and_one_that_is_not_there_is_told(claims):
    assert bring(claims, "https://models.example/models/churn.pkl").read_bytes() == b"model"
    assert refusal(claims, "https://models.example/models/other.pkl")[0] == "NotFound"
    assert refusal(claims, "https://models.example/models/churn.pkl?signature=x")[0] == "UnsupportedScheme"


@pytest.mark.parametrize("uri", ["churn.pkl", "/proc/self/environ", "file:///proc/self/environ", "hf://churn"])
def test_nothing_of_the_pod_itself_is_read(claims, uri):
    assert refusal(claims, uri)[0] == "UnsupportedScheme"


def test_a_claim_that_is_not_mounted_holds_nothing(claims):
    shutil.rmtree(claims / "models")
    assert refusal(claims, "pvc://models/churn/v12")[0] == "NotFound"
