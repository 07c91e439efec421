"""The leak check: finds what must not become public before it is pushed.

It fails closed: a file that can't be read as text, a scanner that does not find a planted key, or a doubtful
line stops the publication. No finding shows a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile import copy_sources
from aml_images_dagster.catalog.image import (
    DOCKERFILE,
    LICENSE_FILE,
    NOTICES_FILE,
)
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.open_source.secret_scan import ALLOWED, find_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.tree import Tree
    from aml_images_dagster.open_source.public_part import PublicFile, PublicPart
    from aml_images_dagster.settings import Settings

_SHORTEST_PRIVATE_LINE = 8
_SAY_SO = f"say so in a line of its own above: # {ALLOWED}"


@dataclass(frozen=True, slots=True, order=True)
class Leak:
    """A finding that must not become public.

    Attributes:
        path: The file, by the name that it would have in the public repository.
        line: Counted from 1; 0 when it is about the file as a whole.
        what: What was found.
        hint: What to do about it.
    """

    path: str
    line: int
    what: str
    hint: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.what}. {self.hint}"


@dataclass(frozen=True, slots=True)
class LeakRules:
    """What must not become public.

    Attributes:
        internal_names: Patterns of internal names.
        public_hosts: Hosts that are none, whatever a pattern says: images are published there.
        private_lines: Lines of all Dockerfile.private, however they are wrapped; where each stands.
        binary_files: Patterns of files that may be published although they are not text.
    """

    internal_names: tuple[re.Pattern[str], ...]
    public_hosts: frozenset[str]
    private_lines: Mapping[re.Pattern[str], str]
    binary_files: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings, catalog: Catalog, tree: Tree) -> LeakRules:
        """The rules of a team: its patterns, the hosts that its settings name, its private Dockerfiles."""
        places = (settings.staging_registry, settings.production_registry, *settings.base_mirrors.values())
        public = {name.partition("/")[0] for name in (*settings.published_as, settings.release.public_names)}
        hosts = {place.partition("/")[0] for place in places} - public
        account = settings.azure.storage_account
        if account:
            hosts.add(account if "." in account else f"{account}.blob.")
        patterns = [re.escape(host) for host in sorted(hosts)]
        patterns += settings.open_source.internal_name_patterns
        private: dict[re.Pattern[str], str] = {}
        for image in catalog.every_image():
            path = image.private_path
            if path in tree.files():
                text = tree.read(path).decode("utf-8", "replace")
                for number, line in enumerate(text.splitlines(), 1):
                    bare = _bare(line)
                    if len(bare) >= _SHORTEST_PRIVATE_LINE:
                        private.setdefault(_however_wrapped(bare), f"{path}:{number}")
        return cls(
            tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns),
            frozenset(public),
            private,
            settings.open_source.binary_files,
        )


def check_for_leaks(files: Mapping[str, PublicFile], rules: LeakRules) -> list[Leak]:
    """Check everything that would be published.

    Args:
        files: The files by the names that they would have in the public repository.
        rules: What must not become public.

    Returns:
        Findings, sorted; none when everything may be published.

    Raises:
        BadInput: The scanner for secrets does not work.
    """
    leaks: list[Leak] = []
    texts: dict[str, str] = {}
    for path, file in files.items():
        leaks += _internal_names(path, [path], rules, whole_file=True)
        if file.mode is FileMode.SYMLINK:
            leaks.append(Leak(path, 0, "a symbolic link", "Put the file itself into the image folder."))
        text = _text(file.content)
        if text is None:
            if not any(fnmatchcase(path, pattern) for pattern in rules.binary_files):
                hint = "Its content cannot be checked: leave it out, or name it in open_source.binary_files."
                leaks.append(Leak(path, 0, "a binary file", hint))
            continue
        texts[path] = text
        leaks += _internal_names(path, text.splitlines(), rules)
        leaks += _private_lines(path, text, rules)
    hint = f"Remove it and revoke it: it is in the history of this repository. If it is not a secret, {_SAY_SO}"
    leaks += [Leak(secret.path, secret.line, secret.kind, hint) for secret in find_secrets(texts)]
    return sorted(set(leaks))


def private_files(part: PublicPart, folder: str) -> list[Leak]:
    """Files that Dockerfile.private copies as well: they may have come along with a folder or a pattern.

    Args:
        part: The public part of an image.
        folder: Its folder in the public repository.
    """
    image = part.image
    if image.public_lines is None or image.parsed is None:
        return []
    sources = copy_sources(image.parsed, image.settings.build_args, image.platforms, on_any_builder=True)
    private = [source for source in sources if source.line > image.public_lines]
    candidates = [name for name in part.files if name not in (DOCKERFILE, LICENSE_FILE, NOTICES_FILE)]
    copied = [
        Leak(
            f"{folder}/{name}",
            0,
            f"Dockerfile.private copies it as well (line {source.line - image.public_lines})",
            "Let the public COPY name its files one by one, without this one; or let only the public one copy it.",
        )
        for source in private
        for name in source.matches(candidates)
    ]
    perhaps = [
        Leak(
            f"{folder}/{candidates[0]}",
            0,
            f"Dockerfile.private may copy it as well (line {source.line - image.public_lines}): "
            f"the value of {source.written} is not known here",
            "Name the file there without a variable of the base or of the builder.",
        )
        for source in private
        if source.pattern is None and candidates
    ]
    return copied + perhaps


def _text(content: bytes) -> str | None:
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _bare(line: str) -> str:
    """A line without what only joins it to others: a command is the same in another place of a RUN."""
    joined = " ".join(line.split())
    return re.sub(r"^(?:RUN |&& |# ?)+|[\\`]$", "", joined, flags=re.IGNORECASE).strip()


def _however_wrapped(line: str) -> re.Pattern[str]:
    """A line, with any blanks, line ends and escapes of line ends between its words."""
    return re.compile(r"[\s\\`]+".join(map(re.escape, line.split())))


def _internal_names(path: str, lines: Iterable[str], rules: LeakRules, *, whole_file: bool = False) -> Iterator[Leak]:
    hint = "Use a public name, move the line to Dockerfile.private, or fetch from a public address."
    for number, line in enumerate(lines, 1):
        names = {found.group() for pattern in rules.internal_names for found in pattern.finditer(line)}
        for name in names - rules.public_hosts:
            yield Leak(path, 0 if whole_file else number, f"the internal name {name!r}", hint)


def _private_lines(path: str, text: str, rules: LeakRules) -> Iterator[Leak]:
    hint = "Remove it here, or from Dockerfile.private if it is meant to be public."
    for private, where in rules.private_lines.items():
        for found in private.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Leak(path, line, f"a line of Dockerfile.private ({where})", hint)
