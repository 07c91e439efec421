"""How long `aml-images discover` takes over a large repository, next to the plain `git diff` below it.

    python benchmarks/discover.py [--images 1000] [--rounds 7]

Makes a repository in a temporary folder and runs both commands alternately, each as a whole process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = "base_images/docker/public"
DISCOVER = [sys.executable, "-c", "import sys; from aml_images_dagster.cli.main import main; sys.exit(main())"]
PLAN = '{"scenarios": [{"name": "s", "kind": "training", "script": "scripts/train%d.py"}]}\n'


def make_repository(root: Path, images: int) -> None:
    """One base per ten images, the others FROM it; a second commit changes a base, an image and a script."""
    for number in range(images):
        folder = root / ROOT / f"family{number % 10}" / f"image{number:04}"
        folder.mkdir(parents=True)
        base = number - number % 10
        parent = "debian:12" if number == base else f"mcr.microsoft.com/azureml/image{base:04}:latest"
        (folder / "Dockerfile").write_text(
            f"FROM {parent}\nARG VERSION={number}\n"
            "RUN apt-get update \\\n && apt-get install -y --no-install-recommends ca-certificates \\\n"
            " && rm -rf /var/lib/apt/lists/*\nCOPY data.txt /data.txt\nENV A=1 B=2\n"
        )
        (folder / "Dockerfile.private").write_text("COPY LICENSE.txt ThirdPartyNotices.txt /\n")
        (folder / "tests.json").write_text(PLAN % (number % 5))
        for name in ("LICENSE.txt", "ThirdPartyNotices.txt", "data.txt"):
            (folder / name).write_text(f"{name} {number}\n")
    scripts = root / "base_images/tests/scripts"
    scripts.mkdir(parents=True)
    for number in range(5):
        (scripts / f"train{number}.py").write_text("print('ok')\n")
    git(root, "init", "-q", "-b", "main")
    commit(root, "base")
    (root / ROOT / "family0/image0000/data.txt").write_text("changed\n")
    (root / ROOT / "family7/image0007/data.txt").write_text("changed\n")
    (scripts / "train3.py").write_text("print('changed')\n")
    commit(root, "change")


def git(root: Path, *arguments: str) -> None:
    """Run git in the repository."""
    subprocess.run(["git", "-C", str(root), *arguments], check=True)


def commit(root: Path, message: str) -> None:
    """Commit everything."""
    git(root, "add", "--all")
    git(root, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", message)


def measure(command: list[str], root: Path) -> tuple[float, float, bytes]:
    """Wall and processor time of a whole process with its children, in seconds, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, cwd=root)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="discover-benchmark-") as folder:
        root = Path(folder)
        make_repository(root, options.images)
        revisions = ["--base", "HEAD~1"]
        commands = {
            "git diff --name-only": ["git", "diff", "--name-only", "HEAD~1...HEAD"],
            "discover, a commit": [*DISCOVER, "discover", "--json", *revisions, "--head", "HEAD"],
            "discover, working tree": [*DISCOVER, "discover", "--json", *revisions],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        processor: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                wall, cpu, printed = measure(command, root)
                times[name].append(wall)
                processor[name].append(cpu)
        selected = len(json.loads(printed)["images"])
    baseline = statistics.median(times["git diff --name-only"])
    print(f"{options.images} image folders, {selected} selected, {options.rounds} rounds")
    print("seconds per process; cpu is the median of the processor time")
    print(f"{'command':<24}{'median':>8}{'min':>8}{'max':>8}{'ratio':>8}{'cpu':>8}")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(
            f"{name:<24}{median:>8.3f}{min(taken):>8.3f}{max(taken):>8.3f}{median / baseline:>8.1f}"
            f"{statistics.median(processor[name]):>8.3f}"
        )


if __name__ == "__main__":
    main()
