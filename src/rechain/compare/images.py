"""Images by pixel, by Pillow where it is installed (`rechain[images]`)."""

from __future__ import annotations

__all__ = ["compare"]


def compare(first: str, second: str) -> list[str] | None:
    """Return how two images differ; None if that cannot be told: their bytes then decide."""
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with Image.open(first) as one, Image.open(second) as other:
            if one.size != other.size:
                return [f"{_size(one.size)} and {_size(other.size)} pixels"]
            pixels = [image.convert("RGBA").tobytes() for image in (one, other)]
            width = one.size[0]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if pixels[0] == pixels[1]:
        return []
    pairs = enumerate(zip(*pixels, strict=True))
    differing = [(abs(x - y), at // 4) for at, (x, y) in pairs if x != y]
    most, at = max(differing)
    count, total = len({place for _, place in differing}), len(pixels[0]) // 4
    return [
        f"{count} of {total} pixels differ, by {most} of 255 at most (at x {at % width}, "
        f"y {at // width})"
    ]


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
