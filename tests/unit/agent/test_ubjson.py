"""Files of UBJSON that are whole, and such as are not: XGBoost would take all memory for some of those."""

import numpy as np
import pytest
import xgboost as xgb

from paritygate.agent.frameworks import ubjson


@pytest.fixture(scope="module")
def content():
    rows = np.random.default_rng(0).normal(size=(80, 3))
    matrix = xgb.DMatrix(rows, rows[:, 0] > 0, feature_names=["a", "b", "c"])
    return bytes(xgb.train({"nthread": 1, "objective": "binary:logistic"}, matrix, 2).save_raw("ubj"))


@pytest.fixture
def written(tmp_path):
    def write(content):
        (tmp_path / "model.ubj").write_bytes(content)
        return str(tmp_path / "model.ubj")

    return write


def test_what_xgboost_writes_is_whole(content, written):
    assert ubjson.begins(written(content))
    ubjson.require_whole(written(content))


def test_it_is_not_whole_wherever_it_is_cut_off(content, written):
    for length in range(1, len(content), 7):
        path = written(content[:length])
        assert ubjson.begins(path)
        with pytest.raises(ValueError, match=r"^it ends at byte \d+, in the middle of a value$"):
            ubjson.require_whole(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"{i\x01aq}", "byte 4 is no type of UBJSON", id="type"),
        pytest.param(b"{i\xffaT}", "the length at byte 1 is negative", id="negative length"),
        pytest.param(b"{i\x01a[$d}", "byte 7 should say how many", id="typed without a count"),
        pytest.param(b"{Sa", "byte 1 should begin a length", id="name without a length"),
        pytest.param(b"{i\x01a[$d#L\x00\x00\x00\xff\xff\xff\xff\xff", "it ends at byte", id="long array"),
        pytest.param(b"{i\x01a" + b"[" * 100_000, "nested too deeply", id="nesting"),
    ],
)
def test_where_it_goes_wrong_is_told(written, content, message):
    with pytest.raises(ValueError, match=message):
        ubjson.require_whole(written(content))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(b"{#i\x01i\x01a[#i\x02Zd\x00\x00\x00\x00", id="counts"),
        pytest.param(b"{i\x01a{$U#i\x02i\x01a\x07i\x01b\x08i\x01bSi\x02hii\x01c[TFCx]}", id="types in common"),
    ],
)
def test_every_form_of_a_container_is_known(written, content):
    ubjson.require_whole(written(content))


@pytest.mark.parametrize("content", [b"", b'{"a": 1}', b"{\n}", b"binf", b"PK\x03\x04"])
def test_other_formats_are_left_alone(written, content):
    assert not ubjson.begins(written(content))
