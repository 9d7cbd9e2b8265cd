"""The gate's checks (DESIGN.md §5), one module each: from `Evidence` to a `Check` with its measurements.

`judge.judge` runs them all. Checks measure; what follows from the numbers is `paritygate.core.verdict`'s alone.
"""
