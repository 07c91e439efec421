"""What it costs to load the definitions of many images, with imports: whole processes, medians.

python benchmarks/definitions.py [--images 1000] [--scenarios 3] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LOAD = "from aml_images_dagster.definitions import build_job; build_job()"
SETTINGS = '[tool.aml-images]\ndocker-files-path = "images"\n'


def write(repository: Path, images: int, scenarios: int) -> None:
    """A repository of images, each with so many scenarios."""
    named = [{"name": f"scenario-{number}", "kind": "training", "script": "run.py"} for number in range(scenarios)]
    (repository / "pyproject.toml").write_text(SETTINGS)
    for number in range(images):
        folder = repository / "images" / "bench" / f"image{number:04}"
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text("FROM busybox:latest\nCOPY LICENSE.txt /\n")
        (folder / "LICENSE.txt").write_text("MIT\n")
        (folder / "ThirdPartyNotices.txt").write_text("busybox: GPL-2.0\n")
        if named:
            (folder / "tests.json").write_text(json.dumps({"scenarios": named}))
    subprocess.run(["git", "init", "-q", str(repository)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--scenarios", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.images, options.scenarios)
        for _ in range(options.rounds):
            process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", LOAD], cwd=folder)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            costs.append(usage.ru_utime + usage.ru_stime)
    print(
        f"definitions of {options.images} images with {options.scenarios} scenarios each: "
        f"{statistics.median(costs):.1f} CPU s, of {options.rounds} rounds"
    )


if __name__ == "__main__":
    main()
