"""What the images put on top of their base."""

import sys

from bench.rows import Row
from tests.cluster import images


def measure() -> list[Row]:
    """Unpacked, in MB; nothing where no image can be built."""
    if lacking := images.missing():
        print(f"skipped: {lacking}", file=sys.stderr)
        return []
    images.build()
    base = _unpacked(images.base())
    return [
        Row(f"image.{name}_over_base", round((_unpacked(image) - base) / 1e6, 1), "MB", most)
        for name, image, most in (
            ("sidecar", images.SIDECAR, "<= 45"),
            ("operator", images.OPERATOR, "<= 260"),
        )
    ]


def _unpacked(image: str) -> int:
    return sum(images.files(image).values())
