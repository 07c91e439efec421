"""No step is left out that a changed input needs: a plan is compared with builds from nothing, before and after."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builds.in_memory import MemoryFactory, staged_digests, write, write_image

IMAGES = ("base/root", "mid/left", "mid/right", "top/leaf")
SCRIPTS = ("check.py", "other.py")
PARENTS = ("base:1", "base:2", "registry.example/root", "registry.example/left:latest", "registry.example/right")


@dataclass
class World:
    """All that a build reads: image folders, scripts, and the digests of external bases."""

    repo: Path
    bases: dict[str, str] = field(default_factory=lambda: {f"base:{n}": f"sha256:{str(n) * 64}" for n in (1, 2)})

    def create(self) -> World:
        froms = ("base:1", "registry.example/root:latest", "base:2", "registry.example/left")
        for image, base in zip(IMAGES, froms, strict=True):
            write_image(self.repo, image, f"FROM {base}\nARG WORD=a\nCOPY data /\nRUN true\n")
            write(self.folder(image) / "data", f"{image}\n")  # images that are the same share what is remembered
        for script in SCRIPTS:
            write(self.repo / "checks" / script, "echo well\n")
        return self

    def folder(self, image: str) -> Path:
        return self.repo / "images" / image


words = st.sampled_from(["one", "two", "three"])
changes = st.one_of(
    st.tuples(st.just("data"), st.sampled_from(IMAGES), words),
    st.tuples(st.just("not copied"), st.sampled_from(IMAGES), words),
    st.tuples(st.just("instruction"), st.sampled_from(IMAGES), words),
    st.tuples(st.just("private"), st.sampled_from(IMAGES), words),
    st.tuples(st.just("argument"), st.sampled_from(IMAGES), words),
    st.tuples(st.just("mode"), st.sampled_from(IMAGES), words),
    st.tuples(st.just("budget"), st.sampled_from(IMAGES), words),
    st.tuples(st.just("parent"), st.sampled_from(range(1, len(IMAGES))), st.sampled_from(PARENTS)),
    st.tuples(st.just("copy from"), st.just("top/leaf"), st.sampled_from(PARENTS)),
    st.tuples(st.just("script"), st.sampled_from(SCRIPTS), words),
    st.tuples(st.just("scenario"), st.sampled_from(IMAGES), st.sampled_from(SCRIPTS)),
    st.tuples(st.just("second scenario"), st.sampled_from(IMAGES), st.sampled_from(SCRIPTS)),
    st.tuples(st.just("no scenario"), st.sampled_from(IMAGES), words),
    st.tuples(st.just("upstream"), st.sampled_from(["base:1", "base:2"]), st.sampled_from("789")),
)


def replace_line(path: Path, start: str, line: str) -> None:
    path.write_text("".join(line if old.startswith(start) else f"{old}\n" for old in path.read_text().splitlines()))


def scenarios_of(*scripts: str) -> str:
    scenarios = [
        {"name": name, "kind": "training", "script": script} for name, script in zip("ab", scripts, strict=False)
    ]
    return json.dumps({"scenarios": scenarios})


def apply(world: World, kind: str, where: object, what: str) -> None:
    if kind == "upstream":
        world.bases[str(where)] = f"sha256:{what * 64}"
        return
    if kind == "script":
        write(world.repo / "checks" / str(where), f"echo {what}\n")
        return
    # An image is only FROM those that come before it.
    image = IMAGES[where] if isinstance(where, int) else str(where)
    earlier = [f"/{name.partition('/')[2]}" for name in IMAGES[: IMAGES.index(image)]]
    folder = world.folder(image)
    is_possible = what.startswith("base:") or any(name in what for name in earlier)
    match kind:
        case "data":
            write(folder / "data", f"{image} {what}\n")
        case "not copied":
            write(folder / "notes.md", f"{what}\n")
        case "instruction":
            replace_line(folder / "Dockerfile", "RUN", f"RUN echo {what}\n")
        case "private":
            write(folder / "Dockerfile.private", f"COPY LICENSE.txt /\nLABEL word={what}\n")
        case "argument":
            write(folder / "image.json", json.dumps({"build_args": {"WORD": what}}))
        case "mode":
            (folder / "data").chmod(0o755 if what == "one" else 0o644)
        case "budget":
            write(folder / "image.json", json.dumps({"size_budget_mb": len(what)}))
        case "parent" if is_possible:
            replace_line(folder / "Dockerfile", "FROM", f"FROM {what}\n")
        case "copy from" if is_possible:
            replace_line(folder / "Dockerfile", "COPY", f"COPY --from={what} /data /\n")
        case "scenario":
            write(folder / "tests.json", scenarios_of(what))
        case "second scenario":
            write(folder / "tests.json", scenarios_of("check.py", what))
        case "no scenario":
            (folder / "tests.json").unlink(missing_ok=True)


def from_nothing(world: World, home: Path) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """What a build from nothing stages, and what each of its jobs is given."""
    factory = MemoryFactory(world.repo, home, world.bases)
    plan = factory.plan()
    assert {planned.action for planned in plan.images} == {"build"}
    return staged_digests(factory.build(plan)), factory.runner.ran


@settings(max_examples=20, deadline=None)
@given(st.lists(changes, min_size=1, max_size=4))
def test_a_plan_is_what_a_build_from_nothing_makes_different(made: list[tuple[str, object, str]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        world = World(root / "repo").create()
        factory = MemoryFactory(world.repo, root / "home", world.bases)
        factory.build(factory.plan())
        images, jobs = from_nothing(world, root / "before")
        for change in made:
            apply(world, *change)
        images_after, jobs_after = from_nothing(world, root / "after")

        factory.runner.ran.clear()
        factory.builder.built.clear()
        plan = factory.plan()
        changed = {image for image, digest in images_after.items() if images[image] != digest}
        assert {planned.image for planned in plan.images if planned.action == "build"} == changed
        new_jobs = {job for job, given in jobs_after.items() if jobs.get(job) != given and job[0] not in changed}
        to_run = {
            (planned.image, scenario.name)
            for planned in plan.images
            for scenario in planned.scenarios
            if planned.action == "reuse" and scenario.status == "run"
        }
        assert to_run == new_jobs
        assert all(planned.because for planned in plan.images)

        session = factory.build(plan)
        assert staged_digests(session) == images_after
        assert set(factory.builder.built) == changed
        assert set(factory.runner.ran) == to_run | {job for job in jobs_after if job[0] in changed}
