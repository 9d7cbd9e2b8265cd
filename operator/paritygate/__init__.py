"""Moves machine-learning models to the stack they should run on, and proves that nothing was lost."""

__version__ = "0.1.0.dev0"
