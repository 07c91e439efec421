"""Processor seconds of a build over the number of images, measured and drawn.

python benchmarks/plot_cost.py [--sizes 1,10,20,100] [--rounds 3] FIGURES.json PLOT.svg

Images are those of build.py, and so is what it needs. All have changed in the first build. Figures are medians;
those of a file that is there are kept, so that more sizes can be added, and without sizes (--sizes "") the file is
only drawn.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.build import Product, Scene, registries, remove_images

LINES = {"all changed": "#c2410c", "one changed": "#1d4ed8", "nothing changed": "#15803d"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 70, 180, 24, 52

Figures = dict[str, dict[str, float]]
"""Processor seconds by line, then by number of images."""


def measure(size: int, rounds: int) -> dict[str, float]:
    """Processor seconds of each line for so many images."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        staging, production = registries(stack, root)
        try:
            scene = Scene(root, staging.host, production.host, size)
            product = Product(sys.executable, ".aml-images")
            found: dict[str, list[float]] = {line: [] for line in LINES}
            found["all changed"].append(scene.product(product, "--all").processor)
            for _ in range(rounds):
                found["nothing changed"].append(scene.product(product, "--all").processor)
                scene.change(scene.names[-1])
                scene.commit()
                found["one changed"].append(scene.product(product, "--all").processor)
        finally:
            remove_images(staging.host)
    return {line: round(statistics.median(costs), 2) for line, costs in found.items()}


def draw(figures: Figures) -> str:
    """An SVG with logarithmic axes."""
    points = {
        line: sorted((int(size), cost) for size, cost in figures.get(line, {}).items())
        for line in LINES
        if figures.get(line)
    }
    sizes = sorted({size for line in points.values() for size, _ in line})
    costs = [cost for line in points.values() for _, cost in line]
    most = max(sizes[-1], 2)
    low, high = (10 ** bound(math.log10(cost)) for bound, cost in ((math.floor, min(costs)), (math.ceil, max(costs))))

    def x(size: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(size) / math.log(most)

    def y(cost: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(cost / low) / math.log(high / low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        "<title>Processor seconds of a build over the number of images</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    decades = range(round(math.log10(low)), round(math.log10(high)) + 1)
    marks = sorted({n * 10.0**d for d in decades for n in (1, 2, 5) if low <= n * 10.0**d <= high})
    for cost in marks:
        parts.append(f'<path d="M{LEFT} {y(cost):.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(cost) + 4:.1f}" text-anchor="end" fill="#374151">{cost:g}</text>')
    for size in sizes:
        parts.append(f'<path d="M{x(size):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#f3f4f6"/>')
        at = f'x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 18}"'
        parts.append(f'<text {at} text-anchor="middle" fill="#374151">{size:,}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle" fill="#374151">images</text>')
    parts.append(f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle" fill="#374151">'
                 "processor seconds</text>")  # fmt: skip
    last = {line: y(found[-1][1]) for line, found in points.items()}
    for line, found in points.items():
        path = "L".join(f"{x(size):.1f} {y(cost):.1f}" for size, cost in found)
        parts.append(f'<path d="M{path}" fill="none" stroke="{LINES[line]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(s):.1f}" cy="{y(c):.1f}" r="3.5" fill="{LINES[line]}"/>' for s, c in found]
        # The label of a line that ends where another does is moved below it.
        crowd = any(other != line and 0 <= last[line] - place < 14 for other, place in last.items())
        place = last[line] + (16 if crowd else 4)
        at = f'x="{x(found[-1][0]) + 8:.1f}" y="{place:.1f}"'
        parts.append(f'<text {at} fill="{LINES[line]}">{line}, {found[-1][1]:.1f}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,10,20,100")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("figures", type=Path)
    parser.add_argument("plot", type=Path)
    options = parser.parse_args()
    figures: Figures = json.loads(options.figures.read_text()) if options.figures.exists() else {}
    for size in map(int, filter(None, options.sizes.split(","))):
        for line, cost in measure(size, options.rounds).items():
            print(f"{size:6} {line:16}{cost:8.2f} CPU s", file=sys.stderr, flush=True)
            figures.setdefault(line, {})[str(size)] = cost
        options.figures.write_text(json.dumps(figures, indent=1) + "\n")
    options.plot.write_text(draw(figures))


if __name__ == "__main__":
    main()
