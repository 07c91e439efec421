"""What is in an image: packages, the distribution, and files that no package knows.

Read from the layers in a registry: nothing of the image runs, and no engine is asked.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aml_images_dagster.http_connection import time_limit
from aml_images_dagster.licences import expression
from aml_images_dagster.registry.oci import read_manifest
from aml_images_dagster.registry.platforms import platform_of
from aml_images_dagster.text import printable_line
from aml_images_dagster.trust.file_tree import MOST_NODES, File, FileTree, Link, TooManyFiles
from aml_images_dagster.trust.packages import DISTRIBUTIONS, TEXT, Document, Package
from aml_images_dagster.trust.packages.deb import copyright_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from aml_images_dagster.catalog.image_file import Content
    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.trust.layer_records import Change, LayerRecords

DECLARED = "image.json"
"""Where the licence of a declared content comes from."""
MOST_UNOWNED = 200
"""Paths of files of no package that are listed."""
_MOST_UNREAD = 100
_COMMON_LICENCES, _RPM_LICENCES = "usr/share/common-licenses/", "usr/share/licenses/"
_SECONDS = 3600
_STATE = re.compile(
    r"(?:dev|etc|proc|run|sys|tmp|var/(?:backups|cache|lib|log|mail|run|spool|tmp))(?:/.*)?"
    r"|(?:.*/)?(?:__pycache__(?:/.*)?|[^/]*\.pyc|conda-meta/history|\.dockerenv)"
    r"|usr/share/(?:info/dir|mime/.*|icons/[^/]*/icon-theme\.cache|glib-2\.0/schemas/gschemas\.compiled)"
    r"|usr/lib/(?:locale/locale-archive|[^/]+/gconv/gconv-modules\.cache|[^/]+/gdk-pixbuf-2\.0/.*\.cache)",
    re.DOTALL,
)
"""Configuration, state, and what the scripts of packages compute from files of packages."""


@dataclass(frozen=True, slots=True)
class Unowned:
    """A file that no package knows, or a folder of nothing else.

    Attributes:
        path: From the root of the image; that of a folder ends with a slash.
        files: How many files it is.
    """

    path: str
    files: int


@dataclass(frozen=True, slots=True)
class LicenceText:
    """The text of a licence, or of the notices that come with it.

    Attributes:
        text: The text.
        of: Whose it is: packages by type, name and version, or a file that texts of Debian refer to.
    """

    text: str
    of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is in an image of one platform.

    Attributes:
        digest: Its digest.
        platform: `linux/amd64`.
        created: When its configuration says that it was made, UTC; 1970 when it does not say.
        distribution: Values of os-release, by their names there; empty without one.
        packages: What is installed and declared, sorted.
        files: How many files it has; 0 when these are too many to be counted.
        unowned: Files that no package knows, without configuration and state; not all if these are many.
        unowned_files: How many these are.
        unread: What could not be read, and why; with this something may be missing above.
        texts: The texts of licences in the image, each once; empty where they were not asked for.
    """

    digest: str
    platform: str
    created: datetime
    distribution: Mapping[str, str]
    packages: tuple[Package, ...]
    files: int
    unowned: tuple[Unowned, ...]
    unowned_files: int
    unread: tuple[str, ...]
    texts: tuple[LicenceText, ...] = field(default=(), repr=False)

    def document(self) -> dict[str, Any]:
        """The inventory for programs, without texts."""
        document = asdict(replace(self, texts=())) | {
            "created": self.created.isoformat(),
            "packages": [{"purl": str(package.purl), **package.written()} for package in self.packages],
        }
        del document["texts"]
        return document


def read_inventory(
    registry: Registry,
    image: Reference,
    records: LayerRecords,
    contents: Sequence[Content] = (),
    *,
    with_texts: bool = False,
) -> Inventory:
    """Read what is in an image of one platform.

    Args:
        registry: Where it is.
        image: The image, by digest.
        records: Records of layers that were read before.
        contents: What image.json declares to be in it.
        with_texts: Read the texts of licences as well, which are a megabyte or so.

    Raises:
        BadInput: There is no such image, or it is an index of several platforms.
        Unreachable: The registry does not answer, or serves something else than it promised.
    """
    config = registry.config(image)
    manifest = registry.manifest(image)
    assert manifest is not None  # noqa: S101 - its configuration was there
    tree = FileTree()
    unread: list[str] = []
    is_whole = True
    with time_limit(_SECONDS):
        for layer in read_manifest(manifest).get("layers", ()):
            if layer.get("urls"):  # a Windows base is in the registry of Microsoft alone
                unread.append(f"layer {layer['digest']}: it is not in this registry")
                continue
            with records.changes(registry, image.repository, layer["digest"]) as changes:
                is_whole = is_whole and _apply(changes, tree, unread)
    if not is_whole:
        unread.append(f"more than {MOST_NODES:,} files and folders: what comes after these was not read")
    distribution = _distribution(tree)
    packages = [*_packages(tree, distribution), *_declared(tree, contents, unread)]
    unowned, unowned_files, files = _unowned(tree)
    return Inventory(
        digest=manifest.digest,
        platform=platform_of(config),
        created=_created(config),
        distribution=distribution,
        packages=tuple(
            sorted(packages, key=lambda package: (package.type, package.name, package.version, package.location))
        ),
        files=files if is_whole else 0,
        unowned=unowned,
        unowned_files=unowned_files,
        unread=tuple(dict.fromkeys(unread))[:_MOST_UNREAD],
        texts=_texts(tree, packages) if with_texts else (),
    )


def _apply(changes: Iterable[Change], tree: FileTree, unread: list[str]) -> bool:
    """Apply a layer; False when the tree had no room for all of it."""
    tree.begin_layer()
    try:
        for change in changes:
            match change.what:
                case "file":
                    tree.add(change.path, File(_with_room(change, tree, unread)))
                case "folder":
                    tree.add_folder(change.path)
                case "link":
                    tree.add(change.path, Link(change.target))
                case "hard_link":
                    tree.add_hard_link(change.path, change.target)
                case "remove":
                    tree.remove(change.path)
                case "empty":
                    tree.empty(change.path)
                case "unread":
                    unread.append(change.target)
    except TooManyFiles:
        return False
    return True


def _with_room(change: Change, tree: FileTree, unread: list[str]) -> Document | None:
    """The document of a file, while there is room for one."""
    if change.document is None or tree.has_room(change.document):
        return change.document
    unread.append(f"{printable_line(change.path)}: the image has more lists of files than fit")
    return None


def _distribution(tree: FileTree) -> dict[str, str]:
    for path in ("etc/os-release", "usr/lib/os-release"):
        file = tree.file(path)
        if file and file.document:
            return dict(file.document.facts)
    return {}


def _packages(tree: FileTree, distribution: Mapping[str, str]) -> Iterator[Package]:
    """What is installed; notes on the way which files belong to it."""
    namespace = distribution.get("ID", "")
    release = "-".join(filter(None, (namespace, distribution.get("VERSION_ID", ""))))
    documents = [
        (path, node, node.document)
        for path, node in tree.nodes()
        if isinstance(node, File) and node.document and node.document.kind != TEXT and not _is_in_cache_of_conda(path)
    ]
    # What a package of a distribution brings is that package: known before Python's packages are looked at. What one of
    # conda brings is both: advisories for conda are few, and name the package of Python.
    for _, _, document in documents:
        if not document.files_below:
            tree.own(document.files)
    brought = {path for path, file, document in documents if document.kind == "pypi" and file.is_owned}
    for path, file, document in documents:
        file.is_owned = True
        tree.own(_absolute(path, document))
        for package in () if path in brought else document.packages:
            found = replace(package, location=path)
            yield _of_distribution(found, tree, namespace, release) if package.type in DISTRIBUTIONS else found


def _is_in_cache_of_conda(path: str) -> bool:
    """Whether a file is where conda keeps what it has unpacked; what is installed are links to it."""
    return any(
        folder == "pkgs" and below.count("-") > 1  # name, version and build
        for folder, below in itertools.pairwise(path.split("/")[:-1])
    )


def _absolute(path: str, document: Document) -> Iterator[str]:
    """The files that a document names relative to itself."""
    if document.files_below:
        around = "/".join(path.split("/")[: -document.files_below])
        for file in document.files:
            yield posixpath.normpath(posixpath.join("/", around, file)).lstrip("/")


def _of_distribution(package: Package, tree: FileTree, namespace: str, release: str) -> Package:
    qualifiers = (*package.qualifiers, ("distro", release)) if release else package.qualifiers
    package = replace(package, namespace=namespace, qualifiers=qualifiers)
    file = tree.file(copyright_of(package.name)) if package.type == "deb" else None
    facts = file.document.facts if file and file.document else {}
    return (
        replace(package, licence=facts.get("licence", ""), licence_origin=facts.get("origin", "")) if facts else package
    )


def _declared(tree: FileTree, contents: Iterable[Content], unread: list[str]) -> Iterator[Package]:
    for content in contents:
        path = content.path.strip("/")
        if path and not tree.own_all(path):
            unread.append(f"image.json declares {content.name} at /{path}, where the image has nothing")
        yield Package(
            content.type,
            content.name,
            content.version,
            licence=expression(content.licence),
            licence_origin=DECLARED,
            location=path,
            comment=content.reason,
        )


def _texts(tree: FileTree, packages: Iterable[Package]) -> tuple[LicenceText, ...]:
    """Texts of licences that are in the image, each once, whatever its blanks are."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    found: list[tuple[str, str]] = []
    for path, node in tree.nodes():
        if isinstance(node, File) and node.document and node.document.kind == TEXT:
            text = node.document.facts.get("text", "")
            if path.startswith(_COMMON_LICENCES):
                found.append((text, f"/{path}"))
            else:
                by_folder[_folder_of_texts(path)].append(text)
    for package in packages:
        whose = f"{package.type} {package.name} {package.version}"
        file = tree.file(copyright_of(package.name)) if package.type == "deb" else None
        if file and file.document:
            found.append((file.document.facts.get("text", ""), whose))
        folder = f"{_RPM_LICENCES}{package.name}" if package.type == "rpm" else posixpath.dirname(package.location)
        found += [(text, whose) for text in by_folder.get(folder, ())]
    texts: dict[str, str] = {}
    of: dict[str, set[str]] = defaultdict(set)
    for text, whose in found:
        words = " ".join(text.split())
        if words:
            texts.setdefault(words, text)
            of[words].add(whose)
    return tuple(
        sorted(
            (LicenceText(text.strip("\n"), tuple(sorted(of[words]))) for words, text in texts.items()),
            key=lambda each: each.of,
        )
    )


def _folder_of_texts(path: str) -> str:
    """The folder that says whose a text is: that of `.dist-info`, or that of a package of RPM."""
    if path.startswith(_RPM_LICENCES):
        return "/".join(path.split("/")[:4])
    return path[: path.rindex(".dist-info/")] + ".dist-info"


def _unowned(tree: FileTree) -> tuple[tuple[Unowned, ...], int, int]:
    """Files of no package, folders of nothing else as one; how many; and how many files there are in all."""
    folders: set[str] = set()
    loose = []
    count = 0
    for path, node in tree.nodes():
        if not isinstance(node, File):
            continue
        count += 1
        if node.is_owned:
            folder = posixpath.dirname(path)
            while folder and folder not in folders:
                folders.add(folder)
                folder = posixpath.dirname(folder)
        elif not _STATE.fullmatch(path):
            loose.append(path)
    groups = Counter(_group(path, folders) for path in loose)
    largest = sorted(groups.items(), key=lambda group: (-group[1], group[0]))[:MOST_UNOWNED]
    return tuple(Unowned(path, files) for path, files in sorted(largest)), len(loose), count


def _group(path: str, owned_folders: set[str]) -> str:
    """The highest folder around a file in which no package has a file; not one of the root, which say nothing."""
    parts = path.split("/")
    for depth in range(2, len(parts)):
        folder = "/".join(parts[:depth])
        if folder not in owned_folders:
            return f"{folder}/"
    return path


def _created(config: Mapping[str, Any]) -> datetime:
    try:
        created = datetime.fromisoformat(str(config.get("created")))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    # Without a fraction of a second: SPDX has none.
    return created.replace(microsecond=0, tzinfo=created.tzinfo or UTC).astimezone(UTC)
