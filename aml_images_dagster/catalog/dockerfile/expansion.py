"""Quotes, escapes and variables in the words of a Dockerfile, as BuildKit's shell lexer reads them.

Source: https://docs.docker.com/reference/dockerfile/#environment-replacement
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_DEPTH = 40
SPACES = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""What Go takes for white space; Python takes some control characters for it, too."""
_SPACES = re.compile(f"[{SPACES}]+")
_NAME = re.compile(r"[0-9]+|[@*#?$!-]|[^\W\d]\w*")
_PLAIN = {escape: re.compile(r"[^'\"$<}/" + re.escape(escape) + "]+") for escape in ("\\", "`")}
_BLANKS = re.compile(r"[ \t]*")


class ExpansionError(ValueError):
    """A word whose quotes or variables cannot be read."""


class MissingValueError(ExpansionError):
    """`${X:?message}` without a value of X, whose name is the attribute `name`."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Expansion:
    """A word after expansion.

    Attributes:
        value: The text with quotes, escapes and variables resolved.
        variables: Names of the variables in the word, in order.
        without_value: Those of them that are unset or empty.
    """

    value: str
    variables: tuple[str, ...]
    without_value: tuple[str, ...]


class EmptyPatternError(ExpansionError):
    """`${X#}`, or `${X#$Y}` where Y has no value that is known."""

    def __init__(self, operator: str) -> None:
        super().__init__(f"no pattern stands behind {operator}: BuildKit in Docker 26 and its engine end at that")


def expand(word: str, variables: Mapping[str, str], escape: str = "\\", *, quotes: bool = True) -> Expansion:
    """Resolve the quotes, escapes and variables of one word.

    Args:
        word: The word.
        variables: Values of variables.
        escape: The escape character.
        quotes: Whether quotes mean anything.

    Raises:
        ExpansionError: Unbalanced quotes, a malformed `${…}`, or `${X:?message}` without a value.
    """
    lexer = _Lexer(word, variables, escape)
    lexer.quotes = quotes
    value = "".join(text for text, _ in lexer.pieces())
    without_value = tuple(name for name in lexer.asked_for if not variables.get(name))
    return Expansion(value, tuple(lexer.asked_for), without_value)


def check_patterns(text: str, variables: Mapping[str, str], escape: str, *, keep_unset: bool) -> None:
    """Make sure that no pattern in a text is empty, `${X#}`; whatever else is wrong with it is passed over.

    For its progress BuildKit expands the whole text of an instruction, also where variables have no meaning.

    Args:
        text: The text.
        variables: Values of variables.
        escape: The escape character.
        keep_unset: Variables without a value stay as they are written, and are no empty pattern.

    Raises:
        EmptyPatternError: One is.
    """
    try:
        _Lexer(text, variables, escape, keep_quoting=keep_unset, keep_unset=keep_unset).pieces()
    except EmptyPatternError:
        raise
    except ExpansionError:
        return


def split_words(text: str, *, keep_quoting: bool, escape: str = "\\") -> list[str]:
    """Split at white space outside quotes; variables stay as they are written.

    Args:
        text: What to split.
        keep_quoting: Leave quotes and escapes in the words.
        escape: The escape character.

    Raises:
        ExpansionError: Unbalanced quotes or a malformed `${…}`.
    """
    words = [""]
    lexer = _Lexer(text, {}, escape, keep_quoting=keep_quoting, keep_unset=True)
    lexer.refuses_empty_patterns = False
    for piece, literal in lexer.pieces():
        if literal:
            words[-1] += piece
            continue
        first, *rest = _SPACES.split(piece)
        words[-1] += first
        words.extend(rest)
    return [word for word in words if word]


class _Lexer:
    """One pass over a text. A piece is a text, and whether white space in it is literal."""

    def __init__(
        self,
        text: str,
        variables: Mapping[str, str],
        escape: str,
        *,
        keep_quoting: bool = False,
        keep_unset: bool = False,
    ) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._plain = _PLAIN[escape]
        self._keep_quoting = keep_quoting
        self._keep_unset = keep_unset
        self._keep_escapes = False
        self.quotes = True
        self.refuses_empty_patterns = True
        self._at = 0
        self._depth = 0
        self.asked_for: dict[str, None] = {}

    def pieces(self, stop: str = "") -> list[tuple[str, bool]]:
        found: list[tuple[str, bool]] = []
        while char := self._peek():
            if char == stop:
                self._at += 1
                return found
            if char == "'" and self.quotes:
                found.append((self._single_quoted(), True))
            elif char == '"' and self.quotes:
                found.append((self._double_quoted(), True))
            elif char == "$":
                found.append((self._variable(), False))
            elif char == self._escape:
                kept = char if self._keep_escapes or self._keep_quoting else ""
                found.append((kept + self._text[self._at + 1 : self._at + 2], True))
                self._at += 2
            elif self._text.startswith("<<", self._at):
                # Newer BuildKit takes blanks between << and the name of a heredoc as part of the word.
                blanks = _BLANKS.match(self._text, self._at + 2)
                end = blanks.end() if blanks else self._at + 2
                found.append((self._text[self._at : end], True))
                self._at = end
            else:
                plain = self._plain.match(self._text, self._at)
                end = plain.end() if plain else self._at + 1
                found.append((self._text[self._at : end], False))
                self._at = end
        if stop:
            raise ExpansionError(f"{stop!r} is missing")
        return found

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise ExpansionError("a single quote is not closed")
        start, self._at = self._at, end + 1
        return self._text[start : end + 1] if self._keep_quoting else self._text[start + 1 : end]

    def _double_quoted(self) -> str:
        quote = '"' if self._keep_quoting else ""
        found = [quote]
        self._at += 1
        while char := self._peek():
            if char == '"':
                self._at += 1
                return "".join(found) + quote
            if char == "$":
                found.append(self._variable())
                continue
            self._at += 1
            if char == self._escape and self._peek() in ('"', "$", self._escape):
                char = (char if self._keep_escapes or self._keep_quoting else "") + self._next()
            found.append(char)
        raise ExpansionError("a double quote is not closed")

    def _variable(self) -> str:
        start = self._at
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._lookup(name)
            return self._text[start : self._at] if value is None and self._keep_unset else value or ""
        self._at += 1
        if self._peek() in ("", "{", "}", ":"):
            raise ExpansionError("bad substitution after '${'")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ExpansionError("variables are nested too deeply")
        name = self._name()
        result = self._braced(name, self._lookup(name))
        self._depth -= 1
        if self._keep_unset and name not in self._variables:
            return self._text[start : self._at]
        return result

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match.group()

    def _lookup(self, name: str) -> str | None:
        self.asked_for[name] = None
        return self._variables.get(name)

    def _word(self, stop: str, *, keep_escapes: bool = False) -> str:
        before, self._keep_escapes = self._keep_escapes, keep_escapes
        word = "".join(text for text, _ in self.pieces(stop))
        self._keep_escapes = before
        return word

    def _braced(self, name: str, value: str | None) -> str:
        """What follows the name in `${name…}`, up to and with the brace."""
        operator = self._next()
        if operator == "}":
            return value or ""
        if operator == "/":
            every = self._peek() == "/"
            self._at += every
            written = self._word("/", keep_escapes=True)
            replacement = self._word("}", keep_escapes=True)
            pattern = _pattern(written)
            if every:
                return pattern.sub(lambda match: _inserted(replacement, match[0]), value or "")
            return pattern.sub(lambda _: replacement, value or "", count=1)
        colon = operator == ":"
        if colon:
            operator = self._next()
        act = _OPERATORS.get(operator)
        if act is None:
            raise ExpansionError(f"'${{{name}' is followed by {operator or 'nothing'!r}, which is no known form")
        word = self._word("}", keep_escapes=operator in "#%")
        if operator in "#%" and not word and self.refuses_empty_patterns:
            raise EmptyPatternError(operator)
        missing = value is None or (colon and value == "")
        return act(name, None if missing else value, word)


def _default(_: str, value: str | None, word: str) -> str:
    return word if value is None else value


def _alternative(_: str, value: str | None, word: str) -> str:
    return "" if value is None else word


def _required(name: str, value: str | None, word: str) -> str:
    if value is None:
        raise MissingValueError(name, word or "it must have a value")
    return value


def _without_prefix(_: str, value: str | None, word: str) -> str:
    value = value or ""
    longest = word.startswith("#")
    pattern = _pattern(word[longest:])
    ends = range(len(value), -1, -1) if longest else range(len(value) + 1)
    return next((value[end:] for end in ends if pattern.fullmatch(value, 0, end)), value)


def _without_suffix(_: str, value: str | None, word: str) -> str:
    value = value or ""
    longest = word.startswith("%")
    pattern = _pattern(word[longest:])
    starts = range(len(value) + 1) if longest else range(len(value), -1, -1)
    return next((value[:start] for start in starts if pattern.fullmatch(value, start)), value)


_OPERATORS: Mapping[str, Callable[[str, str | None, str], str]] = {
    "-": _default,
    "+": _alternative,
    "?": _required,
    "#": _without_prefix,
    "%": _without_suffix,
}


_GLOB = re.compile(r"\\(?P<escaped>.?)|(?P<any>\*+)|(?P<one>\?)|.", re.DOTALL)


def _pattern(glob: str) -> re.Pattern[str]:
    """A shell pattern of `*`, `?` and backslash escapes as a regular expression."""

    def translate(match: re.Match[str]) -> str:
        if match["any"]:
            return ".*"
        if match["one"]:
            return "."
        escaped = match["escaped"]
        if escaped is None:
            return re.escape(match[0])
        if escaped not in ("*", "?", "\\", "}", "/"):
            raise ExpansionError(f"\\{escaped} in a pattern: only * ? \\ }} and / can be escaped")
        return re.escape(escaped)

    return re.compile(_GLOB.sub(translate, glob))


def _inserted(replacement: str, matched: str) -> str:
    """What takes the place of a match: for Go's ReplaceAllString `$0` is the match, and there are no other groups."""

    def translate(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return matched if (match[1] or match[2]) == "0" else ""

    return re.sub(r"\$\$|\$(\w+)|\$\{(\w+)\}", translate, replacement, flags=re.ASCII)


def platform_variables(platform: str, build_args: Mapping[str, str]) -> dict[str, str]:
    """The platform ARGs that BuildKit predefines; see docs.docker.com, "Automatic platform ARGs"."""
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    parts = {"PLATFORM": platform, "OS": system, "ARCH": architecture, "VARIANT": variant}
    variables = {f"{role}{part}": value for role in ("BUILD", "TARGET") for part, value in parts.items()}
    return {name: build_args.get(name, value) for name, value in variables.items()}
