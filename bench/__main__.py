"""`python -m bench [PART …]`: measure, print a table, write build/bench.json."""

import sys
from pathlib import Path

from bench import (
    contract,
    controller,
    copies,
    cost,
    crowd,
    drift,
    evidence,
    ha,
    image,
    judge,
    library,
    lint,
    node,
    proxy,
    rollout,
    sidecar,
    warm,
    webhook,
)
from bench.rows import show, write

_PARTS = {
    "contract": contract.measure,
    "controller": controller.measure,
    "copies": copies.measure,
    "cost": cost.measure,
    "crowd": crowd.measure,
    "drift": drift.measure,
    "evidence": evidence.measure,
    "ha": ha.measure,
    "image": image.measure,
    "judge": judge.measure,
    "library": library.measure,
    "lint": lint.measure,
    "node": node.measure,
    "proxy": proxy.measure,
    "rollout": rollout.measure,
    "sidecar": sidecar.measure,
    "warm": warm.measure,
    "webhook": webhook.measure,
}


def main(chosen: list[str]) -> None:
    """Run the chosen parts, or all."""
    unknown = set(chosen) - set(_PARTS)
    if unknown:
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    rows = []
    for part in chosen or _PARTS:
        print(f"measuring {part} …", file=sys.stderr, flush=True)
        rows += _PARTS[part]()
    show(rows)
    write(rows, Path("build/bench.json"))


main(sys.argv[1:])
