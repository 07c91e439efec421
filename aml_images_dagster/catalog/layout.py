"""The layout of a repository: which of its files are Dockerfiles, and how their paths become families and names.

The path of an image is the folder of its Dockerfile; where a pattern such as `*.Dockerfile` finds the file, what its
star stands for is the last part of the path: `dockerfiles/shiny.Dockerfile` is the image at `dockerfiles/shiny`.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

DOCKERFILE = "Dockerfile"
PRIVATE_SUFFIX = ".private"
"""What the name of a Dockerfile's private part has behind that of the Dockerfile."""
IGNORE_SUFFIX = ".dockerignore"
FOLDER = "folder"
REPOSITORY = "repository"
TEMPLATE_TAGS = ("{{latest-image-tag}}", "{{latest-image-tag:*}}")
"""Templates of tags; what the star stands for is a regular expression of the tags whose newest is meant."""
SEPARATOR = "-"
"""Between the folders that `{name:path}` takes together."""

_COMPANIONS = (PRIVATE_SUFFIX, IGNORE_SUFFIX, ".tests.json", ".image.json")
_FIELD = re.compile(r"\{([a-z][a-z0-9_]*)(:path)?\}")
_PIECES = re.compile(r"(\{[^}]*\}|\*\*/|/\*\*$|\*)")
_BY_CONVENTION = re.compile(r"(?:.+\.)?(?:dockerfile|containerfile)(?:\..+)?", re.IGNORECASE)
_IMAGE_PATH_HINT = (
    "Write the path of a Dockerfile's folder with {family} and {name}, e.g. src/{name}/.devcontainer; "
    "behind ' = ' may follow the image's family and name: src/{os}/{arch} = runtime/{os}-{arch}."
)


def is_dockerfile(name: str) -> bool:
    """Whether a file is a Dockerfile by the usual names: `Dockerfile`, `x.Dockerfile`, `Containerfile.x` and so on."""
    return _BY_CONVENTION.fullmatch(name) is not None and not name.endswith(_COMPANIONS)


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """Where an image is, and what it is called.

    Attributes:
        folder: Of its Dockerfile, relative to the repository.
        dockerfile: Name of the Dockerfile in that folder.
        family: Name of the family.
        name: Name of the image.
        fields: What the fields of its pattern stand for, `family` and `name` among them.
    """

    folder: str
    dockerfile: str
    family: str
    name: str
    fields: Mapping[str, str]

    @property
    def dockerfile_path(self) -> str:
        """The Dockerfile, relative to the repository."""
        return self.file(self.dockerfile)

    def file(self, name: str) -> str:
        """Path of a file of the folder, relative to the repository."""
        return f"{self.folder}/{name}" if self.folder else name


@dataclass(frozen=True)
class Layout:
    """Where the images of a repository are.

    Attributes:
        paths: Folders that are searched, relative to the repository; the repository itself is an empty text.
        image_paths: Patterns of the paths of images; without any, the last two folders are family and name.
        dockerfile_names: Names of Dockerfiles, at most one star in each.
        context: Of images that name none themselves, see `context_folder`.
        template_tags: What stands in FROM for the newest release of an image, see `TEMPLATE_TAGS`.
    """

    paths: tuple[str, ...]
    image_paths: tuple[str, ...] = ()
    dockerfile_names: tuple[str, ...] = (DOCKERFILE,)
    context: str = FOLDER
    template_tags: tuple[str, ...] = TEMPLATE_TAGS
    _patterns: tuple[_ImagePath, ...] = field(init=False, repr=False)
    _names: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Read the patterns.

        Raises:
            BadInput: One of the settings is wrong.
        """
        object.__setattr__(self, "_patterns", tuple(map(_ImagePath.parse, self.image_paths)))
        object.__setattr__(self, "_names", _dockerfile_names(self.dockerfile_names))
        context_folder(self.context, "a/b/c/d/e/f/g/h", where="context")

    @property
    def fields(self) -> frozenset[str]:
        """What the fields of images may be called."""
        return frozenset({"family", "name"}).union(*(pattern.pattern.groupindex for pattern in self._patterns))

    def places(self, files: Iterable[str], root: Path) -> list[ImagePlace]:
        """The images among files of the repository, sorted by folder and Dockerfile.

        Args:
            files: Paths relative to the repository.
            root: The repository; its name lends itself to images at its top.
        """
        above = _folders_above(root)
        places = (self._place(folder, name, path, above) for folder, name, path in self._dockerfiles(files))
        return sorted(filter(None, places), key=lambda place: (place.folder, place.dockerfile))

    def unmatched(self, files: Iterable[str], root: Path) -> list[str]:
        """The Dockerfiles in the folders searched whose path fits no pattern of image-paths."""
        above = _folders_above(root)
        return [
            posixpath.join(folder, name)
            for folder, name, path in self._dockerfiles(files)
            if self._place(folder, name, path, above) is None
        ]

    def nothing_found(self, files: Iterable[str], root: Path) -> BadInput:
        """What is said where there is no image: what was looked for, and what looks like a Dockerfile."""
        files = list(files)
        unmatched = self.unmatched(files, root)
        searched = " or ".join(path or "the repository" for path in self.paths)
        what = f"there is no {' or '.join(self.dockerfile_names)} below {searched}"
        if unmatched:
            what = f"{counted(len(unmatched), 'Dockerfile')} below {searched}, but no pattern of image-paths fits"
            return BadInput(what, where="image-paths", hint=f"Write a pattern for the folder of {unmatched[0]}.")
        alike = [file for file in files if is_dockerfile(file.rpartition("/")[2])]
        inside = [file for file in alike if any(not path or file.startswith(f"{path}/") for path in self.paths)]
        if inside:
            hint = f"Did you mean files such as {inside[0]}? Name them with the setting dockerfile-names."
            return BadInput(what, where="dockerfile-names", hint=hint)
        hint = f"Name the folder of {alike[0]} with docker-files-path." if alike else "Write one: aml-images new."
        return BadInput(what, where="docker-files-path", hint=hint)

    def is_dockerfile(self, name: str) -> bool:
        """Whether a file of this name is a Dockerfile here."""
        return self._names.fullmatch(name) is not None and not name.endswith(_COMPANIONS)

    def _dockerfiles(self, files: Iterable[str]) -> Iterable[tuple[str, str, str]]:
        """Folder, file name and path of the image of every Dockerfile."""
        prefixes = tuple(f"{path}/" for path in self.paths)
        everywhere = "" in self.paths
        match_name = self._names.fullmatch
        for file in files:
            folder, _, name = file.rpartition("/")
            match = match_name(name)
            if match and not name.endswith(_COMPANIONS) and (everywhere or file.startswith(prefixes)):
                star = next(filter(None, match.groups()), "")
                yield folder, name, posixpath.join(folder, star) if star else folder

    def _place(self, folder: str, dockerfile: str, path: str, above: tuple[str, str]) -> ImagePlace | None:
        if not self._patterns:
            family, name = (*above, *filter(None, path.split("/")))[-2:]
            return ImagePlace(folder, dockerfile, family, name, {"family": family, "name": name})
        for pattern in self._patterns:
            fields = pattern.match(path, above[-1])
            if fields is not None:
                return ImagePlace(folder, dockerfile, fields["family"], fields["name"], fields)
        return None


def split_paths(docker_files_path: str) -> tuple[str, ...]:
    """The folders of a `docker_files_path`, relative to the repository; the repository itself is an empty text.

    Raises:
        BadInput: One of them is absolute or leaves the repository, or there is none.
    """
    paths = []
    for part in filter(None, (part.strip() for part in docker_files_path.split(";"))):
        path = PurePosixPath(part.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", part):
            raise BadInput(
                f"{part!r} is no folder of the repository",
                where="docker_files_path",
                hint="Write folders relative to the root of the repository.",
            )
        paths.append("" if str(path) == "." else str(path))
    if not paths:
        raise BadInput(
            "docker_files_path is empty",
            where="docker_files_path",
            hint="Name the folder that holds the image folders.",
        )
    return tuple(dict.fromkeys(paths))


def context_folder(context: str, folder: str, *, where: str) -> str:
    """The folder that is the build context of an image, relative to the repository.

    Args:
        context: `folder` for the Dockerfile's own, `repository` for all of it, a path relative to the Dockerfile's
            folder such as `..`, or, with `/` in front, one relative to the repository.
        folder: Of the Dockerfile, relative to the repository.
        where: Who says so, for messages.

    Raises:
        BadInput: It leaves the repository.
    """
    if context == FOLDER:
        return folder
    start = "" if context == REPOSITORY or context.startswith("/") else folder
    below = "" if context == REPOSITORY else context.lstrip("/")
    found = posixpath.normpath(posixpath.join(start, below) or ".")
    if not context or "\\" in context or found == ".." or found.startswith("../"):
        raise BadInput(
            f"the build context {context!r} of {folder or 'the repository'} is no folder of the repository",
            where=where,
            hint="Write folder, repository, a path from the Dockerfile's folder (.., ../..), or /PATH from the root.",
        )
    return "" if found == "." else found


def _folders_above(root: Path) -> tuple[str, str]:
    """What lends a name to images at the top of a repository."""
    resolved = root.resolve()
    return resolved.parent.name, resolved.name


@dataclass(frozen=True, slots=True)
class _ImagePath:
    """A pattern of the paths of images.

    Attributes:
        pattern: What it matches; its groups are the fields.
        paths: Fields that take several folders.
        identity: Family and name as templates; None where the fields or the folders give them.
    """

    pattern: re.Pattern[str]
    paths: frozenset[str]
    identity: tuple[str, str] | None

    @classmethod
    def parse(cls, text: str) -> _ImagePath:
        """Read `PATH` or `PATH = FAMILY/NAME`.

        Raises:
            BadInput: It is written in another way.
        """
        where = f"image-paths {text!r}"
        path, equals, identity = (part.strip() for part in text.partition("="))
        path = path.strip("/")
        fields = [name for name, _ in _FIELD.findall(path)]
        if not path or ".." in path.split("/") or set("{}") & set(_FIELD.sub("", path)):
            raise BadInput("this is no pattern of a path", where=where, hint=_IMAGE_PATH_HINT)
        if len(set(fields)) < len(fields):
            raise BadInput("a field is there twice", where=where, hint=_IMAGE_PATH_HINT)
        if not equals and not {"family", "name"} & set(fields):
            raise BadInput("{name} is missing", where=where, hint=_IMAGE_PATH_HINT)
        return cls(
            re.compile(_path_expression(path)),
            frozenset(name for name, takes_several in _FIELD.findall(path) if takes_several),
            _identity(identity, fields, where) if equals else None,
        )

    def match(self, path: str, above: str) -> dict[str, str] | None:
        """The fields of a path, `family` and `name` among them; None when it is another's.

        Args:
            path: Of an image, relative to the repository.
            above: The folder above the first of the path.
        """
        match = self.pattern.fullmatch(path)
        if match is None:
            return None
        fields = match.groupdict()
        for name in self.paths:
            fields[name] = fields[name].replace("/", SEPARATOR)
        if self.identity is not None:
            family, name = (template.format_map(fields) for template in self.identity)
            return {**fields, "family": family, "name": name}
        if "family" not in fields:
            fields["family"] = path[: match.start("name")].rpartition("/")[0].rpartition("/")[2] or above
        fields.setdefault("name", fields["family"])
        return fields


def _path_expression(path: str) -> str:
    """A pattern as a regular expression: fields, `*` in a folder's name, and `**` for any folders."""
    if path == ".":
        return ""
    pieces = _PIECES.split(path)
    expression = []
    for piece in filter(None, pieces):
        found = _FIELD.fullmatch(piece)
        if found:
            expression.append(f"(?P<{found[1]}>{'.+?' if found[2] else '[^/]+?'})")
        elif piece == "**/":
            expression.append("(?:[^/]+/)*")
        elif piece == "/**":
            expression.append("(?:/[^/]+)*")
        else:
            expression.append("[^/]*" if piece == "*" else re.escape(piece))
    return "".join(expression)


def _identity(text: str, fields: Sequence[str], where: str) -> tuple[str, str]:
    family, slash, name = text.partition("/")
    unknown = [used for used, _ in _FIELD.findall(text) if used not in fields]
    if unknown:
        raise BadInput(f"{{{unknown[0]}}} is no field of the path", where=where, hint=_IMAGE_PATH_HINT)
    if not (slash and family and name) or "/" in name or ":path}" in text or set("{}") & set(_FIELD.sub("", text)):
        raise BadInput("behind = stands no family and name", where=where, hint=_IMAGE_PATH_HINT)
    return family, name


def _dockerfile_names(names: Sequence[str]) -> re.Pattern[str]:
    """Names of Dockerfiles as one expression; a group is what a star stands for."""
    for name in names:
        if not name or "/" in name or name.count("*") > 1 or name == "*":
            raise BadInput(
                f"{name!r} is no name of Dockerfiles",
                where="dockerfile-names",
                hint="Write a file name with at most one star, e.g. Dockerfile, Containerfile, *.Dockerfile.",
            )
    return re.compile("|".join(re.escape(name).replace(r"\*", "(.+)") for name in names) or "(?!)")
