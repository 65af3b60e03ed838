"""`python -m fuzz TARGET MINUTES`: search, and leave what was found in build/fuzz."""

import logging
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # in an environment of its own

with atheris.instrument_imports(include=["headwater"]):
    from fuzz import seeds
    from fuzz.targets import TARGETS

_SEEDS = {"request": seeds.requests, "bundle": seeds.bundles, "placing": seeds.placings}


def main(target: str, minutes: str) -> None:
    """Search for so long; exit 0 where nothing was found."""
    corpus = Path("build/fuzz") / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_SEEDS[target]()):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = corpus.with_suffix(".dict")
    quoted = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in seeds.WORDS)
    words.write_text("".join(f'"{word}"\n' for word in quoted))
    logging.disable()  # refusals are what it looks at
    flags = [
        f"-max_total_time={round(60 * float(minutes))}",
        f"-dict={words}",
        f"-artifact_prefix={corpus}-",
    ]
    atheris.Setup([sys.argv[0], *flags, "-max_len=4096", str(corpus)], TARGETS[target])
    atheris.Fuzz()


main(*sys.argv[1:])
