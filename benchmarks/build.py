"""What building images costs, beside the same work done by others, in turn, in one run.

python benchmarks/build.py [--images 20] [--rounds 3] [--rows nothing,forced,leaf,step] [--without-evidence]
[--other NAME=PYTHON] [--chartpress PATH] [--postgres]
python benchmarks/build.py --repository . --names base/openmpi4.1-debian12,framework/scikit-learn --without-evidence
--rows cold,nothing

The rows `plan` (a dry run of all) and `commit` (a build of what a commit has changed, one image) need no image that
was built before, so they are for many: --images 1000 --rows plan,commit. With --postgres the instance of Dagster is in
a Postgres of the benchmark's own (Debian's, as root), whose processor seconds are not counted either.

Seconds, and processor seconds of all processes but the engine and the registries, medians. --without-evidence measures
the product a second time with `trust.attach` off: what evidence costs. --other measures another checkout beside this
one: the interpreter of its environment. Without --chartpress that peer is left out; it is `pip install chartpress` in
an environment of its own. The images are trivial, or those of the last commit of a --repository, built by the factory
with tests and evidence, and by the peers, `docker build` by BuildKit and by the classic builder, without: in
the row `cold` alone, which is `forced` by a factory that has read no layer before. With --without-scenarios the factory
tests nothing either: the same work.

Needs the engine, docker-registry, and the bases (busybox) in the mirror of the staging registry on 127.0.0.1:5000; both
registries of the benchmark are its own.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import docker

sys.path.insert(0, str(Path(__file__).parents[1]))


from aml_images_dagster.builds.source import load_source
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.dockerfile.rendering import pin
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.settings import Settings
from tests.faults.own_registry import OwnRegistry
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.catalog.image import Image

ON_POSTGRES = Path(__file__).parents[1] / "deploy" / "dagster-postgres.yaml"
MIRROR = "127.0.0.1:5000"
BASES = "mirror/docker.io"
BUSYBOX = f"{BASES}/library/busybox"
PR_SET_CHILD_SUBREAPER = 36
THIS, WITHOUT_EVIDENCE = "aml-images", "aml-images, no evidence"
COMMAND = "import sys; from aml_images_dagster.cli.main import main; sys.argv[0] = 'aml-images'; main()"
SETTINGS = """
[tool.aml-images]
docker-files-path = "images"
staging-registry = "{staging}"
production-registry = "{production}"
base-mirrors = {{ "docker.io" = "{staging}/mirror/docker.io" }}
parallel = 2
"""
DOCKER_PY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import docker
prefix, cached, *folders = sys.argv[1:]
client = docker.from_env()
def build(folder):
    name = f"{prefix}/{Path(folder).name}"
    client.images.build(path=folder, tag=f"{name}:latest", nocache=cached == "forced")
    for line in client.images.push(name, "latest", stream=True, decode=True):
        assert "error" not in line, line
with ThreadPoolExecutor(2) as pool:
    list(pool.map(build, folders))
"""
SHELL = """
printf '%s\\n' "$@" | xargs -P 2 -I FOLDER sh -c '
name={prefix}/$(basename FOLDER):latest
docker build -q {cache} -t $name FOLDER >/dev/null && docker push -q $name >/dev/null'
"""
DOCKER_BUILD = """
import json, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
network, *waves = sys.argv[1:]
def build(image):
    name, (context, dockerfile) = image
    run = ["docker", "build", "-q", "--no-cache", "--network", network, "-t", name, "-f", dockerfile, "-"]
    with open(context, "rb") as tar:
        subprocess.run(run, stdin=tar, check=True)
    subprocess.run(["docker", "push", "-q", name], check=True)
for wave in map(json.loads, waves):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, wave.items()))
"""
CLASSIC, BUILDKIT = "docker build, classic", "docker build, BuildKit"


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: Wall time.
        processor: Processor seconds of all its processes.
    """

    seconds: float
    processor: float


@dataclass(frozen=True)
class Product:
    """The factory, as one of those that are measured.

    Attributes:
        python: Interpreter of its environment.
        home: Its state, below the repository.
        attach: Whether it attaches evidence.
    """

    python: str
    home: str
    attach: bool = True


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end, and to that of every process that it has left behind."""
    answer, report = os.pipe()
    if pid := os.fork():
        os.close(report)
        with os.fdopen(answer) as told:
            found = told.read()
        os.waitpid(pid, 0)
        return Cost(**json.loads(found))
    with os.fdopen(report, "w") as told:
        told.write(json.dumps(asdict(_run(command, folder, environment))))
    os._exit(0)


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None) -> Cost:
    # What the command leaves behind becomes a child of this process, which waits for it.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        seconds, processor = 0.0, 0.0
        while True:
            try:
                pid, status, usage = os.wait4(-1, 0)
            except ChildProcessError:
                break
            processor += usage.ru_utime + usage.ru_stime
            if pid == process.pid:
                seconds = time.perf_counter() - started
                process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            sys.stderr.write(output.read().decode()[-3000:])
            sys.stderr.flush()
            os._exit(1)
    return Cost(seconds, processor)


class Scene:
    """A repository of trivial images, each with a file of its own, as the product and its peers know it."""

    def __init__(self, root: Path, staging: str, production: str, images: int) -> None:
        self.root, self.staging, self.settings = root, staging, dict[str, str]()
        self.ours, self.theirs = root / "ours", root / "theirs"
        self.names = [f"image{number:04}" for number in range(images)]
        for name in self.names:
            self._write(self.ours / "images" / "bench" / name, "FROM busybox:latest\nCOPY marker LICENSE.txt /\n")
            self._write(self.theirs / name, f"FROM {staging}/{BUSYBOX}:latest\nCOPY marker LICENSE.txt /\n")
            self.change(name)
        (self.ours / "pyproject.toml").write_text(SETTINGS.format(staging=staging, production=production))
        (self.ours / ".gitignore").write_text(".aml-images\n")
        chart = "".join(f"      {name}: {{contextPath: {name}}}\n" for name in self.names)
        (self.theirs / "chartpress.yaml").write_text(
            f"charts:\n  - name: chart\n    imagePrefix: {staging}/chartpress/\n    images:\n{chart}"
        )
        (self.theirs / "chart").mkdir()
        (self.theirs / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: chart\nversion: 0.0.1\n")
        (self.theirs / "chart" / "values.yaml").write_text("{}\n")
        self.commit()

    @staticmethod
    def _write(folder: Path, dockerfile: str) -> None:
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text(dockerfile)
        (folder / "LICENSE.txt").write_text("MIT\n")
        (folder / "ThirdPartyNotices.txt").write_text("busybox: GPL-2.0\n")

    def change(self, name: str) -> None:
        for folder in (self.ours / "images" / "bench", self.theirs):
            (folder / name / "marker").write_text(uuid.uuid4().hex)

    def commit(self) -> None:
        for repository in (self.ours, self.theirs):
            self._commit(repository)

    @staticmethod
    def _commit(repository: Path) -> None:
        git = ["git", "-C", str(repository), "-c", "user.name=b", "-c", "user.email=b@example.com"]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "images"], check=True)

    def keep_instances_in(self, configuration: Path, products: Sequence[Product]) -> None:
        """Let instances have another configuration. All products share its database."""
        for product in products:
            home = self.ours / product.home / "dagster"
            home.mkdir(parents=True)
            (home / "dagster.yaml").symlink_to(configuration)

    @property
    def all(self) -> list[str]:
        """What names all images to the product."""
        return ["--all"]

    def product(self, product: Product, *arguments: str) -> Cost:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_"))}
        environment |= {"AML_IMAGES_HOME": product.home, "PYTHONWARNINGS": "ignore"} | self.settings
        environment["AML_IMAGES_TRUST__ATTACH"] = str(product.attach).lower()
        return run([product.python, "-c", COMMAND, "build", *arguments], self.ours, environment)

    def forget_layers(self, product: Product) -> None:
        shutil.rmtree(self.ours / product.home / "layers", ignore_errors=True)

    def docker_py(self, names: Sequence[str], cached: str) -> Cost:
        folders = [str(self.theirs / name) for name in names]
        return run([sys.executable, "-c", DOCKER_PY, f"{self.staging}/docker-py", cached, *folders], self.theirs)

    def shell(self, names: Sequence[str], cached: str) -> Cost:
        cache = "--no-cache" if cached == "forced" else ""
        script = SHELL.format(prefix=f"{self.staging}/shell", cache=cache)
        return run(["sh", "-c", script, "sh", *(str(self.theirs / name) for name in names)], self.theirs)

    def chartpress(self, program: str) -> Cost:
        return run([program, "--push"], self.theirs)


class RealScene(Scene):
    """Images of a repository, at its last commit, with its own tests or with none."""

    def __init__(
        self, root: Path, repository: Path, names: Sequence[str], staging: str, production: str, *, scenarios: bool
    ) -> None:
        self.root, self.staging, self.ours, self.names = root, staging, root / "ours", [*names]
        subprocess.run(["git", "clone", "-q", repository, self.ours], check=True)
        if not scenarios:
            for file in self.ours.rglob("tests.json"):
                file.unlink()
            self._commit(self.ours)
        self.settings = {
            "AML_IMAGES_STAGING_REGISTRY": staging,
            "AML_IMAGES_PRODUCTION_REGISTRY": production,
            "AML_IMAGES_BASE_MIRRORS": f"docker.io={staging}/{BASES}",
        }

    @property
    def all(self) -> list[str]:
        return self.names

    def prepare_peers(self) -> None:
        """Write the contexts of the peers, in waves of images whose parents are built."""
        settings = Settings(repo=self.ours)
        source = load_source(settings)
        self.network, self.waves = settings.build_network or "default", list[dict[str, tuple[str, str]]]()
        built = set[str]()
        while left := [name for name in source.catalog.order(self.names) if name not in built]:
            images = [source.catalog.get(name) for name in left]
            wave = [image for image in images if not set(source.catalog.parents[image.id]) & {*left}]
            self.waves.append({self._peer(image.id): self._context(image, source) for image in wave})
            built.update(image.id for image in wave)

    def _peer(self, image: str) -> str:
        return f"{self.staging}/peer/{image}:latest"

    def _context(self, image: Image, source: Source) -> tuple[str, str]:
        pins = {base: f"{self.staging}/{BASES}/library/{base}" for base in image.bases}
        if image.parents:
            (base,), (parent,) = {use.reference for use in image.dockerfile.uses}, image.parents
            pins[base] = self._peer(parent)
        context = self.root / f"{image.id.replace('/', '-')}.tar"
        dockerfile = BuildContext.of(source.tree, image).write_tar(
            context, pin(image.dockerfile, pins), int(time.time())
        )
        return str(context), dockerfile

    def docker_build(self, builder: str) -> Cost:
        environment = {**os.environ, "DOCKER_BUILDKIT": "0" if builder == CLASSIC else "1"}
        waves = [json.dumps(wave) for wave in self.waves]
        return run([sys.executable, "-c", DOCKER_BUILD, self.network, *waves], self.root, environment)


def measure(scene: Scene, rounds: int, rows: Sequence[str], products: Mapping[str, Product], chartpress: str) -> None:
    has_peers = not isinstance(scene, RealScene)
    every, leaf = scene.names, scene.names[-1]
    half = [f"bench/{name}" for name in every[: len(every) // 2]]
    costs: dict[tuple[str, str], list[Cost]] = {}

    def note(row: str, who: str, cost: Cost) -> None:
        costs.setdefault((row, who), []).append(cost)
        print(f"{row:10}{who:24}{cost.seconds:8.1f} s{cost.processor:8.1f} CPU s", file=sys.stderr, flush=True)

    # Everything is built once, so that "nothing changed" is true for all.
    if isinstance(scene, RealScene) and "cold" in rows:
        scene.prepare_peers()
    if not {*rows} <= {"plan", "commit"}:
        for name, product in products.items():
            note("first", name, scene.product(product, *scene.all))
        if has_peers:
            scene.docker_py(every, "cached")
            scene.shell(every, "cached")
        if chartpress:
            scene.chartpress(chartpress)
    for _ in range(rounds):
        for row in rows:
            for name, product in products.items():
                if row in ("leaf", "commit"):  # for each: else it would reuse what another has just built
                    scene.change(leaf)
                    scene.commit()
                match row:
                    case "nothing" | "leaf":
                        note(row, name, scene.product(product, *scene.all))
                    case "plan":
                        note(row, name, scene.product(product, *scene.all, "--dry-run"))
                    case "commit":
                        note(row, name, scene.product(product, "--base", "HEAD~1"))
                    case "forced":
                        note(row, name, scene.product(product, *scene.all, "--force"))
                    case "cold":
                        scene.forget_layers(product)
                        note(row, name, scene.product(product, *scene.all, "--force"))
                    case "step":
                        note(row, name, scene.product(product, *half, "--force"))
            if isinstance(scene, RealScene) and row == "cold":
                for builder in (BUILDKIT, CLASSIC):
                    note(row, builder, scene.docker_build(builder))
            names = [leaf] if row in ("leaf", "commit") else every
            if has_peers and row in ("nothing", "forced", "leaf", "commit"):
                note(row, "docker-py, 2 threads", scene.docker_py(names, row))
                note(row, "xargs -P2 docker", scene.shell(names, row))
            if row == "nothing" and chartpress:
                note(row, "chartpress", scene.chartpress(chartpress))
    print(f"\n{len(every)} images, {rounds} rounds, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print("\n| work | by | seconds | CPU s | times docker-py |\n|---|---|---|---|---|")
    middle = {key: statistics.median(cost.seconds for cost in found) for key, found in costs.items()}
    processor = {key: statistics.median(cost.processor for cost in found) for key, found in costs.items()}
    for row, who in costs:
        peer = middle.get((row, "docker-py, 2 threads"))
        times = f"{middle[row, who] / peer:.1f}" if peer else ""
        print(f"| {row} | {who} | {middle[row, who]:.1f} | {processor[row, who]:.1f} | {times} |")
    for who in products:
        if ("forced", who) in costs and ("step", who) in costs:
            steps = len(every) - len(half)  # one for each image, which has no scenarios
            each = (processor["forced", who] - processor["step", who]) / steps
            print(f"\n{who}: one step more, {len(half)} to {len(every)} images forced: {each:.2f} CPU s")
    for row in rows if WITHOUT_EVIDENCE in products else ():
        dearer = middle[row, THIS] / middle[row, WITHOUT_EVIDENCE] - 1
        added = (processor[row, THIS] - processor[row, WITHOUT_EVIDENCE]) / len(every)
        print(f"\n{row}: evidence adds {dearer:+.1%} seconds, {added:+.2f} CPU s for each image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", default="nothing,forced,leaf,step")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--without-evidence", action="store_true")
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--without-scenarios", action="store_true")
    parser.add_argument("--names", default="", metavar="FAMILY/NAME,...")
    parser.add_argument("--chartpress", default="", metavar="PATH")
    parser.add_argument("--postgres", action="store_true")
    options = parser.parse_args()
    pythons = {THIS: sys.executable, **dict(other.split("=", 1) for other in options.other)}
    products = {name: Product(python, f".aml-images/{name}") for name, python in pythons.items()}
    if options.without_evidence:
        products[WITHOUT_EVIDENCE] = Product(sys.executable, ".aml-images/without-evidence", attach=False)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hosts = [registry.host for registry in registries(stack, root)]
        scene = (
            RealScene(
                root,
                options.repository.resolve(),
                options.names.split(","),
                *hosts,
                scenarios=not options.without_scenarios,
            )
            if options.repository
            else Scene(root, *hosts, options.images)
        )
        try:
            if options.postgres:
                os.environ.update(stack.enter_context(PostgresServer()).environment)
                scene.keep_instances_in(ON_POSTGRES, [*products.values()])
            measure(scene, options.rounds, options.rows.split(","), products, options.chartpress)
        finally:
            remove_images(hosts[0])


def registries(stack: ExitStack, root: Path) -> tuple[OwnRegistry, OwnRegistry]:
    """Staging, with the bases that are mirrored here, and production; empty else."""
    staging, production = (stack.enter_context(OwnRegistry(root / name)) for name in ("staging", "production"))
    mirror, own = OciRegistry(MIRROR), OciRegistry(staging.host)
    for repository in (name for name in mirror.repositories() if name.startswith(f"{BASES}/library/")):
        for tag in mirror.tags(repository):
            digest = mirror.digest(Reference(MIRROR, repository, tag))
            if digest:
                copy_image(mirror, own, Reference(MIRROR, repository, digest=digest), repository, [tag])
    assert BUSYBOX in own.repositories(), f"{MIRROR}/{BUSYBOX} is missing"
    return staging, production


def remove_images(registry: str) -> None:
    """Remove what the engine has of a registry."""
    client = docker.from_env()
    for image in client.images.list():
        for tag in image.tags:
            if tag.startswith(f"{registry}/"):
                client.images.remove(tag)


if __name__ == "__main__":
    main()
