"""Which files are Dockerfiles, and how their paths become families and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.layout import Layout, context_folder, is_dockerfile
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.errors import BadInput

ROOT = Path("/home/someone/repository")


def names(*files: str, **settings: object) -> dict[str, str]:
    """Every image by its Dockerfile."""
    places = Layout(("",), **settings).places(files, ROOT)  # type: ignore[arg-type]
    return {place.dockerfile_path: f"{place.family}/{place.name}" for place in places}


@pytest.mark.parametrize(
    ("pattern", "path", "image"),
    [
        ("src/{name}/.devcontainer", "src/go/.devcontainer", "src/go"),
        ("{family}/context", "envs/torch/context", None),
        ("envs/{family}/context", "envs/torch/context", "torch/torch"),
        ("**/{family}/{name}/context", "a/b/envs/torch/context", "envs/torch"),
        ("src/{family}/{name:path}", "src/runtime/9.0/noble/amd64", "runtime/9.0-noble-amd64"),
        ("src/{repo}/{version}/{os} = {repo}/{version}_{os}", "src/runtime/9.0/noble", "runtime/9.0_noble"),
        ("dockerfiles/{family}_{name}", "dockerfiles/r-ver_4.6.1", "r-ver/4.6.1"),
        ("dockerfiles/{name}", "dockerfiles/shiny", "dockerfiles/shiny"),
        ("src/v*/{family}/{name}", "src/v2/base/x", "base/x"),
        ("/src/{family}/{name}/", "src/base/x", "base/x"),
        ("{name}", "base", "repository/base"),
        (". = tools/base", "", "tools/base"),
        ("a/**/{name}", "a/b/c/x", "c/x"),
        ("src/{family}/{name}", "src/base/x/y", None),
        ("s.c/{family}/{name}", "src/base/x", None),
    ],
)
def test_patterns_make_paths_into_names(pattern, path, image):
    file = f"{path}/Dockerfile".lstrip("/")
    assert names(file, image_paths=(pattern,)) == ({file: image} if image else {})


def test_the_first_pattern_that_fits_counts():
    patterns = ("{family}/windows/{name}", "{family}/{name}")
    assert names("3.13/windows/ltsc2025/Dockerfile", "3.13/slim/Dockerfile", image_paths=patterns) == {
        "3.13/windows/ltsc2025/Dockerfile": "3.13/ltsc2025",
        "3.13/slim/Dockerfile": "3.13/slim",
    }


def test_a_dockerfile_that_fits_no_pattern_is_told():
    layout = Layout(("",), ("src/{family}/{name}",))
    files = ["src/base/x/Dockerfile", "samples/y/Dockerfile"]
    assert layout.unmatched(files, ROOT) == ["samples/y/Dockerfile"]


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "src/{name", "src/{Name}", "src/{name}/{name}", "src/x", "../{name}", "src/{os}", "src/{os} = {os}"),
        *("src/{os} = {arch}/x", "src/{os} = a/b/{os}", "src/{os:path} = a/{os:path}", "{name} = /x", "src/{os} ="),
    ],
)
def test_a_pattern_that_is_none_is_refused(pattern):
    with pytest.raises(BadInput) as error:
        Layout(("",), (pattern,))
    assert error.value.where == f"image-paths {pattern!r}"
    assert "src/{name}/.devcontainer" in error.value.hint


def test_other_names_of_dockerfiles():
    found = names(
        "a/b/Dockerfile",
        "a/c/Containerfile",
        "a/d.Dockerfile",
        "a/e/Dockerfile.cpu",
        "a/e/Dockerfile.private",
        "a/e/Dockerfile.cpu.dockerignore",
        "a/e/Dockerfile.cpu.tests.json",
        "a/e/Dockerfile.cpu.image.json",
        dockerfile_names=("Dockerfile", "Containerfile", "*.Dockerfile", "Dockerfile.*"),
    )
    assert found == {
        "a/b/Dockerfile": "a/b",
        "a/c/Containerfile": "a/c",
        "a/d.Dockerfile": "a/d",
        "a/e/Dockerfile.cpu": "e/cpu",
    }


@pytest.mark.parametrize("name", ["", "*", "a/Dockerfile", "*.Dockerfile.*"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(BadInput, match="no name of Dockerfiles"):
        Layout(("",), dockerfile_names=(name,))


@pytest.mark.parametrize(
    ("context", "folder"),
    [
        ("folder", "images/base/x"),
        (".", "images/base/x"),
        ("..", "images/base"),
        ("../..", "images"),
        ("../../..", ""),
        ("repository", ""),
        ("/", ""),
        ("/context", "context"),
        ("../shared", "images/base/shared"),
    ],
)
def test_the_context_is_named_from_the_folder_or_the_root(context, folder):
    assert context_folder(context, "images/base/x", where="context") == folder


@pytest.mark.parametrize("context", ["", "../../../..", "/../x", "..\\x"])
def test_a_context_outside_of_the_repository_is_refused(context):
    with pytest.raises(BadInput, match="no folder of the repository"):
        context_folder(context, "images/base/x", where="context")


def test_the_usual_names_of_dockerfiles():
    usual = ["Dockerfile", "x.Dockerfile", "Dockerfile.gpu", "Containerfile", "custom.dockerfile"]
    others = ["Dockerfile.private", "x.Dockerfile.dockerignore", "dockerfiles", "Dockerfile.image.json", "a.txt"]
    assert [name for name in (*usual, *others) if is_dockerfile(name)] == usual


def test_two_dockerfiles_with_one_name_are_an_error_that_names_both_and_the_setting(git_repository):
    for version in ("9.0", "8.0"):
        git_repository.write(f"src/runtime/{version}/noble/amd64/Dockerfile", "FROM debian:12\n")
    tree = git_repository.tree()
    catalog = Catalog.load(tree, "src", ())
    first, second = (f"src/runtime/{version}/noble/amd64/Dockerfile" for version in ("8.0", "9.0"))
    errors = {
        f.path: f.message for f in validate(catalog, tree) if f.severity == "error" and "same family" in f.message
    }
    assert errors.keys() == {first, second}
    assert second in errors[first]
    assert "image-paths" in errors[first]
    apart = Catalog.load(tree, "src", (), layout=Layout(("src",), ("src/{family}/{name:path}",)))
    assert list(apart.images) == ["runtime/8.0-noble-amd64", "runtime/9.0-noble-amd64"]


def test_images_that_share_a_folder_have_files_of_their_own(git_repository):
    for name in ("shiny", "rstudio"):
        git_repository.write(f"dockerfiles/{name}.Dockerfile", "FROM debian:12\n")
    git_repository.write("dockerfiles/image.json", '{"description": "shared"}')
    git_repository.write("dockerfiles/shiny.Dockerfile.image.json", '{"description": "own"}')
    git_repository.write("dockerfiles/shiny.Dockerfile.private", "RUN x\n")
    layout = Layout(("",), ("{family}/{name}",), ("*.Dockerfile",), "repository")
    images = Catalog.load(git_repository.tree(), ".", (), layout=layout).images
    shiny, rstudio = images["dockerfiles/shiny"], images["dockerfiles/rstudio"]
    assert (shiny.settings.description, rstudio.settings.description) == ("own", "shared")
    assert (shiny.public_lines, rstudio.public_lines) == (1, None)
    assert shiny.place(2) == ("dockerfiles/shiny.Dockerfile.private", 1)
    assert (shiny.path, shiny.context) == ("dockerfiles", "")


def test_a_link_in_place_of_a_dockerfile_is_one_error(git_repository):
    git_repository.image("base/x")
    link = git_repository.root / "base_images/docker/public/base/y/Dockerfile"
    link.parent.mkdir()
    link.symlink_to("../x/Dockerfile")
    (problem,) = git_repository.catalog().images["base/y"].problems
    assert "symbolic link" in problem.message


@pytest.mark.parametrize(
    ("settings", "where", "told"),
    [
        ({}, "dockerfile-names", "docker/a.Dockerfile"),
        ({"paths": ("src",)}, "docker-files-path", "docker/a.Dockerfile"),
        ({"dockerfile_names": ("*.Dockerfile",), "image_paths": ("src/{name}",)}, "image-paths", "docker/a.Dockerfile"),
    ],
)
def test_where_nothing_is_found_it_is_said_what_was_looked_for(settings, where, told):
    error = Layout(**{"paths": ("",), **settings}).nothing_found(["docker/a.Dockerfile", "src/x"], ROOT)
    assert error.where == where
    assert told in error.hint
