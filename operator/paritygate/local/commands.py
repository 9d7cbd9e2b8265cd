"""How the parts that work in processes of their own are started."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from paritygate.agent.archive import build_zipapp


@dataclass(frozen=True)
class Commands:
    """One command for each part."""

    worker: tuple[str, ...] = (sys.executable, "-m", "paritygate.worker")
    server: tuple[str, ...] = (sys.executable, "-m", "paritygate.server")
    agent: tuple[str, ...] | None = None
    """None = our agent, packed as one file, in the source's interpreter."""
    ahead: bool = True
    """Whether later stages are prepared for while one works."""

    def agent_in(self, interpreter: str, folder: Path) -> tuple[str, ...]:
        """The agent's command, which is packed into `folder` if need be."""
        if self.agent is not None:
            return self.agent
        archive = folder / "paritygate-agent.pyz"
        build_zipapp(str(archive))
        return interpreter, str(archive)
