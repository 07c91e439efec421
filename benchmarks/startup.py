"""How long people wait for the first answer, and how much memory it takes: `aml-images list`, loading the definitions.

Run: python benchmarks/startup.py [--rounds 5]. Whole processes, in turn, beside an empty Python and `import dagster`;
and, for comparison, the definitions together with the SDKs of Azure, which nothing loads before it uses them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOAD = "from aml_images_dagster.definitions import build_job; build_job()"
AZURE = "import os; os.environ['AML_IMAGES_PROFILE'] = 'azure'; "
SDKS = "; import azure.ai.ml, azure.containerregistry, azure.identity, azure.mgmt.containerregistry"
COMMANDS = {
    "python -c pass": "pass",
    "aml-images list": "import sys; sys.argv[1:] = ['list']; from aml_images_dagster.cli.main import main; main()",
    "import dagster": "import dagster",
    "definitions, local": LOAD,
    "definitions, azure": AZURE + LOAD,
    "definitions and SDKs": AZURE + LOAD + SDKS,
}


def cost(code: str) -> tuple[float, float, float]:
    """Seconds of wall time, seconds of processor time, and MiB at most of a process that runs some code."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, code
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    costs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, code in COMMANDS.items():
            costs[name].append(cost(code))
    images = len(list((ROOT / "base_images").glob("**/Dockerfile")))
    print(f"{images} images, {rounds} rounds")
    print(f"{'':24}{'seconds':>8}{'min':>8}{'max':>8}{'CPU s':>8}{'MiB':>8}")
    for name, values in costs.items():
        seconds, processor, memory = zip(*values, strict=True)
        middle = statistics.median(seconds), min(seconds), max(seconds), statistics.median(processor)
        print(f"{name:24}" + "".join(f"{value:8.2f}" for value in middle) + f"{statistics.median(memory):8.0f}")


if __name__ == "__main__":
    main()
