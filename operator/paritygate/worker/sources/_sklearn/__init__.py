"""scikit-learn's estimators as ONNX in double precision, as the source computes.

`writer` holds what is known while a graph is written and the tables of translations; the other modules register one
translation per class. Estimators without a translation go through skl2onnx (`fallback`) or are refused by name.
"""
