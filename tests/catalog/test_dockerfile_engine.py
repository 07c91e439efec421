"""The engine's own builder agrees with what the reader says of a Dockerfile."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import docker
import pytest

from aml_images_dagster.catalog.dockerfile import in_every_stage, parse_combined, parse_dockerfile, pin
from aml_images_dagster.engine.interface import BuildRequest

if TYPE_CHECKING:
    from aml_images_dagster.engine.docker_engine import DockerEngine

pytestmark = pytest.mark.engine

REPOSITORY = f"tests-dockerfile/{uuid.uuid4().hex[:12]}"
ONE, TWO = f"{REPOSITORY}/one:1", f"{REPOSITORY}/two:1"

Build = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def build(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """Builds a Dockerfile and returns the labels of the image. Images ONE and TWO say in a label who they are."""
    client = docker.from_env()
    tags: list[str] = []

    def build_as(tag: str, text: str) -> dict[str, str]:
        context = tmp_path_factory.mktemp("context") / "context.tar"
        context.write_bytes(_tar({"Dockerfile": text.encode(), "who": tag.encode()}))
        engine.build(BuildRequest(context, "Dockerfile", tag, "linux/amd64", 120), lambda _: None)
        tags.append(tag)
        labels: dict[str, str] = client.images.get(tag).labels
        return labels

    for tag in (ONE, TWO):
        build_as(tag, f"FROM scratch\nCOPY who /{tag[-5:-2]}\nLABEL who={tag}\n")
    yield lambda text: build_as(f"{REPOSITORY}/result:{len(tags)}", text)
    # The engine collects garbage before it says that an image is gone: once for all that are removed at a time.
    with ThreadPoolExecutor(len(tags)) as pool:
        list(pool.map(engine.forget, tags))


def _tar(files: dict[str, bytes]) -> bytes:

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


TRICKY = {
    "arg": "ARG B={one}\nFROM $B\n",
    "args of args": "ARG R={repository}\nARG B=$R/one:1\nFROM ${{B}}\n",
    "default": "ARG V=\nFROM {repository}/one:${{V:-1}}\n",
    "nested default": "FROM {repository}/one:${{V:-${{W:-1}}}}\n",
    "alternative": "ARG V=x\nFROM ${{V:+{one}}}${{W:+no}}\n",
    "quotes": "ARG B='{one}'\nFROM \"$B\"\n",
    "mark, CRLF and escape": "\ufeff# escape=`\r\nFROM `\r\n# FROM no\r\n  {one} `\r\n AS x\r\n",
    "late escape": "# a comment\n# escape=`\nFROM {one} \\\n AS x\n",
    "reference over two lines": "FROM {repository}/o\\\nne:1\n",
    "stages": "FROM {two} AS Two\nFROM {one}\nCOPY --from=TWO /two /a\nCOPY --from=0 /two /b\n",
    "stage of a stage": "FROM {one} AS a\nFROM {two} AS b\nFROM a\n",
    "copy from outside": "FROM {one}\nCOPY \\\n # comment\n --from={two} \\\n\n /two /a\n",
    "quoted copy": 'FROM {one}\nCOPY --chown=0:0 --from="{two}" /two /a\n',
    "comment in a continuation": "FROM {one}\nLABEL a=b \\\n  # FROM {two}\n  c=d\n",
    "FROM in a continuation": "FROM {one}\nLABEL a=b \\\n  FROM={two}\n",
    "trigger": "FROM {one}\nONBUILD COPY --from={two} /two /a\n",
}


@pytest.mark.parametrize("template", TRICKY.values(), ids=TRICKY)
def test_same_base_as_the_builder(template: str, build: Build) -> None:
    dockerfile = parse_dockerfile(template.format(one=ONE, two=TWO, repository=REPOSITORY))
    assert dockerfile.base == ONE
    assert build(dockerfile.text)["who"] == ONE


@pytest.mark.parametrize("template", TRICKY.values(), ids=TRICKY)
def test_a_pinned_dockerfile_builds_from_the_pin(template: str, build: Build) -> None:
    dockerfile = parse_dockerfile(template.format(one=ONE, two=TWO, repository=REPOSITORY))
    assert build(pin(dockerfile, {ONE: TWO}))["who"] == TWO


@pytest.mark.parametrize("template", TRICKY.values(), ids=TRICKY)
def test_a_labelled_dockerfile_is_built_as_before(template: str, build: Build) -> None:
    dockerfile = parse_dockerfile(template.format(one=ONE, two=TWO, repository=REPOSITORY))
    labels = build(in_every_stage(dockerfile.text, ["LABEL labelled=yes"]))
    assert (labels["who"], labels["labelled"]) == (ONE, "yes")


def test_a_private_part_is_built(build: Build) -> None:
    dockerfile = parse_combined(
        f"\ufeff# escape=`\r\nFROM {ONE} AS x\r\nLABEL a=b `\r\n c=d".encode(),
        f"# escape=`\nCOPY --from={TWO} /two /a\nLABEL private=yes `\n x=y\n".encode(),
    )
    labels = build(dockerfile.text)
    assert (labels["who"], labels["c"], labels["private"]) == (ONE, "d", "yes")
