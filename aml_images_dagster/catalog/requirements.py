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
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

_REQUIREMENTS, _ENVIRONMENT = "*requirements*.txt", "*.y*ml"
_LARGEST_BYTES = 2**20
_OPTION = re.compile(r"\s+(?:--?[a-zA-Z][\w-]*[= ].*|#.*)$|^#.*$")
_CONDA_NAME = re.compile(r"(?:[\w.-]+::)?([\w.-]+)")


def required_packages(tree: Tree, image: Image) -> frozenset[str]:
    """Normalized names of the packages that requirements*.txt and conda environments in a folder name.

    A line that is no requirement names nothing: the build is what refuses it.
    """
    paths = [path for path in tree.below(image.path) if _is_read(path)]
    small = [path for path, size in tree.sizes(paths) if size <= _LARGEST_BYTES]
    names: set[str] = set()
    for path, content in tree.read_many(small):
        text = content.decode("utf-8", "replace")
        names.update(_of_environment(text) if fnmatch(path, _ENVIRONMENT) else _of_lines(text.splitlines()))
    return frozenset(map(str, names))


def _is_read(path: str) -> bool:
    name = path.rpartition("/")[2]
    return fnmatch(name, _REQUIREMENTS) or name.endswith((".yml", ".yaml"))


def _of_lines(lines: Iterable[str]) -> Iterator[str]:
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        requirement = _OPTION.sub("", line).strip()
        try:
            yield canonicalize_name(Requirement(requirement).name)
        except InvalidRequirement:  # an option, a URL or a path
            continue


def _of_environment(text: str) -> Iterator[str]:
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    dependencies: Any = document.get("dependencies") if isinstance(document, dict) else None
    for entry in dependencies if isinstance(dependencies, list) else ():
        match entry:
            case str() if name := _CONDA_NAME.match(entry.strip()):
                yield canonicalize_name(name[1])
            case {"pip": [*lines]}:
                yield from _of_lines(map(str, lines))
            case _:
                continue
