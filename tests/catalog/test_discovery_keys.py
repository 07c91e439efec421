"""What discovery leaves out has an unchanged content key, whatever the context of the image and whatever changed.

Differential test (e) of docs/cases.md; short here, long with `--hypothesis-profile=long`.
"""

from __future__ import annotations

import shutil

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.content_key import ContentKey
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.discovery import discover
from aml_images_dagster.catalog.layout import Layout
from aml_images_dagster.errors import BadInput

IS_LONG = settings.get_current_profile_name() == "long"
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
    "s/deep",
    "mod",
    "images",
]
IGNORED = ["", "s\n", "*\n!s\n", "**/b.sh\n", "images/f/x/own.txt\n", "own.txt\n", "s/*\n", "[\n", "**/mod\n", "**/e\n"]
BASES = ["debian:12", "debian:13", "reg.example/y:latest", "reg.example/z", "reg.example/in"]

contents = st.fixed_dictionaries({}, optional={file: st.sampled_from(["1\n", "2\n"]) for file in FILES})
ignore_files = st.fixed_dictionaries(
    {},
    optional={
        path: st.sampled_from(IGNORED)
        for path in (".dockerignore", "images/f/x/.dockerignore", "images/f/x/Dockerfile.dockerignore")
    },
)
links = st.fixed_dictionaries({}, optional={"link": st.sampled_from(["s/deep", "s", "a.txt", "nowhere", "link"])})
submodules = st.fixed_dictionaries(
    {}, optional={path: st.sampled_from(["1" * 40, "2" * 40]) for path in ("mod", "images/f/x/mod", "images/f/y/mod")}
)
bases = st.fixed_dictionaries(
    {"x": st.sampled_from(BASES)},
    optional={"y": st.sampled_from(BASES[:2]), "x/in": st.sampled_from(BASES[:3]), "z": st.sampled_from(BASES[:3])},
)
programs = st.sets(st.sampled_from(FILES), max_size=2)
states = st.tuples(contents, ignore_files, links, submodules, bases, programs)
dockerfiles = st.lists(st.sampled_from(SOURCES), min_size=1, max_size=3)
contexts = st.sampled_from(["folder", "..", "repository", "/s"])


def write(repository, state, sources, context) -> str:
    """Make a commit of a state."""
    for name in ("a.txt", "s", "images", "link", ".dockerignore", "mod"):
        path = repository.root / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    files, ignored, linked, modules, images, executable = state
    for file, content in {**files, **ignored}.items():
        repository.write(file, content, executable=file in executable)
    for link, target in linked.items():
        (repository.root / link).symlink_to(target)
    for image, base in images.items():
        copies = "".join(f"COPY {source} /to/\n" for source in (sources if image == "x" else ["."]))
        repository.write(f"images/f/{image}/Dockerfile", f"FROM {base}\n{copies}")
        repository.write(f"images/f/{image}/image.json", f'{{"context": "{context if image == "x" else "folder"}"}}')
    repository.git("add", "--all")
    for path, commit in modules.items():
        repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    repository.git("commit", "-q", "--allow-empty", "-m", "state")
    return repository.git("rev-parse", "HEAD")


def catalog_of(tree) -> Catalog:
    return Catalog.load(tree, "images", ("reg.example/{name}",), layout=Layout(("images",)))


def keys(tree) -> dict[str, str]:
    """The content key of each image, in which a parent stands with its own; or why it has none."""
    catalog = catalog_of(tree)
    found: dict[str, str] = {}
    for name in catalog.order(catalog.images):
        image = catalog.images[name]
        try:
            found[name] = ContentKey.of(
                dockerfile=image.dockerfile.text,
                context=BuildContext.of(tree, image),
                build_args={},
                platform=image.platform,
                bases=dict.fromkeys(image.bases, "") | {parent: found[parent] for parent in image.parents},
            ).digest
        except BadInput as error:
            found[name] = str(error)
    return found


@settings(
    max_examples=300 if IS_LONG else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(states, states, dockerfiles, contexts)
def test_what_is_left_out_has_an_unchanged_key(new_git_repository, before, after, sources, context):
    repository = new_git_repository()
    base = write(repository, before, sources, context)
    keys_before = keys(repository.tree(base))
    tree = repository.tree(write(repository, after, sources, context))
    selected = {image.id for image in discover(tree, catalog_of(tree), base, fallback=False).images}
    changed = {image for image, key in keys(tree).items() if keys_before.get(image) != key}
    assert changed <= selected
