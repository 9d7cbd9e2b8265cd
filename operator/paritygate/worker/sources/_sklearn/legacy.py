"""Loads a model for conversion, also one that an older scikit-learn wrote."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks import sklearn as agent_sklearn
from paritygate.api.report import Finding
from paritygate.errors import ConfigurationError


def load(path: Path) -> tuple[Any, tuple[Finding, ...]]:
    """The estimator, and what had to be done to it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return agent_sklearn.load(str(path)), ()
    except AgentError as error:
        raise ConfigurationError("ModelUnloadable", str(error)) from error
