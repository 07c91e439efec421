"""The Python packages that the requirement files of an image folder name: what an image promises to have.

Sources: https://pip.pypa.io/en/stable/reference/requirements-file-format/ and
https://docs.conda.io/projects/conda/en/latest/user-guide/tasks/manage-environments.html.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

_REQUIREMENTS, _ENVIRONMENT = "*requirements*.txt", "*.y*ml"
_LARGEST_BYTES = 2**20
_OPTION = re.compile(r"\s+(?:--?[a-zA-Z][\w-]*[= ].*|#.*)$|^#.*$")
_CONDA_NAME = re.compile(r"(?:[\w.-]+::)?([\w.-]+)(?:\s*==\s*(\d+(?:\.\d+)*)\s*$)?")


def required_packages(tree: Tree, image: Image) -> frozenset[str]:
    """Normalized names of the packages that requirements*.txt and conda environments in a folder name.

    A line that is no requirement names nothing: the build is what refuses it.
    """
    return frozenset(name for name, _ in _required(tree, image))


def pinned_packages(tree: Tree, image: Image) -> dict[str, SpecifierSet]:
    """The versions that these files pin with `==`, by the normalized name of the package."""
    return {name: versions for name, versions in _required(tree, image) if _is_pin(versions)}


def _is_pin(versions: SpecifierSet) -> bool:
    return any(each.operator in ("==", "===") and not each.version.endswith(".*") for each in versions)


def _required(tree: Tree, image: Image) -> Iterator[tuple[str, SpecifierSet]]:
    paths = [path for path in tree.below(image.path) if _is_read(path)]
    small = [path for path, size in tree.sizes(paths) if size <= _LARGEST_BYTES]
    for path, content in tree.read_many(small):
        text = content.decode("utf-8", "replace")
        yield from _of_environment(text) if fnmatch(path, _ENVIRONMENT) else _of_lines(text.splitlines())


def _is_read(path: str) -> bool:
    name = path.rpartition("/")[2]
    return fnmatch(name, _REQUIREMENTS) or name.endswith((".yml", ".yaml"))


def _of_lines(lines: Iterable[str]) -> Iterator[tuple[str, SpecifierSet]]:
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        try:
            requirement = Requirement(_OPTION.sub("", line).strip())
        except InvalidRequirement:  # an option, a URL or a path
            continue
        yield str(canonicalize_name(requirement.name)), requirement.specifier


def _of_environment(text: str) -> Iterator[tuple[str, SpecifierSet]]:
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    dependencies: Any = document.get("dependencies") if isinstance(document, dict) else None
    for entry in dependencies if isinstance(dependencies, list) else ():
        match entry:
            case str() if name := _CONDA_NAME.match(entry.strip()):
                yield str(canonicalize_name(name[1])), SpecifierSet(f"=={name[2]}" if name[2] else "")
            case {"pip": [*lines]}:
                yield from _of_lines(map(str, lines))
            case _:
                continue
