"""The leak check: what must not become public is found before it is pushed.

It fails closed: a file that can't be read as text, a scanner that does not find what was planted for it, or a doubtful
line stops the publication. No finding shows a secret.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile import copy_sources
from aml_images_dagster.catalog.image import (
    DOCKERFILE,
    LICENSE_FILE,
    NOTICES_FILE,
    PRIVATE_DOCKERFILE,
)
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aml_images_dagster.catalog.catalogue import Catalogue
    from aml_images_dagster.catalog.tree import Tree
    from aml_images_dagster.open_source.public_part import PublicFile, PublicPart
    from aml_images_dagster.settings import Settings

_SHORTEST_PRIVATE_LINE = 8
# Checksums have to be published. What is as long as one, in a line that calls it one, is no secret.
_CHECKSUM_LENGTHS = frozenset({32, 40, 56, 64, 96, 128})
_CALLED_CHECKSUM = re.compile(r"sha-?\d|checksum|digest|hash|md5", re.IGNORECASE)
# detect-secrets wants quotes around passwords, which ENV and ARG seldom have.
_NAME = r"\w*(?:passw(?:or)?d|secret|token|api_?key|access_?key|account_?key)\w*"
_VALUE = r"(?!['\"]*(?:\s|$|\$))\S{4,}"
_ASSIGNMENT = re.compile(rf"(?:\b{_NAME}=|^\s*(?:ENV|ARG)\s+{_NAME}\s+){_VALUE}", re.IGNORECASE)
_FILTERS = (
    "allowlist.is_line_allowlisted",
    "heuristic.is_indirect_reference",
    "heuristic.is_not_alphanumeric_string",
    "heuristic.is_potential_uuid",
    "heuristic.is_prefixed_with_dollar_sign",
    "heuristic.is_sequential_string",
    "heuristic.is_templated_secret",
)


@dataclass(frozen=True, slots=True, order=True)
class Leak:
    """Something that must not become public.

    Attributes:
        path: The file, by the name that it would have in the public repository.
        line: Counted from 1; 0 when it is about the file as a whole.
        what: What was found.
        mend: What to do about it.
    """

    path: str
    line: int
    what: str
    mend: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.what}. {self.mend}"


@dataclass(frozen=True, slots=True)
class LeakRules:
    """What must not become public.

    Attributes:
        internal_names: Patterns of internal names.
        private_lines: Lines of all Dockerfile.private, by their text without blanks around; where each stands.
        binary_files: Patterns of files that may be published although they are not text.
    """

    internal_names: tuple[re.Pattern[str], ...]
    private_lines: Mapping[str, str]
    binary_files: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings, catalogue: Catalogue, tree: Tree) -> LeakRules:
        """The rules of a team: its patterns, the hosts that its settings name, its private Dockerfiles."""
        places = (settings.staging_registry, settings.production_registry, *settings.base_mirrors.values())
        public = {pattern.partition("/")[0] for pattern in settings.published_as}
        hosts = {place.partition("/")[0] for place in places} - public
        patterns = [re.escape(host) for host in sorted(hosts)]
        patterns += settings.open_source.internal_name_patterns
        private: dict[str, str] = {}
        for image in catalogue.folders():
            path = image.file(PRIVATE_DOCKERFILE)
            if path in tree.files():
                text = tree.read(path).decode("utf-8", "replace")
                for number, line in enumerate(text.splitlines(), 1):
                    bare = _bare(line)
                    if len(bare) >= _SHORTEST_PRIVATE_LINE:
                        private.setdefault(bare, f"{path}:{number}")
        return cls(
            tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns),
            private,
            settings.open_source.binary_files,
        )


def check_for_leaks(files: Mapping[str, PublicFile], rules: LeakRules) -> list[Leak]:
    """Look through everything that would be published.

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
                mend = "Nobody can see what is in it: leave it out, or name it in open_source.binary_files."
                leaks.append(Leak(path, 0, "a binary file", mend))
            continue
        texts[path] = text
        lines = text.splitlines()
        leaks += _internal_names(path, lines, rules)
        leaks += _private_lines(path, lines, rules)
        leaks += _assignments(path, lines)
    leaks += _secrets(texts)
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
    private = [
        source for source in copy_sources(image.parsed, image.settings.build_args) if source.line > image.public_lines
    ]
    candidates = [name for name in part.files if name not in (DOCKERFILE, LICENSE_FILE, NOTICES_FILE)]
    return [
        Leak(
            f"{folder}/{name}",
            0,
            f"Dockerfile.private copies it, too (line {source.line - image.public_lines})",
            "Let the public COPY name its files one by one, without this one; or let only the public one copy it.",
        )
        for source in private
        for name in source.matches(candidates)
    ]


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


def _internal_names(path: str, lines: Iterable[str], rules: LeakRules, *, whole_file: bool = False) -> Iterator[Leak]:
    mend = "Use a public name, move the line to Dockerfile.private, or fetch from a public address."
    for number, line in enumerate(lines, 1):
        for pattern in rules.internal_names:
            found = pattern.search(line)
            if found:
                yield Leak(path, 0 if whole_file else number, f"the internal name {found.group()!r}", mend)


def _private_lines(path: str, lines: Iterable[str], rules: LeakRules) -> Iterator[Leak]:
    for number, line in enumerate(lines, 1):
        bare = " ".join(line.split())
        for private, where in rules.private_lines.items():
            if private in bare:
                mend = "Remove it here, or there if it is for everybody."
                yield Leak(path, number, f"a line of Dockerfile.private ({where})", mend)


_ALLOWED = "pragma: allowlist nextline secret"
_MEND_SECRET = (
    "Remove it and revoke it: it is in the history of this repository. If it is none, "
    f"say so in a line of its own above: # {_ALLOWED}"
)


def _assignments(path: str, lines: Iterable[str]) -> Iterator[Leak]:
    before = ""
    for number, line in enumerate(lines, 1):
        allowed, before = _ALLOWED in before, line
        if _ASSIGNMENT.search(line) and not allowed:
            yield Leak(path, number, "a value for what is called a password, a key or a token", _MEND_SECRET)


def _secrets(texts: Mapping[str, str]) -> list[Leak]:
    """Ask detect-secrets, with all of its detectors; whether they work is tried with a planted key first."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import transient_settings

    detectors: dict[str, type] = get_mapping_from_secret_type_to_class()
    configuration = {
        "plugins_used": [{"name": detector.__name__} for detector in detectors.values()],
        "filters_used": [{"path": f"detect_secrets.filters.{name}"} for name in _FILTERS],
    }
    leaks = []
    with tempfile.TemporaryDirectory(prefix="aml-images-leak-check-") as folder, transient_settings(configuration):
        file = Path(folder) / "text"
        file.write_text("key AKIA" + "QZ7W" * 4)
        if not list(scan_file(str(file))):
            raise BadInput("the scanner for secrets does not find a planted key", mend="Install detect-secrets anew.")
        for path, text in texts.items():
            # The scanner skips what it can't decode, and splits lines at "\n" alone.
            lines = text.splitlines()
            file.write_text("\n".join(line.encode("ascii", "backslashreplace").decode() for line in lines) + "\n")
            for secret in scan_file(str(file)):
                value, line = secret.secret_value or "", lines[secret.line_number - 1]
                if len(value) in _CHECKSUM_LENGTHS and _CALLED_CHECKSUM.search(line) and _is_hexadecimal(value):
                    continue
                leaks.append(Leak(path, secret.line_number, f"a secret ({secret.type})", _MEND_SECRET))
    return leaks


def _is_hexadecimal(value: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]+", value) is not None
