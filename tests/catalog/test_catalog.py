"""Which images a repository has, and how they are found."""

from __future__ import annotations

import json
from datetime import date

import pytest

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.context_files import ContextFiles
from aml_images_dagster.catalog.layout import split_paths
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.errors import BadInput
from aml_images_dagster.upstream import external_bases

PUBLISHED = "mcr.microsoft.com/azureml"
ROOT = "base_images/docker/public"


def test_images_families_and_edges(git_repository):
    git_repository.image("base/mpi", "FROM debian:12\n")
    git_repository.image(
        "base-gpu/cuda", f"FROM {PUBLISHED}/mpi:latest AS a\nFROM nvidia/cuda:12\nCOPY --from=a /x /x\n"
    )
    git_repository.image(
        "framework/torch",
        f"FROM {PUBLISHED}/cuda\nCOPY --from={PUBLISHED}/mpi:latest /a /a\nCOPY --from=busybox:1 /b /b\n",
    )
    git_repository.write("elsewhere/Dockerfile", "FROM debian:12\n")
    catalog = git_repository.catalog()
    assert list(catalog.images) == ["base-gpu/cuda", "base/mpi", "framework/torch"]
    torch = catalog.images["framework/torch"]
    assert (torch.family, torch.name, torch.path) == ("framework", "torch", f"{ROOT}/framework/torch")
    assert torch.parents == ("base-gpu/cuda", "base/mpi")
    assert torch.bases == ("busybox:1",)
    assert catalog.images["base-gpu/cuda"].parents == ("base/mpi",)
    assert catalog.images["base-gpu/cuda"].bases == ("nvidia/cuda:12",)
    assert catalog.order(["framework/torch", "base/mpi"]) == ["base/mpi", "framework/torch"]
    assert catalog.descendants(["base/mpi"]) == {"base-gpu/cuda", "framework/torch"}
    assert not any(image.problems for image in catalog.images.values())


def test_c7_a_release_of_an_image_is_a_base_and_no_parent(git_repository):
    git_repository.image("base/mpi", "FROM mcr.microsoft.com/windows/servercore:ltsc2022\n")
    git_repository.image("base/own", f"FROM {PUBLISHED}/own:20260101.v1\n")
    folder = git_repository.image("framework/torch", f"FROM {PUBLISHED}/mpi:20260101.v1\nCOPY LICENSE.txt /\n")
    catalog = git_repository.catalog()
    torch = catalog.images["framework/torch"]
    assert (torch.parents, torch.bases) == ((), (f"{PUBLISHED}/mpi:20260101.v1",))
    assert torch.releases == torch.bases
    assert torch.os == "windows", "as the image of which it is a release"
    assert catalog.descendants(["base/mpi"]) == set()
    assert catalog.order(catalog.images) == ["base/mpi", "base/own", "framework/torch"], "no image is its own parent"
    assert not [f for f in validate(catalog, WorkingTree(git_repository.root)) if f.path == f"{folder}/Dockerfile"]
    assert external_bases([torch]) == {}


def test_folder_and_commit_make_the_same_catalog(git_repository):
    git_repository.image("base/x", image__json='{"platform": "linux/arm64"}')
    git_repository.image("base/y", f"FROM {PUBLISHED}/x\n", Dockerfile__private="COPY LICENSE.txt /\n")
    git_repository.commit()
    assert git_repository.catalog().images == git_repository.catalog("HEAD").images


def test_a_nested_folder_is_an_image_of_its_own(git_repository):
    folder = git_repository.image("base/outer")
    git_repository.image("base/outer/inner")
    git_repository.write(f"{folder}/files/deep/data")
    catalog = git_repository.catalog()
    assert list(catalog.images) == ["base/outer", "outer/inner"]


def test_several_paths_and_the_repository_itself(git_repository):
    for folder in ("one/base/a", "two/base/b", "three/base/c"):
        git_repository.write(f"{folder}/Dockerfile", "FROM debian:12\n")
    assert list(git_repository.catalog(docker_files_path="one; ./two/ ;one/base").images) == ["base/a", "base/b"]
    assert list(git_repository.catalog(docker_files_path=".").images) == ["base/a", "base/b", "base/c"]
    assert list(git_repository.catalog(docker_files_path="one/base/a").images) == ["base/a"]


def test_images_at_the_top_take_the_repositorys_name(git_repository):
    git_repository.write("Dockerfile", "FROM debian:12\n")
    git_repository.write("a/Dockerfile", "FROM debian:12\n")
    root = git_repository.root
    catalog = git_repository.catalog(docker_files_path=".")
    assert sorted(catalog.images) == sorted([f"{root.parent.name}/{root.name}", f"{root.name}/a"])


@pytest.mark.parametrize("path", ["", " ; ", "/etc", "../x", "a/../../b", "C:\\images"])
def test_bad_paths(path):
    with pytest.raises(BadInput):
        split_paths(path)


def test_a_path_that_does_not_exist(git_repository):
    git_repository.image("base/x")
    with pytest.raises(BadInput, match="there is no folder 'nosuch'"):
        git_repository.catalog(docker_files_path=f"{ROOT};nosuch")


def test_get(git_repository):
    for image in ("base/openmpi", "base-gpu/openmpi", "base/intelmpi"):
        git_repository.image(image)
    catalog = git_repository.catalog()
    assert catalog.get("base/openmpi").id == "base/openmpi"
    assert catalog.get("intelmpi").id == "base/intelmpi"
    with pytest.raises(BadInput, match="several images") as error:
        catalog.get("openmpi")
    assert "base-gpu/openmpi, base/openmpi" in error.value.hint
    with pytest.raises(BadInput, match="there is no image 'base/intlmpi'") as error:
        catalog.get("base/intlmpi")
    assert "base/intelmpi" in error.value.hint
    with pytest.raises(BadInput) as error:
        catalog.get("intelmpy")
    assert error.value.hint == "Did you mean base/intelmpi?"
    with pytest.raises(BadInput) as error:
        catalog.get("zzz")
    assert "list" in error.value.hint


def test_two_folders_with_one_name(git_repository):
    git_repository.write("one/base/x/Dockerfile", "FROM debian:12\n")
    git_repository.write("two/base/x/Dockerfile", "FROM debian:12\n")
    catalog = git_repository.catalog(docker_files_path="one;two")
    assert list(catalog.images) == ["base/x"]
    assert [image.path for image in catalog.every_image()] == ["one/base/x", "two/base/x"]
    for image in catalog.every_image():
        assert "has the same family and name" in image.problems[0].message
    for name in ("base/x", "x"):
        with pytest.raises(BadInput) as error:
            catalog.get(name)
        assert error.value.where == "one/base/x/Dockerfile and two/base/x/Dockerfile"
        assert "image-paths" in error.value.hint


def test_broken_files_are_problems_of_their_image_only(git_repository):
    git_repository.image("base/good")
    git_repository.image("base/syntax", "FROM debian:12\nRUN --mount=\nFROMM x\n")
    git_repository.image("base/empty", "")
    git_repository.image("base/private", "FROM debian:12\nRUN a\n", Dockerfile__private="RUN b\nFROM debian:13\n")
    git_repository.image("base/binary", "FROM x\n")
    git_repository.write(f"{ROOT}/base/binary/Dockerfile", b"FROM x\n\xff\xfe")
    git_repository.image("base/json", tests__json="{\n", image__json='{\n"eol": "soon"}')
    (git_repository.root / ROOT / "base/link").mkdir()
    (git_repository.root / ROOT / "base/link/Dockerfile").symlink_to("../good/Dockerfile")
    catalog = git_repository.catalog()
    problems = {
        image.name: [(p.path.rpartition("/")[2], p.line) for p in image.problems] for image in catalog.images.values()
    }
    assert problems["good"] == []
    assert problems["empty"] == [("Dockerfile", 1)]
    assert problems["private"] == [("Dockerfile.private", 2)]
    assert problems["binary"] == [("Dockerfile", 2)]
    assert sorted(problems["json"]) == [("image.json", 2), ("tests.json", 2)]
    assert ("Dockerfile", None) in problems["link"]
    with pytest.raises(BadInput, match=r"Dockerfile\.private may not contain FROM"):
        _ = catalog.get("private").dockerfile


def test_a_cycle_only_disturbs_the_order(git_repository):
    git_repository.image("base/a", f"FROM {PUBLISHED}/b\n")
    git_repository.image("base/b", f"FROM {PUBLISHED}/a\n")
    git_repository.image("base/self", f"FROM debian:12\nCOPY --from={PUBLISHED}/self:latest /x /x\n")
    catalog = git_repository.catalog()
    assert catalog.get("base/a").parents == ("base/b",)
    assert catalog.get("base/a").platform == "linux/amd64"
    with pytest.raises(BadInput, match="FROM each other"):
        catalog.order(catalog.images)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("linux", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/s390x", "linux/s390x"),
        ("linux/amd64/v3", "linux/amd64/v3"),
    ],
)
def test_the_platform_of_an_image_is_in_the_words_of_registries(git_repository, written, meant):
    """As https://github.com/containerd/platforms normalizes what FROM says."""
    git_repository.image("base/a", f"FROM --platform={written} debian:12\n")
    image = git_repository.catalog().images["base/a"]
    assert (image.platform, image.platforms) == (meant, (meant,))


def test_a_platform_in_other_words_is_that_of_image_json(git_repository):
    git_repository.image(
        "base/a", "FROM --platform=linux/x86_64 debian:12\n", image__json='{"platform": "linux/amd64"}'
    )
    assert git_repository.catalog().images["base/a"].problems == ()


def test_platforms(git_repository):
    git_repository.image("base/linux")
    git_repository.image("base/arm", image__json='{"platform": "linux/arm64"}')
    git_repository.image("base/flag", "FROM --platform=linux/arm64 debian:12\n")
    git_repository.image(
        "base/files", "FROM debian:12\nCOPY --from=mcr.microsoft.com/windows/nanoserver:ltsc2022 /a /a\n"
    )
    git_repository.image("base-windows/core", "FROM mcr.microsoft.com/windows/servercore:ltsc2022\n")
    git_repository.image("base-windows/child", f"FROM {PUBLISHED}/core AS x\nFROM x\n")
    git_repository.image("base-windows/grandchild", f"FROM {PUBLISHED}/child\n")
    images = git_repository.catalog().images.values()
    assert {image.name: (image.os, image.platform, image.host_build) for image in images} == {
        "linux": ("linux", "linux/amd64", None),
        "files": ("linux", "linux/amd64", None),
        "arm": ("linux", "linux/arm64", None),
        "flag": ("linux", "linux/arm64", None),
        "core": ("windows", "windows/amd64", "10.0.20348"),
        "child": ("windows", "windows/amd64", "10.0.20348"),
        "grandchild": ("windows", "windows/amd64", "10.0.20348"),
    }


@pytest.mark.parametrize(
    ("dockerfile", "settings", "said"),
    [
        ("FROM --platform=linux/amd64 debian:12\n", {"platforms": ["linux/amd64", "linux/arm64"]}, "linux/arm64"),
        ("FROM --platform=linux/amd64 debian:12\n", {"platform": "linux/arm64"}, "linux/arm64"),
        (
            "FROM debian:12\nFROM --platform=linux/arm64 debian:12 AS a\nFROM a\n",
            {"platform": "linux/amd64"},
            "linux/amd64",
        ),
    ],
)
def test_an_image_of_the_programs_of_another_platform(git_repository, dockerfile, settings, said):
    """A builder lets it say that it is what image.json says, and nobody can run it."""
    git_repository.image("base/x", dockerfile, image__json=json.dumps(settings))
    (problem,) = git_repository.catalog().get("base/x").problems
    assert problem.severity == "error"
    assert problem.message.endswith(f", and image.json says {said}")
    assert problem.line == dockerfile.count("\n", 0, dockerfile.index("--platform")) + 1


@pytest.mark.parametrize("flag", ["--platform=$TARGETPLATFORM", "--platform=linux/$TARGETARCH", ""])
def test_a_platform_that_follows_the_target_is_right_for_each(git_repository, flag):
    text = f"FROM --platform=linux/amd64 debian:12 AS tools\nFROM {flag} debian:12\nCOPY --from=tools /a /\n"
    git_repository.image("base/x", text, image__json='{"platforms": ["linux/amd64", "linux/arm64"]}')
    assert git_repository.catalog().get("base/x").problems == ()


def test_several_platforms(git_repository):
    both = '{"platforms": ["linux/amd64", "linux/arm64"]}'
    dockerfile = "FROM debian:12\nARG TARGETARCH\nCOPY tool-${TARGETARCH} /\n"
    git_repository.image("base/mpi", dockerfile, image__json=both)
    git_repository.image("base/fixed", "FROM debian-${TARGETARCH}:12\n", image__json=both)
    git_repository.image("base/both", image__json='{"platform": "linux/amd64", "platforms": ["linux/arm64"]}')
    catalog = git_repository.catalog()
    mpi = catalog.images["base/mpi"]
    assert (mpi.platform, mpi.platforms, mpi.problems) == ("linux/amd64", ("linux/amd64", "linux/arm64"), ())
    patterns = [source.pattern for source in ContextFiles(git_repository.tree(), mpi).sources]
    assert patterns == ["tool-amd64", "tool-arm64"]
    (problem,) = catalog.images["base/fixed"].problems
    assert problem.message.startswith("debian-amd64:12 and debian-arm64:12 for different platforms of one image")
    assert "write one of them" in catalog.images["base/both"].problems[0].message


def test_files_of_stages_that_only_one_platform_needs_count(git_repository):
    text = "FROM debian:12 AS amd64\nCOPY one /\nFROM debian:12 AS arm64\nCOPY two /\nFROM debian:12 AS other\n"
    text += "COPY three /\nFROM $TARGETARCH\n"
    platforms = '{"platforms": ["linux/amd64", "linux/arm64"]}'
    git_repository.image("base/x", text, image__json=platforms, one="1", two="2", three="3")
    image = git_repository.catalog().get("base/x")
    assert [each.pattern for each in ContextFiles(git_repository.tree(), image).sources] == ["one", "two"]


def test_build_args_decide_the_base(git_repository):
    dockerfile = "ARG BASE=debian:12\nFROM $BASE\n"
    git_repository.image("base/x", dockerfile, image__json='{"build_args": {"BASE": "ubuntu:24.04"}}')
    assert git_repository.catalog().get("x").bases == ("ubuntu:24.04",)


def test_lines_of_the_combined_dockerfile(git_repository):
    for public in ("FROM debian:12\nRUN a\n", "FROM debian:12\nRUN a", "FROM debian:12\r\nRUN a\r\n"):
        folder = git_repository.image("base/x", public, Dockerfile__private="RUN b\n")
        image = git_repository.catalog().get("x")
        assert image.place(2) == (f"{folder}/Dockerfile", 2)
        assert image.place(3) == (f"{folder}/Dockerfile.private", 1)


def test_end_of_life(git_repository):
    git_repository.image("base/ending", image__json='{"eol": "2026-07-01"}')
    git_repository.image("base/going")
    catalog = git_repository.catalog()
    assert catalog.select_default(date(2026, 6, 30)) == ["base/ending", "base/going"]
    assert catalog.select_default(date(2026, 7, 1)) == ["base/going"]
    assert catalog.get("ending").id == "base/ending", "it can still be named"


def test_names_that_no_registry_takes_do_not_stop_the_others(git_repository):
    git_repository.image("base/x")
    git_repository.image("Base/UPPER CASE", f"FROM {PUBLISHED}/x\n")
    catalog = git_repository.catalog()
    assert catalog.images["Base/UPPER CASE"].parents == ("base/x",)


def test_one_published_name_for_two_images(git_repository):
    git_repository.image("base/x")
    git_repository.image("base-gpu/x")
    git_repository.image("base/y", f"FROM {PUBLISHED}/x\n")
    problem = git_repository.catalog().get("y").problems[0]
    assert problem.line == 1
    assert "base/x" in problem.message
    with_family = ["mcr.microsoft.com/azureml/{family}/{name}"]
    git_repository.image("base/y", f"FROM {PUBLISHED}/base-gpu/x\n")
    assert Catalog.load(git_repository.tree(), ROOT, with_family).get("y").parents == ("base-gpu/x",)
