"""The files of an image are those that extracting its layers makes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.trust import file_tree
from aml_images_dagster.trust.file_tree import File, FileTree, Link, TooManyFiles
from aml_images_dagster.trust.inventory import _apply
from aml_images_dagster.trust.layer_records import Change

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CHANGES = st.one_of(
    st.builds(Change, st.sampled_from(["file", "folder", "remove", "empty"]), PATHS),
    st.builds(Change, st.just("link"), PATHS, NAMES),
    st.builds(Change, st.just("hard_link"), PATHS, PATHS),
)
LAYERS = st.lists(st.lists(CHANGES, max_size=6), max_size=4)


def extract(root: Path, change: Change) -> None:
    """Do on a disk what containerd does: links of parents are followed, one at the end of a path is not."""
    path = root / change.path
    parent = path.parent
    if change.what in ("remove", "empty"):
        if not parent.is_dir():
            return
        if change.what == "remove":
            remove(path)
        elif path.is_dir() and not path.is_symlink():
            for each in path.iterdir():
                remove(each)
        return
    make(root, parent)
    if change.what == "folder":
        if not path.is_dir() or path.is_symlink():
            remove(path)
            path.mkdir()
        return
    source = root / change.target
    content = None
    if change.what == "hard_link":
        is_file = source.parent.is_dir() and source.is_file() and not source.is_symlink()
        is_link = source.parent.is_dir() and source.is_symlink()
        content = str(source.readlink()) if is_link else source.read_text() if is_file else ""
    remove(path)
    if change.what == "link" or (change.what == "hard_link" and is_link):
        path.symlink_to(content if content is not None else change.target)
    else:
        path.write_text("")


def make(root: Path, folder: Path) -> None:
    """Make a folder and those around it, in place of what is no folder."""
    at = root
    for part in folder.relative_to(root).parts:
        at = at / part
        if not at.is_dir():  # also a link to nowhere
            remove(at)
            at.mkdir()


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def on_disk(root: Path) -> dict[str, str]:
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            kind = str(path.readlink()) if path.is_symlink() else "folder" if path.is_dir() else "file"
            found[str(path.relative_to(root))] = kind
    return found


def in_tree(tree: FileTree) -> dict[str, str]:
    kinds = {path: "file" if isinstance(node, File) else "folder" for path, node in tree.nodes()}
    return kinds | {path: node.target for path, node in tree.nodes() if isinstance(node, Link)}


@given(LAYERS)
def test_whiteouts_and_links_are_those_of_an_extraction_on_a_disk(layers):
    tree = FileTree()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for layer in layers:
            _apply(layer, tree, [])
            for change in layer:
                extract(root, change)
        assert in_tree(tree) == on_disk(root)


def test_links_that_lead_in_a_circle_or_out_of_the_image_end():
    tree = FileTree()
    tree.add("a", Link("b"))
    tree.add("b", Link("a"))
    tree.add("up", Link("../../../../etc"))
    tree.add("etc/passwd", File())
    tree.add("self", Link("self/self"))
    assert tree.file("a") is None
    assert tree.file("self") is None
    assert tree.file("up/passwd") is tree.file("etc/passwd") is not None
    assert tree.file("/../../etc/./passwd") is tree.file("etc/passwd")


def test_a_file_below_a_link_is_where_the_link_leads():
    tree = FileTree()
    tree.add("usr/lib/old", File())
    tree.add("lib", Link("/usr/lib"))
    tree.add("lib/new", File())
    assert in_tree(tree) == {
        "usr": "folder",
        "usr/lib": "folder",
        "usr/lib/old": "file",
        "usr/lib/new": "file",
        "lib": "/usr/lib",
    }
    tree.remove("lib/old")
    assert tree.file("usr/lib/old") is None


def test_a_package_knows_its_files_by_way_of_links():
    tree = FileTree()
    tree.add("usr/lib/x", File())
    tree.add("lib", Link("usr/lib"))
    tree.own(["lib/x", "absent/y", "usr/lib/x/below"])
    assert tree.file("usr/lib/x").is_owned


def test_an_image_has_no_more_files_than_fit(monkeypatch):
    monkeypatch.setattr(file_tree, "MOST_NODES", 10)
    tree = FileTree()
    with pytest.raises(TooManyFiles):
        for _ in range(11):  # what is removed again counts
            tree.add("a", File())
            tree.remove("a")


def test_a_deep_tree_is_walked():
    tree = FileTree()
    tree.add("/".join("a" * 2000), File())
    assert sum(1 for _ in tree.nodes()) == 2000
    assert tree.own_all("a")
