"""The files of an image are those that extracting its layers makes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.trust import file_tree
from aml_images_dagster.trust.file_tree import File, FileTree, Link, TooManyFiles
from aml_images_dagster.trust.inventory import _apply
from aml_images_dagster.trust.layer_records import Change

NAMES = st.sampled_from(["a", "b", "c"])
FOLDERS = st.lists(st.sampled_from(["a", "b", "c", "x"]), max_size=2)
PATHS = st.builds(lambda folders, name: "/".join((*folders, name)), FOLDERS, NAMES)
CHANGES = st.one_of(
    st.builds(Change, st.sampled_from(["file", "folder", "remove", "empty"]), PATHS),
    st.builds(Change, st.just("link"), PATHS, st.just("x")),  # it leads to a folder or nowhere, never to a file
    st.builds(Change, st.just("hard_link"), PATHS, PATHS),
)


def as_written(changes: list[Change]) -> list[Change]:
    """A layer as its record has it and builders write it: first what it removes, and each path once.

    Where it removes something, it has nothing but folders around, and it has nothing below its own links.
    """
    removed = [change for change in changes if change.what in ("remove", "empty")]
    removed.sort(key=lambda change: (change.path.count("/"), change.what == "empty"))
    around = {change.path for change in removed if change.what == "empty"}
    for change in removed:
        parts = change.path.split("/")
        around |= {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    added = {change.path: change for change in changes if change not in removed}
    links = tuple(f"{path}/" for path, change in added.items() if change.what != "folder")
    kept = [change for change in added.values() if change.what == "folder" or change.path not in around]
    layer = [change for change in removed + kept if not change.path.startswith(links)]
    files = [change.path for change in layer if change.what == "file"]
    linked = [change for change in layer if change.what == "hard_link" and change.target in files]
    return [change for change in layer if change.what != "hard_link"] + linked


LAYERS = st.lists(st.lists(CHANGES, max_size=6).map(as_written), max_size=4)


def extract(upper: Path, layer: list[Change]) -> None:
    """Extract a layer alone, as engines do; what it removes stays in it as files with the names of the archive."""
    for change in layer:
        path = upper / change.path
        if change.what in ("remove", "empty"):
            path = path.parent / f".wh.{path.name}" if change.what == "remove" else path / ".wh..wh..opq"
        make(upper, path.parent)
        source = upper / change.target
        if change.what == "folder":
            if not path.is_dir() or path.is_symlink():
                remove(path)
                path.mkdir()
            continue
        target = change.target if change.what == "link" else None
        if change.what == "hard_link":
            make(upper, source.parent)
            target = str(source.readlink()) if source.is_symlink() else None
        remove(path)
        if target:
            path.symlink_to(target)
        else:
            path.write_text("")


def put_over(root: Path, upper: Path) -> None:
    """Put a layer over others, as overlayfs does."""
    if (upper / ".wh..wh..opq").exists():
        for each in root.iterdir():
            remove(each)
    names = {path.name for path in upper.iterdir()}
    for path in upper.iterdir():
        below = root / path.name
        if path.name.startswith(".wh."):
            name = path.name.removeprefix(".wh.")
            if name not in names and not name.startswith(".wh."):
                remove(root / name)
        elif path.is_symlink() or not path.is_dir():
            remove(below)
            path.rename(below)
        else:
            if f".wh.{path.name}" in names or below.is_symlink() or not below.is_dir():
                remove(below)
                below.mkdir()
            put_over(below, path)


def make(root: Path, folder: Path) -> None:
    """Make a folder and those around it, in place of what is no folder."""
    at = root
    for part in folder.relative_to(root).parts:
        at = at / part
        if at.is_symlink() and not at.exists():
            make(root, at.parent / at.readlink())
        elif not at.is_dir():
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


@settings(deadline=None, max_examples=200)
@given(LAYERS)
def test_whiteouts_and_links_are_those_of_layers_over_layers_on_a_disk(layers):
    tree = FileTree()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        for number, layer in enumerate(layers):
            _apply(layer, tree, [])
            upper = Path(folder) / str(number)
            upper.mkdir()
            extract(upper, layer)
            put_over(root, upper)
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


def test_a_file_below_a_link_of_the_same_layer_is_where_the_link_leads():
    tree = FileTree()
    tree.add("usr/lib/old", File())
    tree.begin_layer()
    tree.add("lib", Link("/usr/lib"))
    tree.add("lib/new", File())
    expected = {"usr": "folder", "usr/lib": "folder", "usr/lib/old": "file", "usr/lib/new": "file"}
    assert in_tree(tree) == expected | {"lib": "/usr/lib"}


def test_a_file_below_a_link_of_another_layer_takes_its_place():
    tree = FileTree()
    tree.add("lib", Link("/usr/lib"))
    tree.begin_layer()
    tree.add("lib/new", File())
    assert in_tree(tree) == {"lib": "folder", "lib/new": "file"}


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
