"""What buildx is asked to do, which depends on its version and on the builder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.engine.buildkit.builder import BuildKitBuilder
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.interface import BuildRequest
from tests.engine.buildkit.conftest import INSPECTION

if TYPE_CHECKING:
    from pathlib import Path

TAG = "127.0.0.1:5000/x/y:1"
EPOCH = 1_700_000_000


class Engine:
    """Says how it keeps images, and remembers which tags it was to remove."""

    where = "here"

    def __init__(self, *, has_image_store: bool) -> None:
        self.has_image_store = has_image_store
        self.forgotten: list[str] = []

    def require_space(self, tag: str) -> None:
        pass

    def forget(self, tag: str) -> None:
        self.forgotten.append(tag)


@pytest.fixture
def build(fake_buildx, make_context, tmp_path: Path):
    """Builds with a script in the place of buildx; the arguments that it got, and how often it was called."""

    def run(
        version: str, engine: Engine | None, dockerfile_text: str = "FROM x\n", **fields: object
    ) -> tuple[list[str], list[str]]:
        said, calls = tmp_path / "arguments", tmp_path / "calls"
        script = f"""echo $1 >>{calls}
            case $1 in version) echo github.com/docker/buildx {version} abc;; {INSPECTION.replace("docker", "remote")}
            build) for a in "$@"; do echo "$a" >>{said}; case $a in --metadata-file=*)
            echo '{{"containerimage.digest": "sha256:{"1" * 64}"}}' >${{a#*=}};; esac; done;; esac"""
        fake_buildx(script)
        options = {"wait_seconds": 0, "push_seconds": 30, "pauses": (), "features_file": tmp_path / "features.json"}
        buildx = Buildx(builder="" if engine else "mine")
        builder = BuildKitBuilder(buildx, engine, lambda _: None, **options)  # type: ignore[arg-type]
        context = make_context({"Dockerfile": dockerfile_text})
        request = BuildRequest(context, "Dockerfile", TAG, "linux/amd64", 30, **fields)  # type: ignore[arg-type]
        builder.build_and_push(request, print, still_wanted=lambda: None, started=lambda _: None)
        return said.read_text().splitlines(), calls.read_text().split()

    return run


@pytest.mark.parametrize(
    ("version", "has_image_store", "goes_straight"),
    [
        ("0.13.1+ds1", True, False),
        ("v0.21.2", True, False),
        ("v0.22.0", True, True),
        ("0.29.1+ds1", True, True),
        ("v1.0.0", True, True),
        ("0.29.1+ds1", False, False),
    ],
)
def test_an_image_is_pushed_once_by_a_buildx_and_an_engine_that_can(
    build, version: str, has_image_store: bool, goes_straight: bool
) -> None:
    engine = Engine(has_image_store=has_image_store)
    arguments, _ = build(version, engine, epoch=EPOCH, rewrite_timestamp=True)
    (output,) = [argument for argument in arguments if argument.startswith("--output=")]
    straight, times = (",store=false,unpack=false", ",rewrite-timestamp=true") if goes_straight else ("", "")
    assert output == f"--output=type=image,name={TAG},push=true{straight},source-date-epoch={EPOCH}{times}"
    assert f"--build-arg=SOURCE_DATE_EPOCH={EPOCH}" in arguments
    assert engine.forgotten == ([] if goes_straight else [TAG])


def test_times_are_left_alone_without_a_commit(build) -> None:
    arguments, _ = build("v0.29.1", Engine(has_image_store=True))
    assert f"--output=type=image,name={TAG},push=true,store=false,unpack=false" in arguments
    assert not [argument for argument in arguments if "SOURCE_DATE_EPOCH" in argument]


def test_times_of_files_are_left_alone_unless_the_image_asks_for_it(build) -> None:
    arguments, _ = build("v0.29.1", Engine(has_image_store=True), epoch=EPOCH)
    assert f"--output=type=image,name={TAG},push=true,store=false,unpack=false,source-date-epoch={EPOCH}" in arguments
    assert not [argument for argument in arguments if "SOURCE_DATE_EPOCH" in argument], "in no key of the cache"


def test_a_dockerfile_that_asks_for_the_time_of_the_commit_gets_it_whatever_image_json_says(build) -> None:
    engine = Engine(has_image_store=True)
    arguments, _ = build("v0.29.1", engine, epoch=EPOCH, dockerfile_text="FROM x\nARG SOURCE_DATE_EPOCH\n")
    assert f"--build-arg=SOURCE_DATE_EPOCH={EPOCH}" in arguments
    arguments, _ = build("v0.29.1", engine, epoch=EPOCH, build_args={"SOURCE_DATE_EPOCH": "soon"})
    assert f"--build-arg=SOURCE_DATE_EPOCH={EPOCH}" in arguments
    assert "--build-arg=SOURCE_DATE_EPOCH=soon" not in arguments


def test_a_builder_elsewhere_keeps_no_image_in_any_version(build) -> None:
    arguments, _ = build("v0.13.1", None, epoch=EPOCH, rewrite_timestamp=True)
    assert f"--output=type=image,name={TAG},push=true,source-date-epoch={EPOCH},rewrite-timestamp=true" in arguments


def test_a_build_on_an_engine_asks_buildx_for_its_version_alone(build) -> None:
    assert build("v0.22.0", Engine(has_image_store=True))[1] == ["version", "build"]
