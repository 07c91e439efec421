"""What discovery leaves out has an unchanged content key, whatever the context of the image and whatever changed."""

from __future__ import annotations

import shutil

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.content_key import ContentKey
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.discovery import discover
from aml_images_dagster.catalog.layout import Layout

FILES = ["a.txt", "s/a.sh", "s/deep/b.sh", "images/f/x/own.txt", "images/f/x/s/c", "images/f/x/in/d", "images/f/y/e"]
SOURCES = [
    "a.txt",
    "s",
    "s/*.sh",
    "s/**/b.sh",
    "link",
    "link/b.sh",
    "images/f/y",
    "x",
    "own.txt",
    ".",
    "*",
    "$UNKNOWN",
    "gone*",
]
IGNORED = ["", "s\n", "*\n!s\n", "**/b.sh\n", "images/f/x/own.txt\n", "own.txt\n"]

contents = st.fixed_dictionaries({}, optional={file: st.sampled_from(["1\n", "2\n"]) for file in FILES})
ignore_files = st.fixed_dictionaries(
    {},
    optional={
        path: st.sampled_from(IGNORED)
        for path in (".dockerignore", "images/f/x/.dockerignore", "images/f/x/Dockerfile.dockerignore")
    },
)
links = st.fixed_dictionaries({}, optional={"link": st.sampled_from(["s/deep", "s", "a.txt", "nowhere", "link"])})
states = st.tuples(contents, ignore_files, links)
dockerfiles = st.lists(st.sampled_from(SOURCES), min_size=1, max_size=3)
contexts = st.sampled_from(["folder", "..", "repository", "/s"])


def write(repository, state, sources, context) -> None:
    for name in ("a.txt", "s", "images", "link", ".dockerignore"):
        path = repository.root / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    for file, content in {**state[0], **state[1]}.items():
        repository.write(file, content)
    for link, target in state[2].items():
        (repository.root / link).symlink_to(target)
    for image, own in (("x", sources), ("y", ["."]), ("x/in", ["."])):
        copies = "".join(f"COPY {source} /to/\n" for source in own)
        repository.write(f"images/f/{image}/Dockerfile", f"FROM debian:12\n{copies}")
        repository.write(f"images/f/{image}/image.json", f'{{"context": "{context if image == "x" else "folder"}"}}')


def catalog_of(tree) -> Catalog:
    return Catalog.load(tree, "images", (), layout=Layout(("images",)))


def keys(tree) -> dict[str, str]:
    return {
        image.id: ContentKey.of(
            dockerfile=image.dockerfile.text,
            context=BuildContext.of(tree, image),
            build_args={},
            platform=image.platform,
            bases={},
        ).digest
        for image in catalog_of(tree).images.values()
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states, states, dockerfiles, contexts)
def test_what_is_left_out_has_an_unchanged_key(new_git_repository, before, after, sources, context):
    repository = new_git_repository()
    write(repository, before, sources, context)
    base = repository.commit()
    keys_before = keys(repository.tree(base))
    write(repository, after, sources, context)
    tree = repository.tree(repository.commit())
    selected = {image.id for image in discover(tree, catalog_of(tree), base, fallback=False).images}
    changed = {image for image, key in keys(tree).items() if keys_before.get(image) != key}
    assert changed <= selected
