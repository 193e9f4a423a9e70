"""`make screenshots`: draws every picture of this folder.

The pictures of the console come from the simulated relay and are the same each time; a test compares the
SVG files. The PNG files beside them are for pages: they show the same with a font that has all characters,
whatever the reader has. How edges are smoothed is the renderer's and the font's business, so they are not
compared. `demo.svg` and `status.svg` come from a real run and differ each time.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import resvg_py

from screenshots.console import draw
from screenshots.scenes import SCENES
from screenshots.terminal import draw_demo

FOLDER = Path(__file__).parent
FONT = "DejaVu Sans Mono"  # has braille and box characters; Debian's package is fonts-dejavu-core
FONTS = Path("/usr/share/fonts")


def main() -> None:
    """Write every picture beside this file."""
    for scene in SCENES:
        svg = asyncio.run(draw(scene))
        write(scene.name, svg)
        (FOLDER / f"{scene.name}.png").write_bytes(png(svg))
    with tempfile.TemporaryDirectory() as runtime:
        demo, status = draw_demo(runtime)
    write("demo", demo)
    write("status", status)


def write(name: str, svg: str) -> None:
    """One picture."""
    (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")


def png(svg: str) -> bytes:
    """The same in pixels."""
    return bytes(
        resvg_py.svg_to_bytes(svg_string=svg, font_family=FONT, monospace_family=FONT, font_dirs=[str(FONTS)])
    )


if __name__ == "__main__":
    main()
