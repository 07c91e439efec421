"""One folder, several images."""

from __future__ import annotations

import json
from datetime import date

import pytest

from aml_images_dagster.catalog.content_key import ContentKey, explain
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.context_files import ContextFiles
from aml_images_dagster.catalog.discovery import discover
from aml_images_dagster.catalog.dockerfile import pin
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.open_source.public_part import PublicPart

DOCKERFILE = """\
ARG CUDA=12.4
FROM nvidia/cuda:12.4-devel AS cuda
FROM cuda AS build
FROM cuda
ARG CUDA
COPY tool-${CUDA} /
"""
IMAGE_FILE = {
    "description": "CUDA",
    "build_args": {"A": "a", "CUDA": "none"},
    "size_budget_mb": 10,
    "variants": {
        "cuda12.4": {"build_args": {"CUDA": "12.4"}},
        "cuda12.6": {
            "build_args": {"CUDA": "12.6"},
            "base": "nvidia/cuda:12.6-devel",
            "name": "newest",
            "description": "CUDA 12.6",
            "size_budget_mb": 20,
            "eol": "2026-12-01",
            "tests": "tests.new.json",
        },
    },
}
TESTS = '{"scenarios": [{"name": "%s", "kind": "training", "script": "x.py"}]}'


@pytest.fixture
def repository(git_repository):
    write(git_repository, IMAGE_FILE)
    git_repository.write("base_images/tests/x.py")
    git_repository.commit()
    git_repository.git("tag", "base")
    return git_repository


def write(repository, image_file):
    files = {"tests__json": TESTS % "old", "tests__new__json": TESTS % "new", "image__json": json.dumps(image_file)}
    folder = repository.image("gpu/x", DOCKERFILE, **files)
    for version in ("12.4", "12.6"):
        repository.write(f"{folder}/tool-{version}")


def changed(repository, **variant):
    """What a change of the second variant's keys selects."""
    variants = {**IMAGE_FILE["variants"], "cuda12.6": {**IMAGE_FILE["variants"]["cuda12.6"], **variant}}
    return selected(repository, {**IMAGE_FILE, "variants": variants})


def selected(repository, image_file):
    write(repository, image_file)
    return found(repository)


def found(repository):
    discovery = discover(repository.tree(), repository.catalog(), "base", fallback=False, today=date(2026, 11, 1))
    return {image.id: (image.variant, image.change) for image in discovery.images}


def test_each_has_what_it_says_and_the_rest_of_the_file(repository):
    new, old = repository.catalog().images.values()
    assert (old.id, new.id) == ("gpu/x-cuda12.4", "gpu/newest")
    assert (old.variant, new.variant) == ("cuda12.4", "cuda12.6")
    assert (old.path, old.dockerfile_path) == (new.path, new.dockerfile_path)
    assert (old.settings.description, new.settings.description) == ("CUDA", "CUDA 12.6")
    assert (old.settings.build_args, new.settings.build_args) == (
        {"A": "a", "CUDA": "12.4"},
        {"A": "a", "CUDA": "12.6"},
    )
    assert (old.settings.size_budget_mb, new.settings.size_budget_mb) == (10, 20)
    assert (old.settings.eol, new.settings.eol) == (None, date(2026, 12, 1))
    assert [image.scenarios[0].name for image in (old, new)] == ["old", "new"]


def test_a_base_of_its_own_stands_in_every_from_of_the_last_stage(repository):
    images = repository.catalog().images
    assert images["gpu/x-cuda12.4"].bases == ("nvidia/cuda:12.4-devel",)
    assert images["gpu/newest"].bases == ("nvidia/cuda:12.6-devel",)
    dockerfile = images["gpu/newest"].dockerfile
    assert dockerfile.base == "nvidia/cuda:12.6-devel"
    pinned = pin(dockerfile, {"nvidia/cuda:12.6-devel": "nvidia/cuda@sha256:1"})
    assert "FROM nvidia/cuda@sha256:1 AS cuda\nFROM cuda AS build\n" in pinned


def test_a_base_may_be_an_image_of_the_repository(repository):
    repository.image("base/mpi")
    variant = {"base": "mcr.microsoft.com/azureml/mpi:latest"}
    write(repository, {"variants": {"a": variant, "b": {}}})
    assert repository.catalog().images["gpu/x-a"].parents == ("base/mpi",)


def test_their_keys_differ_in_arguments_and_bases(repository):
    tree = repository.tree()
    keys = [
        ContentKey.of(
            dockerfile=image.dockerfile.text,
            context=BuildContext.of(tree, image),
            build_args=image.settings.build_args,
            platform=image.platform,
            bases=dict.fromkeys(image.bases, "sha256:1"),
        )
        for image in repository.catalog().images.values()
    ]
    assert keys[0].dockerfile == keys[1].dockerfile
    assert keys[0].digest != keys[1].digest


def test_a_change_selects_the_variants_that_it_touches(repository):
    other, own = ("gpu/x-cuda12.4", ("cuda12.4", "modified")), ("gpu/newest", ("cuda12.6", "modified"))
    assert selected(repository, IMAGE_FILE) == {}
    assert selected(repository, {**IMAGE_FILE, "size_budget_mb": 11}) == dict([other])
    assert changed(repository, build_args={"CUDA": "12.8"}) == dict([own])
    assert changed(repository, base="nvidia/cuda:12.8-devel") == dict([own])
    assert selected(repository, {**IMAGE_FILE, "build_args": {}}) == dict([other, own])
    variants = {**IMAGE_FILE["variants"], "cuda13": {}}
    assert selected(repository, {**IMAGE_FILE, "variants": variants}) == {"gpu/x-cuda13": ("cuda13", "added")}
    write(repository, IMAGE_FILE)
    repository.write("base_images/docker/public/gpu/x/tests.new.json", TESTS % "newer")
    assert found(repository) == dict([own])
    repository.write("base_images/docker/public/gpu/x/tool-12.6", "changed\n")
    assert found(repository) == dict([other, own])


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"a": {"base": "No Such"}}, "variants.a.base: 'No Such' is not an image reference"),
        ({"a": {"tests": "tests.gone.json"}}, "variants.a.tests: there is no"),
        ({"a": {"tests": "../x.json"}}, "variants.a.tests"),
        ({"a": {"owners": []}}, 'unknown key "variants.a.owners"; known keys: base, build_args'),
        ({"": {}}, "variants"),
        ({"a": {"name": "x"}, "b": {"name": "x"}}, "give one another name in image.json"),
        ({"A": {}}, "does not fit a registry"),
    ],
)
def test_what_is_wrong_with_a_variant_is_said(repository, variants, message):
    write(repository, {"variants": variants})
    errors = [f.message for f in validate(repository.catalog(), repository.tree()) if f.severity == "error"]
    assert any(message in error for error in errors), errors


def test_the_files_of_its_tests_are_not_part_of_the_context(repository):
    names = ContextFiles(repository.tree(), repository.catalog().images["gpu/newest"]).names
    assert names == ["Dockerfile", "LICENSE.txt", "ThirdPartyNotices.txt", "tool-12.4", "tool-12.6"]


def test_what_is_published_has_the_arguments_and_the_base_of_the_variant(repository):
    part = PublicPart.of(repository.catalog().images["gpu/newest"], repository.tree())
    assert part.files["Dockerfile"].content.decode() == (
        'ARG CUDA=12.4\nARG CUDA="12.6"\nFROM nvidia/cuda:12.6-devel AS cuda\nFROM cuda AS build\nFROM cuda\n'
        'ARG CUDA\nARG CUDA="12.6"\nCOPY tool-${CUDA} /\n'
    )
    assert list(part.files) == ["Dockerfile", "LICENSE.txt", "ThirdPartyNotices.txt", "tool-12.6"]


def test_a_base_in_place_of_scratch_is_refused(repository):
    write(repository, {"variants": {"a": {"base": "busybox"}}})
    repository.write("base_images/docker/public/gpu/x/Dockerfile", "FROM scratch\n")
    (image,) = repository.catalog().images.values()
    assert [problem.message for problem in image.problems] == ["variants.a.base: the last stage is FROM scratch"]


STAGES = """\
FROM debian:12 AS build
COPY tool-12.4 /
FROM debian:13 AS runtime
COPY tool-12.6 /
FROM runtime AS debug
COPY gdb /
"""


def write_stages(repository, image_file):
    folder = repository.image("gpu/x", STAGES, image__json=json.dumps(image_file, indent=1))
    repository.write(f"{folder}/Dockerfile.private", "COPY tool-12.4 /private\n")
    for name in ("tool-12.4", "tool-12.6", "gdb"):
        repository.write(f"{folder}/{name}")
    return {image.name: image for image in repository.catalog().images.values()}


def test_a_target_is_the_stage_that_makes_the_image(repository):
    images = write_stages(
        repository, {"target": "runtime", "variants": {"a": {}, "b": {"target": "build"}, "c": {"target": ""}}}
    )
    assert [image.dockerfile.base for image in images.values()] == ["debian:13", "debian:12", "debian:13"]
    own = {name: ContextFiles(repository.tree(), image).names for name, image in images.items()}
    assert all("gdb" in names for names in own.values()), "the folder is the context"
    assert images["x-a"].place(5) == (images["x-a"].private_path, 1)
    assert images["x-c"].place(6) == (images["x-c"].dockerfile_path, 6)
    errors = [f for f in validate(repository.catalog(), repository.tree()) if f.severity == "error"]
    assert errors == []


def test_a_variant_with_a_base_and_a_target_replaces_the_base_of_the_target(repository):
    images = write_stages(repository, {"variants": {"a": {"target": "build", "base": "debian:11"}}})
    assert images["x-a"].bases == ("debian:11",)


@pytest.mark.parametrize(
    ("image_file", "line"),
    [({"target": "x"}, 2), ({"variants": {"a": {"target": "x"}}}, 4), ({"target": "x", "variants": {"a": {}}}, 2)],
)
def test_a_target_that_is_no_stage_is_an_error_with_its_line(repository, image_file, line):
    (image,) = write_stages(repository, image_file).values()
    found = [(problem.message, problem.line) for problem in image.problems]
    message = "target: the Dockerfile has no stage 'x'; it has build, runtime, debug."
    assert found == [(message, line)]
    assert image.problems[0].path == image.settings_path


def test_what_is_below_the_target_does_not_count_in_the_key(repository):
    def key():
        image = repository.catalog().images["gpu/x"]
        return ContentKey.of(
            dockerfile=image.dockerfile.text,
            context=BuildContext.of(repository.tree(), image),
            build_args={},
            platform=image.platform,
            bases={},
            target=image.settings.target,
        )

    # In a context that is only the image's folder, the Dockerfile is one of the files that count.
    write_stages(repository, {"target": "runtime", "context": "repository"})
    before = key()
    path = "base_images/docker/public/gpu/x/Dockerfile"
    repository.write(path, STAGES.replace("COPY gdb", "RUN true\nCOPY gdb"))
    assert key() == before
    repository.write(path, STAGES.replace("debian:13", "debian:14"))
    assert explain(before, key()) == ["Dockerfile changed"]
    write_stages(repository, {"target": "build", "context": "repository"})
    assert explain(before, key()) == ["target runtime → build"]
    write_stages(repository, {"context": "repository"})
    assert explain(before, key()) == ["target runtime → (the last stage)"]


def test_a_change_of_a_target_selects_the_image(repository):
    write_stages(repository, {"variants": {"a": {"target": "build"}, "b": {}}})
    repository.commit()
    repository.git("tag", "-f", "base")
    write_stages(repository, {"variants": {"a": {"target": "runtime"}, "b": {}}})
    assert found(repository) == {"gpu/x-a": ("a", "modified")}


def test_what_is_published_ends_with_the_target(repository):
    images = write_stages(repository, {"target": "runtime"})
    part = PublicPart.of(images["x"], repository.tree())
    assert part.files["Dockerfile"].content.decode() == STAGES.partition("FROM runtime")[0]
    assert list(part.files) == ["Dockerfile", "LICENSE.txt", "ThirdPartyNotices.txt", "tool-12.4", "tool-12.6"]
