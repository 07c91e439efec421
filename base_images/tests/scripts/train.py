"""Trains a tiny model with nothing but Python's standard library, on one node.

Shows that a job can start in the image at all: `python` and `pip` belong together, the working directory can be
written to, and a computation gives the result that it should. Exits with a message when something is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import random
import shutil
import subprocess
import sys
from pathlib import Path

STANDARD_MODULES = ("bz2", "ctypes", "lzma", "sqlite3", "ssl", "zlib")
"""Modules that are missing when Python was built without a library."""

WEIGHTS = (1.5, -2.0, 0.5)
"""The last one is the intercept."""


def check_python() -> None:
    """Make sure that this Python is whole, and that `pip` on the PATH installs into it."""
    print(f"Python {platform.python_version()} at {sys.executable} on {platform.platform()}")
    for module in STANDARD_MODULES:
        importlib.import_module(module)
    pip = shutil.which("pip")
    if pip is None:
        sys.exit(f"pip is not on the PATH {os.environ.get('PATH')}")
    found = version_of([pip])
    print(found)
    if found != version_of([sys.executable, "-m", "pip"]):
        sys.exit(f"{pip} belongs to another Python than {sys.executable}")


def version_of(pip: list[str]) -> str:
    """What a pip says of itself: its version, its folder and its Python."""
    result = subprocess.run([*pip, "--version"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{' '.join(pip)} does not work: {result.stderr.strip()}")
    return result.stdout.strip()


def make_data(rows: int, seed: int) -> list[tuple[tuple[float, float], float]]:
    """Points of a plane with a little noise."""
    source = random.Random(seed)
    data = []
    for _ in range(rows):
        x = (source.uniform(-1, 1), source.uniform(-1, 1))
        y = WEIGHTS[0] * x[0] + WEIGHTS[1] * x[1] + WEIGHTS[2] + source.gauss(0, 0.01)
        data.append((x, y))
    return data


def train(data: list[tuple[tuple[float, float], float]], epochs: int, rate: float) -> tuple[list[float], list[float]]:
    """Least squares by gradient descent; gives the weights, and the loss of every epoch."""
    weights = [0.0, 0.0, 0.0]
    losses = []
    for _ in range(epochs):
        gradient = [0.0, 0.0, 0.0]
        loss = 0.0
        for (first, second), y in data:
            error = weights[0] * first + weights[1] * second + weights[2] - y
            loss += error * error
            for index, value in enumerate((first, second, 1.0)):
                gradient[index] += 2 * error * value
        weights = [weight - rate * slope / len(data) for weight, slope in zip(weights, gradient, strict=True)]
        losses.append(loss / len(data))
    return weights, losses


def main() -> None:
    """Check Python, train, check the model and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    check_python()
    weights, losses = train(make_data(options.rows, options.seed), options.epochs, options.rate)
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.6f}, weights {[round(weight, 3) for weight in weights]}")
    if not losses[-1] < losses[0] / 100:
        sys.exit(f"the loss did not fall: {losses[0]:.4f} -> {losses[-1]:.4f}")
    if not all(math.isclose(got, meant, abs_tol=0.05) for got, meant in zip(weights, WEIGHTS, strict=True)):
        sys.exit(f"the weights are {weights}, they should be near {WEIGHTS}")

    outputs = Path(os.environ.get("AML_IMAGES_OUTPUTS", "outputs"))
    outputs.mkdir(parents=True, exist_ok=True)
    (outputs / "model.json").write_text(json.dumps({"weights": weights}), encoding="utf-8")
    print(f"the model is in {outputs / 'model.json'}")


if __name__ == "__main__":
    main()
