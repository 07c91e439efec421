"""What a Dockerfile can copy out of a context that is more than its folder."""

from __future__ import annotations

import tarfile

import pytest

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.content_key import ContentKey
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.context_files import ContextFiles
from aml_images_dagster.catalog.layout import Layout

FILES = ("scripts/a.sh", "scripts/deep/b.sh", "other.txt", "images/base/x/own.txt", "images/base/y/foreign.txt")


@pytest.fixture
def repository(git_repository):
    for file in FILES:
        git_repository.write(file, f"{file}\n")
    return git_repository


def image(repository, dockerfile, context="repository", **files):
    repository.write("images/base/x/Dockerfile", dockerfile)
    for name, content in files.items():
        repository.write(f"images/base/x/{name.replace('__', '.')}", content)
    tree = repository.tree()
    catalog = Catalog.load(tree, "images", (), layout=Layout(("images",), context=context))
    return tree, catalog.get("base/x")


def copied(repository, instructions, context="repository", **files):
    return ContextFiles(*image(repository, f"FROM debian:12\n{instructions}\n", context, **files)).names


@pytest.mark.parametrize(
    ("instructions", "names"),
    [
        ("COPY scripts/a.sh /", ["scripts/a.sh"]),
        ("COPY ./scripts /x/", ["scripts/a.sh", "scripts/deep/b.sh"]),
        ("ADD scripts/*.sh /x/", ["scripts/a.sh"]),
        ("COPY --parents scripts/**/b.sh /x/", ["scripts/deep/b.sh"]),
        ("COPY --link --exclude=*.md scripts/./deep /x/", ["scripts/deep/b.sh"]),
        ("RUN --mount=type=bind,source=scripts/deep,target=/s x", ["scripts/deep/b.sh"]),
        ("RUN --mount=src=scripts/deep,target=/s x", ["scripts/deep/b.sh"]),
        ("RUN --mount=type=cache,source=scripts,target=/s x", []),
        ("RUN --mount=type=bind,from=busybox,source=scripts,target=/s x", []),
        ("RUN <<EOF\nCOPY scripts /\nEOF\nCOPY <<EOF /x\nscripts\nEOF", []),
        ("COPY --from=busybox scripts /", []),
        ("ARG TARGETARCH\nCOPY other-${TARGETARCH}* other.txt /", ["other.txt"]),
        ("ENV D=scripts\nCOPY $D/a.sh /", ["scripts/a.sh"]),
        ("RUN true", []),
    ],
)
def test_only_what_the_dockerfile_names_is_part_of_a_wide_context(repository, instructions, names):
    assert copied(repository, instructions) == names


def test_a_variable_that_only_the_base_may_set_brings_everything(repository):
    assert copied(repository, "COPY $FROM_THE_BASE /") == sorted([*FILES, "images/base/x/Dockerfile"])


def test_environments_are_inherited_from_stage_to_stage(repository):
    tree, x = image(repository, "FROM debian:12 AS one\nENV D=scripts/deep\nARG D2=other.txt\nFROM one\nCOPY $D /\n")
    assert ContextFiles(tree, x).names == ["scripts/deep/b.sh"]


@pytest.mark.parametrize(
    "instructions",
    ["COPY --from=used /x /x", "COPY --from=0 /x /x", "RUN --mount=from=used,target=/m ls", "FROM used"],
)
def test_stages_that_nothing_is_made_from_are_not_built(repository, instructions):
    stages = "FROM debian:12 AS used\nCOPY other.txt /x\nFROM debian:12 AS unused\nCOPY gone scripts /\n"
    last = instructions if instructions.startswith("FROM") else f"FROM debian:12\n{instructions}"
    tree, x = image(repository, f"{stages}{last}\n")
    assert x.dockerfile.needed_stages == {0, 2}
    assert ContextFiles(tree, x).names == ["other.txt"]


def test_a_context_may_be_the_folder_above_or_any_other(repository):
    assert copied(repository, "COPY y /", "..") == ["y/foreign.txt"]
    assert copied(repository, "COPY deep /", "/scripts") == ["deep/b.sh"]
    assert copied(repository, "COPY a.sh /", image__json='{"context": "/scripts"}') == ["a.sh"]


def test_every_file_of_its_own_folder_counts(repository):
    assert copied(repository, "RUN true", "folder") == ["Dockerfile", "own.txt"]


def test_links_are_followed(repository):
    (repository.root / "link").symlink_to("scripts/deep")
    (repository.root / "images" / "again").symlink_to("../link")
    assert copied(repository, "COPY link/b.sh /") == ["link", "scripts/deep/b.sh"]
    assert copied(repository, "COPY images/again /") == ["images/again", "link", "scripts/deep/b.sh"]
    files = ContextFiles(*image(repository, "FROM debian:12\nCOPY link/gone.sh /\n"))
    assert files.includes("scripts/deep/gone.sh")


def test_links_that_lead_in_a_circle_end(repository):
    (repository.root / "one").symlink_to("two")
    (repository.root / "two").symlink_to("one")
    assert copied(repository, "COPY one/x /") == ["one", "two"]


def test_the_dockerignore_beside_the_dockerfile_counts_before_that_of_the_context(repository):
    repository.write(".dockerignore", "scripts/deep\n")
    assert copied(repository, "COPY scripts /") == ["scripts/a.sh"]
    assert copied(repository, "COPY scripts /", Dockerfile__dockerignore="scripts/a.sh\n") == ["scripts/deep/b.sh"]


def test_what_speaks_to_the_factory_is_never_part_of_it(repository):
    for name in ("Dockerfile.private", "tests.json", "image.json", "z.Dockerfile.private", "z.Dockerfile.tests.json"):
        repository.write(f"images/base/y/{name}", "{}")
    repository.write("images/base/y/Dockerfile", "FROM debian:12\n")
    repository.write("scripts/tests.json", "data\n")
    assert copied(repository, "COPY images/base/y scripts/tests.json /") == [
        "images/base/y/Dockerfile",
        "images/base/y/foreign.txt",
        "scripts/tests.json",
    ]


def test_the_key_and_the_tar_have_what_is_copied_and_nothing_else(repository, tmp_path):
    dockerfile = "FROM debian:12\nCOPY scripts/deep /x/\n"

    def key():
        tree, x = image(repository, dockerfile)
        context = BuildContext.of(tree, x)
        context.write_tar(tmp_path / "context.tar", dockerfile, 0)
        return ContentKey.of(dockerfile=dockerfile, context=context, build_args={}, platform="", bases={}).digest

    before = key()
    with tarfile.open(tmp_path / "context.tar") as tar:
        assert [name for name in tar.getnames() if name.endswith(".sh")] == ["scripts/deep/b.sh"]
    repository.write("scripts/a.sh", "changed\n")
    assert key() == before
    repository.write("scripts/deep/b.sh", "changed\n")
    assert key() != before
