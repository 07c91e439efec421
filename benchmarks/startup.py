"""How long people wait for the first answer: `aml-images list`, and loading the definitions in a new process.

Run: python benchmarks/startup.py [--rounds 5]. Whole processes, in turn, beside an empty Python and `import dagster`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "python -c pass": "pass",
    "aml-images list": "import sys; sys.argv[1:] = ['list']; from aml_images_dagster.cli.main import main; main()",
    "import dagster": "import dagster",
    "load the definitions": "from aml_images_dagster.definitions import build_job; build_job()",
}


def seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, code in COMMANDS.items():
            taken[name].append(seconds(code))
    images = len(list((ROOT / "base_images").glob("**/Dockerfile")))
    print(f"{images} images, {rounds} rounds, seconds")
    print(f"{'':24}{'median':>8}{'min':>8}{'max':>8}")
    for name, values in taken.items():
        print(f"{name:24}{statistics.median(values):8.2f}{min(values):8.2f}{max(values):8.2f}")


if __name__ == "__main__":
    main()
