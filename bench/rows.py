"""A row of the benchmark, the table that people read and the file that programs read."""

import json
import operator
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

_COMPARE: Final = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `target` is like `<= 5`; None where the row only reports."""

    name: str
    value: float
    unit: str
    target: str | None = None

    @property
    def ok(self) -> bool | None:
        """Whether the target was met; None without one."""
        if self.target is None:
            return None
        compare, bound = self.target.split()
        return bool(_COMPARE[compare](self.value, float(bound)))


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as a JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [
        {"name": row.name, "value": row.value, "unit": row.unit}
        | ({} if row.target is None else {"target": row.target, "ok": row.ok})
        for row in rows
    ]
    path.write_text(json.dumps(listed, indent=2) + "\n")


def show(rows: Sequence[Row]) -> None:
    """Print the rows as a table."""
    table = Table(title=f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}")
    for heading in ("what", "measured", "target", ""):
        table.add_column(heading, justify="right" if heading == "measured" else "left")
    marks = {None: "", True: "[green]ok[/]", False: "[red]missed[/]"}
    for row in rows:
        table.add_row(row.name, f"{row.value:g} {row.unit}", row.target or "", marks[row.ok])
    Console(width=100).print(table)
