"""What public material broke, by the ids of docs/cases.md; the rest of the rows are tested where that page says."""

from __future__ import annotations

import tarfile
from datetime import date
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.content_key import ContentKey
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.discovery import discover
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.catalog.finding import Finding
    from tests.catalog.conftest import GitRepository

TODAY = date(2026, 11, 26)
ROOT = "base_images/docker/public"
FOLDER = f"{ROOT}/base/x"
PUBLISHED = "mcr.microsoft.com/azureml"
TESTS = '{"scenarios": [{"name": "one", "kind": "training", "script": "%s"}]}'


def errors(repository: GitRepository, revision: str | None = None) -> list[Finding]:
    found = validate(repository.catalog(revision), repository.tree(revision), today=TODAY, publishes=False)
    return [finding for finding in found if finding.severity == "error"]


def messages(repository: GitRepository) -> list[str]:
    return [finding.message for finding in errors(repository)]


def context(repository: GitRepository, revision: str | None = None) -> BuildContext:
    return BuildContext.of(repository.tree(revision), repository.catalog(revision).get("base/x"))


def key(repository: GitRepository) -> ContentKey:
    return ContentKey.of(dockerfile="", context=context(repository), build_args={}, platform="", bases={})


def names(repository: GitRepository) -> list[str]:
    return [file.path for file in context(repository).files]


def test_c1_patterns_of_dockerignore_know_capitals(git_repository: GitRepository) -> None:
    git_repository.image("base/x", "FROM debian:12\nCOPY . /x/\n", __dockerignore="build/\n")
    git_repository.write(f"{FOLDER}/build/junk")
    assert "build/junk" not in names(git_repository)
    git_repository.write(f"{FOLDER}/BUILD")  # two names where the file system knows capitals
    assert "BUILD" in names(git_repository)


def test_c1_a_folder_of_which_all_files_are_left_out_is_in_the_image(git_repository: GitRepository) -> None:
    git_repository.image("base/x", "FROM debian:12\nCOPY logs /x/\n", __dockerignore="logs/*\n")
    git_repository.write(f"{FOLDER}/logs/today")
    assert errors(git_repository) == []
    assert context(git_repository).folders == ("logs",)
    assert key(git_repository).files["logs/"] == "40000"
    context(git_repository).write_tar(git_repository.root / "context.tar", "", 0)
    with tarfile.open(git_repository.root / "context.tar") as tar:
        assert tar.getmember("logs").isdir()
    before = git_repository.commit()
    git_repository.remove(f"{FOLDER}/logs")
    git_repository.commit()
    tree, catalog = git_repository.tree("HEAD"), git_repository.catalog("HEAD")
    assert [image.id for image in discover(tree, catalog, before, fallback=False, today=TODAY).images] == ["base/x"]


@pytest.mark.parametrize("line", ["!", "[", "[a", "a\\", "[z-a]*"])
def test_c1_a_pattern_that_the_builder_refuses_is_an_error(git_repository: GitRepository, line: str) -> None:
    git_repository.image("base/x", "FROM debian:12\nCOPY . /x/\n", __dockerignore=f"a\n{line}\n")
    (error,) = errors(git_repository)
    assert (error.path, error.line) == (f"{FOLDER}/.dockerignore", 2)
    assert "is no pattern" in error.message
    with pytest.raises(BadInput, match="is no pattern"):
        context(git_repository)


def test_c2_a_pattern_may_match_nothing(git_repository: GitRepository) -> None:
    folder = git_repository.image("base/x", "FROM debian:12\nCOPY package.json package-lock.json* /x/\n")
    git_repository.write(f"{folder}/package.json")
    assert errors(git_repository) == []
    git_repository.image("base/x", "FROM debian:12\nCOPY package.json nowhere/lock* /x/\n")
    assert "nowhere/lock*" in messages(git_repository)[0]  # BuildKit finds no folder to look in


def test_c2_for_windows_another_source_has_to_match(git_repository: GitRepository) -> None:
    base = "FROM mcr.microsoft.com/windows/servercore:ltsc2022\n"
    git_repository.image("base/x", f"{base}COPY LICENSE.txt gone* C:/x/\n")
    assert errors(git_repository) == []
    git_repository.image("base/x", f"{base}COPY gone* C:/x/\n")
    assert "there is nothing of this name" in messages(git_repository)[0]
    git_repository.image("base/x", f"{base}COPY LICENSE.txt ThirdPartyNotices.txt C:/x\n")
    assert "write a / behind C:/x" in messages(git_repository)[0]


def test_c3_links_inside_of_the_context_are_followed(git_repository: GitRepository) -> None:
    folder = git_repository.image("base/x", "FROM debian:12\nCOPY link/s.sh /x/\n")
    git_repository.write(f"{folder}/real/s.sh")
    (git_repository.root / folder / "link").symlink_to("real")
    assert errors(git_repository) == []
    assert {"link", "real/s.sh"} <= set(names(git_repository))


@pytest.mark.parametrize(
    ("copies", "is_refused"),
    [
        ("COPY x /y/", False),
        ("COPY x* /y/", True),  # the client sends what is in x, and not where its link leads
        ("COPY x* /y/\nCOPY real.txt /z/", False),
        ("COPY x/* /y/", False),
        ("COPY x/up /y/", False),
        ("COPY x/gone /y/", True),
        ("COPY link* /y/", False),
        ("COPY . /y/", False),
    ],
)
def test_c3_a_link_that_leads_to_nothing_that_is_sent(
    git_repository: GitRepository, copies: str, is_refused: bool
) -> None:
    folder = git_repository.image("base/x", f"FROM debian:12\n{copies}\n")
    git_repository.write(f"{folder}/real.txt")
    git_repository.write(f"{folder}/x/file")
    links = {"x/up": "../real.txt", "link": "x"} | ({"x/gone": "nowhere"} if "gone" in copies else {})
    for name, target in links.items():
        (git_repository.root / folder / name).symlink_to(target)
    assert ["the symbolic link x/" in message for message in messages(git_repository)] == [True] * is_refused


def test_c4_a_variable_has_its_value_only_where_it_is_declared(git_repository: GitRepository) -> None:
    stage = "ARG TARGETARCH\nCOPY tool-${TARGETARCH} /x/\n"
    folder = git_repository.image("base/x", f"FROM scratch\n{stage}")
    git_repository.write(f"{folder}/tool-amd64")
    assert errors(git_repository) == []
    git_repository.image("base/x", f"FROM scratch\n{stage.partition(chr(10))[2]}")
    assert "tool-${TARGETARCH}" in messages(git_repository)[0]


@pytest.mark.parametrize("revision", [None, "HEAD"])
@pytest.mark.parametrize(
    ("copies", "is_refused"),
    [("COPY . /x/", True), ("COPY sub /x/", True), ("COPY sub/a /x/", True), ("COPY s* /x/", True), ("RUN x", False)],
)
def test_c6_a_submodule_that_is_copied_is_named(
    git_repository: GitRepository, revision: str | None, copies: str, is_refused: bool
) -> None:
    git_repository.image("base/x", f"FROM debian:12\n{copies}\n")
    git_repository.commit()
    git_repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},{FOLDER}/sub")
    git_repository.git("commit", "-qm", "a submodule")
    found = [f.path for f in errors(git_repository, revision) if "submodule" in f.message]
    assert found == ([f"{FOLDER}/sub"] if is_refused else [])
    if is_refused:
        with pytest.raises(BadInput, match="copies a submodule"):
            context(git_repository, revision)


def test_c6_a_repository_inside_of_the_working_tree_is_named(git_repository: GitRepository) -> None:
    git_repository.image("base/x", "FROM debian:12\nCOPY . /x/\n")
    git_repository.write(f"{FOLDER}/sub/file")
    git_repository.git("-C", f"{FOLDER}/sub", "init", "-q")
    assert [f.path for f in errors(git_repository)] == [f"{FOLDER}/sub"]
    git_repository.write(f"{FOLDER}/.dockerignore", "sub\n")
    assert errors(git_repository) == []


def test_c9_images_with_the_same_last_folders_are_an_error_that_names_both(git_repository: GitRepository) -> None:
    paths = [f"src/runtime/{version}/noble/amd64" for version in ("8.0", "9.0")]
    for path in paths:
        git_repository.write(f"{path}/Dockerfile", "FROM debian:12\n")
    tree = git_repository.tree()
    found = validate(Catalog.load(tree, "src", ()), tree, today=TODAY, publishes=False)
    both = {f.path: f.message for f in found if "has the same family and name" in f.message}
    assert set(both) == {f"{path}/Dockerfile" for path in paths}
    assert "image-paths" in both[f"{paths[0]}/Dockerfile"]
    assert f"{paths[1]}/Dockerfile" in both[f"{paths[0]}/Dockerfile"]


@pytest.mark.parametrize("how", ["renamed", "deleted"])
def test_c12_what_was_from_an_image_that_is_gone_is_selected(git_repository: GitRepository, how: str) -> None:
    git_repository.image("base/parent")
    git_repository.image("base/child", f"FROM {PUBLISHED}/parent:latest\n")
    git_repository.image("base/grandchild", f"FROM {PUBLISHED}/child\n")
    git_repository.image("base/other")
    before = git_repository.commit()
    if how == "renamed":
        git_repository.git("mv", f"{ROOT}/base/parent", f"{ROOT}/base/new")
    else:
        git_repository.remove(f"{ROOT}/base/parent")
    git_repository.commit()
    found = discover(git_repository.tree("HEAD"), git_repository.catalog("HEAD"), before, today=TODAY)
    reasons = {image.id: image.reasons for image in found.images}
    assert reasons.pop("base/new", None) is not None or how == "deleted"
    assert reasons == {
        "base/child": ("FROM base/parent, which is gone",),
        "base/grandchild": ("FROM base/child",),
    }


def test_c12_a_variant_that_is_gone_counts_as_well(git_repository: GitRepository) -> None:
    variants = '{"variants": {"one": {}, "two": {}}}'
    git_repository.image("base/parent", image__json=variants)
    git_repository.image("base/child", f"FROM {PUBLISHED}/parent-two\n")
    before = git_repository.commit()
    git_repository.write(f"{ROOT}/base/parent/image.json", variants.replace(', "two": {}', ""))
    git_repository.commit()
    found = discover(git_repository.tree("HEAD"), git_repository.catalog("HEAD"), before, today=TODAY)
    assert {image.id: image.reasons for image in found.images} == {
        "base/child": ("FROM base/parent-two, which is gone",)
    }


def test_c12_a_change_that_only_deletes_selects_nothing_else(git_repository: GitRepository) -> None:
    git_repository.image("base/gone")
    git_repository.image("base/other")
    before = git_repository.commit()
    git_repository.remove(f"{ROOT}/base/gone")
    git_repository.commit()
    found = discover(git_repository.tree("HEAD"), git_repository.catalog("HEAD"), before, today=TODAY)
    assert (found.images, found.fallback, [image.name for image in found.removed]) == ((), False, ["gone"])


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("scripts/", "which is a folder"),
        ("gone.py", "does not exist"),
        ("link.py", "which is a symbolic link"),
        ("scripts/a.sh", "which is no Python file (.py); scripts are run with python"),
        ("scripts/train", "which is no Python file"),
    ],
)
def test_scripts_that_the_tests_cannot_run(git_repository: GitRepository, script: str, what: str) -> None:
    for name in ("a.sh", "train"):
        git_repository.write(f"base_images/tests/scripts/{name}")
    (git_repository.root / "base_images/tests/link.py").symlink_to("scripts/a.sh")
    git_repository.image("base/x", tests__json=TESTS % script)
    (message,) = messages(git_repository)
    assert what in message


@pytest.mark.parametrize("revision", [None, "HEAD"])
def test_pointers_of_git_lfs_are_found_before_the_build(git_repository: GitRepository, revision: str | None) -> None:
    git_repository.image("base/x", "FROM debian:12\nCOPY model.bin /x/\n")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    git_repository.write(f"{FOLDER}/model.bin", pointer)
    git_repository.commit()
    (error,) = errors(git_repository, revision)
    assert (error.path, "Git LFS pointer" in error.message) == (f"{FOLDER}/model.bin", True)


def test_a_dockerfile_that_is_a_link_is_one_error(git_repository: GitRepository) -> None:
    git_repository.image("base/x")
    git_repository.image("base/y")
    (git_repository.root / FOLDER / "Dockerfile").unlink()
    (git_repository.root / FOLDER / "Dockerfile").symlink_to("../y/Dockerfile")
    assert messages(git_repository) == ["a symbolic link is not allowed here; put the file itself"]


def test_no_break_spaces_are_named_with_their_line(git_repository: GitRepository) -> None:
    text = "FROM debian:12\nRUN a && \\\u00a0\n    b\n"
    git_repository.image("base/x", text)
    (error,) = errors(git_repository)
    assert error.line == 2
    assert "no-break space (U+00A0) stands behind the continuation character" in error.message
    git_repository.image("base/x", "FROM debian:12\nRUN a && \\\n    b\u00a0c\nCOPY LICENSE.txt\u00a0/x/\n")
    found = validate(git_repository.catalog(), git_repository.tree(), today=TODAY, publishes=False)
    said = {finding.line: finding.message for finding in found if "U+00A0" in finding.message}
    assert "which the shell takes for a letter" in said[3]
    assert "COPY takes sources and a destination" in said[4]


def test_a_template_in_place_of_a_tag_is_named(git_repository: GitRepository) -> None:
    git_repository.image("base/x", "FROM a.example/b:{{newest}}\n")
    (message,) = messages(git_repository)
    assert "a.example/b:{{newest}}" in message
    assert "{{latest-image-tag}}" in message
    git_repository.image("base/x", "FROM a.example/b:{{latest-image-tag}}\n")
    assert errors(git_repository) == []
