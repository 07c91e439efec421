"""Which images a change selects, and why; checked against an oracle that reads git in another way."""

from __future__ import annotations

import shutil
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.discovery import discover
from aml_images_dagster.catalog.layout import Layout
from aml_images_dagster.errors import BadInput

ROOT = "base_images/docker/public"
PUBLISHED = "mcr.microsoft.com/azureml"
TODAY = date(2026, 11, 23)


def plan(*scripts, pytest_path=None):
    scenarios = [f'{{"name": "s{i}", "kind": "training", "script": "{s}"}}' for i, s in enumerate(scripts)]
    if pytest_path:
        scenarios.append(f'{{"name": "p", "kind": "pytest", "path": "{pytest_path}"}}')
    return f'{{"scenarios": [{", ".join(scenarios)}]}}'


def found(repository, base="base", head: str | None = "HEAD"):
    return discover(repository.tree(head), repository.catalog(head), base, today=TODAY)


def changes(discovery):
    return {image.id: image.change for image in discovery.images}


@pytest.fixture
def chain(git_repository):
    """base/mpi ← base-gpu/cuda ← framework/torch, and base/alone; tagged `base`."""
    git_repository.write("base_images/tests/scripts/train.py")
    git_repository.write("base_images/tests/scripts/mpi.py")
    git_repository.image("base/mpi", tests__json=plan("scripts/mpi.py", "scripts/train.py"))
    git_repository.image("base-gpu/cuda", f"FROM {PUBLISHED}/mpi\n", tests__json=plan("scripts/train.py"))
    git_repository.image("framework/torch", f"FROM {PUBLISHED}/cuda\n")
    git_repository.image("base/alone")
    git_repository.commit()
    git_repository.git("tag", "base")
    return git_repository


def test_modified_and_descendants(chain):
    chain.write(f"{ROOT}/base/mpi/LICENSE.txt", "other\n")
    chain.write(f"{ROOT}/base/mpi/scripts/new.sh")
    head = chain.commit()
    discovery = found(chain)
    assert discovery.model_dump(mode="json") == {
        "base": chain.git("rev-parse", "base"),
        "head": head,
        "merge_base": chain.git("rev-parse", "base"),
        "fallback": False,
        "images": [
            {
                "name": "cuda",
                "family": "base-gpu",
                "path": f"{ROOT}/base-gpu/cuda",
                "variant": "",
                "change": "descendant",
                "reasons": ["FROM base/mpi"],
            },
            {
                "name": "mpi",
                "family": "base",
                "path": f"{ROOT}/base/mpi",
                "variant": "",
                "change": "modified",
                "reasons": [f"modified: {ROOT}/base/mpi/LICENSE.txt", f"added: {ROOT}/base/mpi/scripts/new.sh"],
            },
            {
                "name": "torch",
                "family": "framework",
                "path": f"{ROOT}/framework/torch",
                "variant": "",
                "change": "descendant",
                "reasons": ["FROM base-gpu/cuda"],
            },
        ],
        "removed": [],
        "end_of_life": [],
    }


def test_added_and_removed(chain):
    chain.remove(f"{ROOT}/base/alone")
    chain.image("base/new")
    chain.commit()
    discovery = found(chain)
    assert changes(discovery) == {"base/new": "added"}
    assert [removed.path for removed in discovery.removed] == [f"{ROOT}/base/alone"]
    assert (discovery.removed[0].family, discovery.removed[0].name) == ("base", "alone")


def test_a_renamed_folder_is_removed_and_added(chain):
    chain.git("mv", f"{ROOT}/base/alone", f"{ROOT}/base/renamed")
    chain.commit()
    discovery = found(chain)
    assert changes(discovery) == {"base/renamed": "added"}
    assert [removed.name for removed in discovery.removed] == ["alone"]


def test_a_folder_that_gets_its_dockerfile_now_is_added(chain):
    chain.write(f"{ROOT}/base/later/data")
    chain.commit()
    chain.git("tag", "-f", "base")
    chain.write(f"{ROOT}/base/later/Dockerfile", "FROM debian:12\n")
    chain.commit()
    assert changes(found(chain)) == {"base/later": "added"}


def test_only_what_the_head_changed_counts(chain):
    chain.git("checkout", "-q", "-b", "feature")
    chain.write(f"{ROOT}/base/alone/LICENSE.txt", "feature\n")
    chain.commit()
    chain.git("checkout", "-q", "main")
    chain.write(f"{ROOT}/base/mpi/LICENSE.txt", "main\n")
    chain.commit()
    discovery = found(chain, "main", "feature")
    assert changes(discovery) == {"base/alone": "modified"}
    assert discovery.merge_base == chain.git("rev-parse", "base") != discovery.base


def test_tests_select_the_images_that_use_them(chain):
    chain.write("base_images/tests/scripts/mpi.py", "other\n")
    chain.commit()
    discovery = found(chain)
    assert changes(discovery) == {"base/mpi": "tests", "base-gpu/cuda": "descendant", "framework/torch": "descendant"}
    mpi = next(image for image in discovery.images if image.name == "mpi")
    assert mpi.reasons == ("tests: base_images/tests/scripts/mpi.py (scenario s0)",)


def test_all_reasons_are_told(chain):
    chain.write("base_images/tests/scripts/train.py", "other\n")
    chain.write(f"{ROOT}/base/mpi/LICENSE.txt", "other\n")
    chain.write(f"{ROOT}/base-gpu/cuda/LICENSE.txt", "other\n")
    chain.commit()
    cuda = next(image for image in found(chain).images if image.name == "cuda")
    assert cuda.change == "modified"
    assert cuda.reasons == (
        f"modified: {ROOT}/base-gpu/cuda/LICENSE.txt",
        "tests: base_images/tests/scripts/train.py (scenario s0)",
        "FROM base/mpi",
    )


def test_pytest_scenarios(chain):
    tests = "base_images/tests/image_contract"
    chain.write(f"{tests}/test_x.py")
    chain.write("base_images/tests/conftest.py")
    chain.image("base/p", tests__json=plan(pytest_path=tests))
    chain.commit()
    chain.git("tag", "-f", "base")
    for path in (f"{tests}/test_x.py", f"{tests}/new.py", "base_images/tests/conftest.py"):
        chain.write(path, "other\n")
        chain.commit()
        assert changes(found(chain)) == {"base/p": "tests"}, path
        chain.git("tag", "-f", "base")
    chain.write("base_images/tests/image_contract_2/test_x.py")
    chain.commit()
    assert found(chain).fallback


def test_many_files_are_shortened(chain):
    for number in range(100):
        chain.write(f"{ROOT}/base/alone/data/{number:03}")
    chain.commit()
    reasons = found(chain).images[0].reasons
    assert len(reasons) == 8
    assert reasons[-1] == "and 93 more files"


def test_reasons_can_be_printed_whatever_a_file_is_called(chain):
    (chain.root / ROOT / "base/alone" / "caf\udce9").write_text("x")
    chain.commit()
    (image,) = found(chain).images
    assert image.reasons == (f"added: {ROOT}/base/alone/caf\\xe9",)


def test_nothing_found_selects_all(chain):
    chain.write("README.md", "other\n")
    chain.image("base/ended", image__json='{"eol": "2020-01-01"}')
    chain.commit()
    discovery = found(chain)
    assert discovery.fallback
    assert discovery.end_of_life == ("base/ended",)
    assert changes(discovery) == dict.fromkeys(
        ["base-gpu/cuda", "base/alone", "base/mpi", "framework/torch"], "fallback"
    )


def test_whatever_a_dockerfile_can_copy_selects_its_image(git_repository):
    for name in ("shared", "deep"):
        git_repository.write(f"images/base/{name}/Dockerfile", "FROM debian:12\nCOPY scripts/run.sh /\n")
    git_repository.write("images/base/other/Dockerfile", "FROM debian:12\nCOPY other.txt /\n")
    git_repository.write("images/base/deep/image.json", '{"context": "folder"}')
    for path in (
        "scripts/run.sh",
        "scripts/unused.sh",
        "images/base/deep/scripts/run.sh",
        "images/base/shared/own.txt",
    ):
        git_repository.write(path)
    git_repository.commit()
    git_repository.git("tag", "base")

    def selected() -> dict[str, str]:
        tree = git_repository.tree()
        catalog = Catalog.load(tree, "images", (), layout=Layout(("images",), context="repository"))
        return {image.id: image.change for image in discover(tree, catalog, "base", fallback=False).images}

    git_repository.write("scripts/unused.sh", "changed\n")
    assert selected() == {}
    git_repository.write("scripts/run.sh", "changed\n")
    assert selected() == {"base/shared": "modified"}
    git_repository.remove("scripts/run.sh")
    assert selected() == {"base/shared": "modified"}
    git_repository.git("checkout", "-q", "HEAD", "--", "scripts")
    git_repository.write(".dockerignore", "x\n")
    assert selected() == {"base/other": "modified", "base/shared": "modified"}
    git_repository.git("clean", "-qf", ".dockerignore")
    git_repository.write("images/base/shared/own.txt", "changed\n")
    assert selected() == {"base/shared": "modified"}


def test_a_file_of_a_nested_image_belongs_to_the_outer_one_too(chain):
    chain.image("base/mpi/inner")
    chain.write(f"{ROOT}/base/mpi/inner/data")
    chain.commit()
    chain.git("tag", "-f", "base")
    chain.write(f"{ROOT}/base/mpi/inner/data", "changed\n")
    chain.commit()
    assert {"base/mpi", "mpi/inner"} <= changes(found(chain)).keys()
    chain.write(f"{ROOT}/base/mpi/.dockerignore", "inner\n")
    chain.commit()
    chain.git("tag", "-f", "base")
    chain.write(f"{ROOT}/base/mpi/inner/data", "changed again\n")
    chain.commit()
    assert changes(found(chain)).keys() == {"mpi/inner"}


def test_a_dockerfile_in_a_shared_folder_selects_its_image_alone(git_repository):
    for name in ("shiny", "rstudio"):
        git_repository.write(f"dockerfiles/{name}.Dockerfile", "FROM debian:12\n")
    git_repository.write("dockerfiles/LICENSE.txt")
    git_repository.commit()
    git_repository.git("tag", "base")
    layout = Layout(("",), ("{family}/{name}",), ("*.Dockerfile",))

    def selected() -> set[str]:
        tree = git_repository.tree()
        return {
            i.name for i in discover(tree, Catalog.load(tree, ".", (), layout=layout), "base", fallback=False).images
        }

    git_repository.write("dockerfiles/shiny.Dockerfile", "FROM debian:13\n")
    assert selected() == {"shiny"}
    git_repository.write("dockerfiles/rstudio.Dockerfile.tests.json", "{}")
    assert selected() == {"shiny", "rstudio"}


def test_the_end_of_life_ends_a_chain(chain):
    chain.write(f"{ROOT}/base-gpu/cuda/image.json", '{"eol": "2026-11-23"}')
    chain.commit()
    chain.git("tag", "-f", "base")
    chain.write(f"{ROOT}/base/mpi/LICENSE.txt", "other\n")
    chain.commit()
    discovery = found(chain)
    assert changes(discovery) == {"base/mpi": "modified"}
    assert discovery.end_of_life == ("base-gpu/cuda",)


def test_the_working_tree(chain):
    chain.write(f"{ROOT}/base/alone/untracked")
    chain.write("base_images/tests/scripts/train.py", "not committed\n")
    discovery = found(chain, head=None)
    assert discovery.head is None
    assert changes(discovery)["base/alone"] == "modified"
    assert changes(discovery)["base-gpu/cuda"] == "tests"
    assert found(chain, head="HEAD").fallback, "a commit knows nothing of the working tree"


def test_a_commit_needs_no_working_tree(chain, tmp_path):
    chain.write(f"{ROOT}/base/alone/LICENSE.txt", "other\n")
    chain.commit()
    expected = found(chain)
    for entry in chain.root.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry)
    assert found(chain) == expected


def test_a_cycle_does_not_disturb(chain):
    chain.image("base/a", f"FROM {PUBLISHED}/b\n")
    chain.image("base/b", f"FROM {PUBLISHED}/a\n")
    chain.commit()
    assert changes(found(chain)) == {"base/a": "added", "base/b": "added"}


def test_unknown_base(chain):
    with pytest.raises(BadInput, match="git knows no revision 'nosuch'"):
        found(chain, "nosuch")


# The oracle knows the meaning of a change only: it compares two dictionaries of files and never asks git for a diff.

_FOLDERS = ["base/a", "base/b", "base/b/inner", "base/c", "other"]
_FILES = ["Dockerfile", "data", "deep/data", "tests.json"]
_PATHS = [f"{ROOT}/{folder}/{file}" for folder in _FOLDERS for file in _FILES] + [
    "README.md",
    "base_images/tests/t.py",
    "base_images/tests/u.py",
]
_PARENTS = {"base/a": None, "base/b": "a", "base/b/inner": "b", "base/c": "inner", "other": None}


@st.composite
def trees(draw):
    tree = {}
    for path in draw(st.sets(st.sampled_from(_PATHS))):
        version = draw(st.integers(0, 1))
        folder, _, name = path.removeprefix(f"{ROOT}/").rpartition("/")
        if name == "Dockerfile":
            parent = _PARENTS[folder]
            tree[path] = f"FROM {PUBLISHED}/{parent}\nRUN {version}\n" if parent else f"FROM debian:{version}\n"
        elif name == "tests.json":
            tree[path] = plan(["t.py", "u.py"][version])
        else:
            tree[path] = f"{version}\n"
    return tree


def oracle(before, after):
    """What has to be selected, by folder."""

    def image_folders(tree):
        return {p.removesuffix("/Dockerfile") for p in tree if p.startswith(ROOT) and p.endswith("/Dockerfile")}

    def own_files(folder, images, tree):
        """All files of its context, also those of images in it, but for what these say to the factory."""
        theirs = {f"{other}/tests.json" for other in images if other.startswith(f"{folder}/")}
        return {path: content for path, content in tree.items() if path.startswith(f"{folder}/") and path not in theirs}

    old, new = image_folders(before), image_folders(after)
    selected = {}
    for folder in new:
        if own_files(folder, new, before) != own_files(folder, new, after):
            selected[folder] = "modified" if folder in old else "added"
    for folder in new - selected.keys():
        for script in ("t.py", "u.py"):
            path = f"base_images/tests/{script}"
            if script in after.get(f"{folder}/tests.json", "") and before.get(path) != after.get(path):
                selected[folder] = "tests"
    gone = {folder.rsplit("/", 1)[1] for folder in old} - {folder.rsplit("/", 1)[1] for folder in new}
    for folder in (new & old) - selected.keys():
        if any(f"{PUBLISHED}/{name}\n" in before[f"{folder}/Dockerfile"] for name in gone):
            selected[folder] = "descendant"
    while True:
        names = {folder.rsplit("/", 1)[1] for folder in selected}
        more = [
            folder
            for folder in new - selected.keys()
            if any(f"{PUBLISHED}/{name}\n" in after[f"{folder}/Dockerfile"] for name in names)
        ]
        if not more:
            break
        selected.update(dict.fromkeys(more, "descendant"))
    fallback = {} if old - new else dict.fromkeys(new, "fallback")
    return selected or fallback, old - new


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees(), trees())
def test_discovery_agrees_with_the_oracle(new_git_repository, before, after):
    repository = new_git_repository()
    after = {**after, f"{ROOT}/README.md": "the folder exists\n"}
    for tree in (before, after):
        for entry in repository.root.iterdir():
            if entry.name != ".git":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for path, content in tree.items():
            repository.write(path, content)
        repository.commit()
    selected, removed = oracle(before, after)
    for head in ("HEAD", None):
        discovery = found(repository, "HEAD~1", head)
        assert {image.path: image.change for image in discovery.images} == selected
        assert {image.path for image in discovery.removed} == removed
        assert discovery.fallback == ("fallback" in selected.values() or not (selected or removed))
