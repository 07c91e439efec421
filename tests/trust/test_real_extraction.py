"""The files that an inventory sees are those that a container of the engine has."""

from __future__ import annotations

import io
import random
import tarfile
from typing import TYPE_CHECKING

import docker
import pytest

from aml_images_dagster.registry.oci import read_manifest
from aml_images_dagster.trust.file_tree import File, FileTree
from aml_images_dagster.trust.file_tree import Link as TreeLink
from aml_images_dagster.trust.inventory import _apply
from tests.trust.images import REPOSITORY, Folder, Link, MemoryRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.trust.images import Entry

pytestmark = pytest.mark.engine

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def engine_client():
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def container_files(engine_client, staging, repository, registry) -> Callable[..., dict[str, str]]:
    """The files and links that a container of an image of these layers has below the names of the test."""

    def files(*layers: dict[str, Entry]) -> dict[str, str]:
        pushed = registry.copy_to(staging, repository, registry.push(*layers, config={"Cmd": ["none"]}))
        image = engine_client.images.pull(str(pushed))
        container = engine_client.containers.create(image.id)
        try:
            exported = io.BytesIO(b"".join(container.export()))
        finally:
            container.remove()
            engine_client.images.remove(str(pushed))
        with tarfile.open(fileobj=exported) as tar:
            found = {entry.name.rstrip("/"): entry for entry in tar if entry.name[0] in "abc"}
        return {name: entry.linkname if entry.issym() else "file" for name, entry in found.items() if not entry.isdir()}

    return files


@pytest.fixture
def tree_files(registry: MemoryRegistry, records) -> Callable[..., dict[str, str]]:
    """What the inventory sees of the same layers."""

    def files(*layers: dict[str, Entry]) -> dict[str, str]:
        tree = FileTree()
        for layer in read_manifest(registry.manifests[registry.push(*layers).digest])["layers"]:
            with records.changes(registry, REPOSITORY, layer["digest"]) as changes:
                assert _apply(changes, tree, [])
        return {
            path: node.target if isinstance(node, TreeLink) else "file"
            for path, node in tree.nodes()
            if isinstance(node, File | TreeLink)
        }

    return files


def some_layer(chance: random.Random) -> dict[str, Entry]:
    """A layer as builders write it: each folder before what is in it, and before what is removed in it."""
    layer: dict[str, Entry] = {}
    for _ in range(chance.randint(1, 5)):
        *folders, name = (chance.choice(NAMES) for _ in range(chance.randint(1, 3)))
        around = ["/".join(folders[: depth + 1]) for depth in range(len(folders))]
        path = "/".join((*folders, name))
        if path in layer or any(not isinstance(layer.get(each, Folder()), Folder) for each in around):
            continue
        layer |= {each: Folder() for each in around if each not in layer}
        kind = chance.choice(["file", "file", "folder", "link", "hard link", "remove", "empty"])
        files = [each for each, content in layer.items() if content == "text"]
        if kind == "remove":
            layer["/".join((*folders, f".wh.{name}"))] = ""
        elif kind == "empty":
            layer |= {path: Folder(), f"{path}/.wh..wh..opq": ""}
        elif kind == "hard link" and files:
            layer[path] = Link(chance.choice(files), hard=True)
        elif kind == "link":
            layer[path] = Link(chance.choice(NAMES))
        elif kind == "folder":
            layer[path] = Folder()
        else:
            layer[path] = "text"
    return layer


@pytest.mark.parametrize("seed", range(10))
def test_any_layers(container_files, tree_files, seed):
    chance = random.Random(seed)
    layers = [{name: Folder() for name in NAMES}, *(some_layer(chance) for _ in range(4))]
    assert tree_files(*layers) == container_files(*layers)


@pytest.mark.parametrize("is_same", [True, False])
def test_a_file_below_a_link(container_files, tree_files, is_same):
    link, file = {"a": Folder(), "a/b": Folder(), "c": Link("a/b")}, {"c/file": "text"}
    layers = [link | file] if is_same else [link, file]
    expected = {"a/b/file": "file", "c": "a/b"} if is_same else {"c/file": "file"}
    assert tree_files(*layers) == container_files(*layers) == expected
