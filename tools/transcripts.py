"""Pages that show what is seen in a cluster, as the transcripts that tests compare tell it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent
_TRANSCRIPTS: Final = _ROOT / "tests" / "scenarios" / "transcripts"
_PAGES: Final = (Path("docs/how-to/watch-a-migration.md"),)
_SHOWN: Final = re.compile(
    r"(?P<head><!-- transcript (?P<name>[a-z-]+)(?:, step (?P<step>[0-9]+))? -->\n)```text\n.*?```\n", re.DOTALL
)


def files() -> dict[Path, str]:
    """Path relative to the repository → the page, with its transcripts as they are now."""
    return {page: _SHOWN.sub(_filled, (_ROOT / page).read_text(encoding="utf-8")) for page in _PAGES}


def _filled(found: re.Match[str]) -> str:
    _, *steps = (_TRANSCRIPTS / f"{found['name']}.txt").read_text(encoding="utf-8").split("\n# ")
    shown = steps if found["step"] is None else [steps[int(found["step"]) - 1]]
    told = "\n".join(f"# {step.rstrip()}\n" for step in shown)
    return f"{found['head']}```text\n{told}```\n"
