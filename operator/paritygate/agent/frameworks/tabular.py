"""Data frames as a model was fitted on, built from columns of a dataset."""

from collections import OrderedDict

import numpy as np

from paritygate.agent.exchange import Category


def frame(inputs, missing_text):
    """A pandas data frame with a column per input; `missing_text` stands for missing text (None or NaN)."""
    import pandas as pd

    columns = OrderedDict()
    for name, column in inputs.items():
        if isinstance(column, Category):
            columns[name] = pd.Categorical.from_codes(
                column.codes, categories=pd.Index(column.categories), ordered=column.ordered
            )
        elif column.dtype == object:
            cells = np.empty(len(column), dtype=object)
            cells[:] = [missing_text if value is None else value for value in column]
            columns[name] = pd.Series(cells, dtype=object)
        else:
            columns[name] = column
    return pd.DataFrame(columns, columns=list(inputs))
