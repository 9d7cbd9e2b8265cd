"""Tables come back as they were written, and the same table always gives the same bytes."""

from collections import OrderedDict

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritygate.agent import exchange
from paritygate.agent.exchange import Category

ROWS = 5
DTYPES = st.sampled_from(["?", "i1", "u2", "<i4", "<i8", "u8", "f2", "<f4", "<f8", "<M8[ns]"])
TENSORS = DTYPES.flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(max_dims=2, max_side=3).map(lambda shape: (ROWS, *shape)))
)
WORDS = st.one_of(st.none(), st.text(max_size=5))


@st.composite
def texts(draw):
    column = np.empty(ROWS, dtype=object)
    column[:] = draw(st.lists(WORDS, min_size=ROWS, max_size=ROWS))
    return column


@st.composite
def categories(draw):
    known = draw(st.lists(st.text(min_size=1, max_size=3), unique=True, min_size=1, max_size=4))
    codes = draw(st.lists(st.integers(-1, len(known) - 1), min_size=ROWS, max_size=ROWS))
    return Category(codes, np.asarray(known, dtype=object), draw(st.booleans()))


@st.composite
def ragged_rows(draw):
    dtype = draw(st.sampled_from(["<i8", "<f4"]))
    column = np.empty(ROWS, dtype=object)
    for row in range(ROWS):
        column[row] = draw(arrays.arrays(dtype, st.tuples(st.integers(0, 3), st.just(2))))
    return column


def same(left, right):
    if isinstance(left, Category):
        assert left.ordered == right.ordered
        np.testing.assert_array_equal(left.codes, right.codes)
        return same(left.categories, right.categories)
    if left.dtype == object and isinstance(left[0], np.ndarray):
        for one, other in zip(left, right, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.shape == other.shape
        return None
    assert left.dtype == right.dtype
    return np.testing.assert_array_equal(left, right)


@given(table=st.dictionaries(st.text(max_size=8), st.one_of(TENSORS, texts(), categories(), ragged_rows()), max_size=4))
def test_what_is_loaded_is_what_was_saved(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    exchange.save(str(folder / "one.npz"), OrderedDict(table))
    loaded = exchange.load(str(folder / "one.npz"))
    assert list(loaded) == list(table)
    for name, column in table.items():
        same(column, loaded[name])
    exchange.save(str(folder / "two.npz"), loaded)
    assert (folder / "one.npz").read_bytes() == (folder / "two.npz").read_bytes()


@pytest.mark.parametrize(
    ("column", "text"),
    [
        pytest.param(np.asarray(["a", 1], dtype=object), "column 'x': holds a int", id="numbers among text"),
        pytest.param(np.asarray([{}, {}], dtype=object), "column 'x': holds a dict", id="objects"),
        pytest.param(np.zeros(2, dtype=[("a", "i4")]), "column 'x': dtype", id="structures"),
    ],
)
def test_column_that_cannot_be_stored_is_named_and_nothing_is_left_behind(tmp_path, column, text):
    with pytest.raises(TypeError, match=text):
        exchange.save(str(tmp_path / "table.npz"), OrderedDict(x=column))
    assert not list(tmp_path.iterdir())


def test_rows_of_different_rank_are_refused(tmp_path):
    column = np.empty(2, dtype=object)
    column[0], column[1] = np.zeros(1), np.zeros((1, 1))
    with pytest.raises(TypeError, match="different ranks"):
        exchange.save(str(tmp_path / "table.npz"), OrderedDict(x=column))
