"""What a check found, a line each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

OK, NOTE, MISSING, WRONG = "ok", "note", "missing", "wrong"

COLORS = {OK: "green", NOTE: "yellow", MISSING: "red", WRONG: "red"}


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``mend`` is what to do about it."""

    level: str
    what: str
    detail: str = ""
    mend: str = field(default="", kw_only=True)

    def text(self) -> str:
        """The line without its level."""
        said = f"{self.what}: {self.detail}" if self.detail else self.what
        return " ".join((f"{said}; mend: {self.mend}" if self.mend else said).split())


def show(found: Iterable[Finding]) -> None:
    """Print them, in color on a terminal."""
    console = Console(highlight=False, soft_wrap=True)
    for finding in found:
        color = COLORS[finding.level]
        console.print(f"[{color}]{finding.level:<7}[/]  {escape(finding.text())}")
