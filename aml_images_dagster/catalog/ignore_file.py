""".dockerignore, as the builder reads it.

https://docs.docker.com/build/concepts/context/#dockerignore-files; in code https://github.com/moby/patternmatcher, that
both builders and their clients use.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile import SPACES
from aml_images_dagster.catalog.globs import GlobError, path_matcher
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_LINE = 65_535

_NOTHING: tuple[bool, ...] = ()


class IgnoreFile:
    """What a .dockerignore leaves out of the context.

    Args:
        content: The file.
        path: Its name in messages.

    Raises:
        BadInput: The builder refuses it.
    """

    def __init__(self, content: bytes = b"", path: str = ".dockerignore") -> None:
        self._patterns: list[tuple[bool, Callable[[str], bool]]] = []
        """Whether it is an exception, and what it matches."""
        for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            where = f"{path}:{number}"
            if len(line) > _LONGEST_LINE:
                raise BadInput(f"the line has more than {_LONGEST_LINE:,} bytes", where=where, hint="Divide it.")
            written = line.decode("utf-8", "surrogateescape")
            if written.startswith("#") or not written.strip(SPACES):
                continue
            try:
                self._patterns.append(_pattern(written.strip(SPACES)))
            except GlobError as error:
                raise BadInput(
                    f"{written.strip(SPACES)!r} is no pattern: {error}",
                    where=where,
                    hint="The builder reads no context with it; see the documentation of .dockerignore.",
                ) from None
        self._known: dict[str, tuple[bool, tuple[bool, ...]]] = {}

    def ignores(self, path: str) -> bool:
        """Whether a file or folder of the context is left out. Its folder being left out does not say so."""
        return bool(self._patterns) and self._match(path)[0]

    def _match(self, path: str) -> tuple[bool, tuple[bool, ...]]:
        """Whether it is left out, and which of the patterns match it or a folder above.

        A pattern is tried only where it would change something, and its answer for a folder is kept for what is inside:
        an exception that came too early for the folder is too early for its files.
        """
        folder = path.rpartition("/")[0]
        above = _NOTHING
        if folder:
            if folder not in self._known:
                self._known[folder] = self._match(folder)
            above = self._known[folder][1]
        ignored = False
        matching = []
        for index, (is_exception, matches) in enumerate(self._patterns):
            is_match = bool(above and above[index]) or (is_exception is ignored and matches(path))
            matching.append(is_match)
            if is_match:
                ignored = not is_exception
        return ignored, tuple(matching)


def _pattern(written: str) -> tuple[bool, Callable[[str], bool]]:
    is_exception = written.startswith("!")
    text = written[is_exception:].strip(SPACES)
    if not text:
        raise GlobError("nothing stands behind !")
    if text.startswith("/"):
        text = posixpath.normpath("/" + text.lstrip("/"))[1:] or "/"
        if is_exception and text == "/":
            raise GlobError("only the whole context stands behind !")
    else:
        text = posixpath.normpath(text)
    return is_exception, path_matcher(text)
