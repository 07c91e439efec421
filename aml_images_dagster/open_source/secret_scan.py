"""The scan for secrets in texts that would be published.

It runs all detectors of detect-secrets, and detectors for what those leave out: values without quotes, as Dockerfiles,
shells and configuration files have them, and tokens of Azure and GitHub.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ALLOWED = "pragma: allowlist nextline secret"
"""In a line of its own, lets the next one through."""

# Checksums have to be published. What is as long as one, in a line that calls it one, is no secret.
_CHECKSUM_LENGTHS = frozenset({32, 40, 56, 64, 96, 128})
_CALLED_CHECKSUM = re.compile(r"sha-?\d|checksum|digest|hash|md5", re.IGNORECASE)

# A minified file may be one line of megabytes, so no pattern may look twice at the same characters: `++` and `*+` give
# nothing back, and what follows the word that counts, the last one of a name, holds no other.
_WORD = (
    r"(?:passw(?:or)?d|passphrase|secret|credential|token|(?:api|auth|access|account)_?key|connection_?string"
    r"|_(?:pwd|pass|pat|sas)(?![a-z]))"
)
_END_OF_NAME = rf"{_WORD}(?:(?!{_WORD})\w)*+"
_NAME = rf"(?:(?:(?!{_WORD})[\w-])*+{_WORD})++(?:(?!{_WORD})\w)*+"
_VALUE = r"(?!['\"]*(?:\s|$|\$))\S{4,}"
_CALLED_SECRET = "a value named like a password, a key or a token"  # noqa: S105
# In source code such a line is more often a call than a value; detect-secrets finds what is quoted there.
_CONFIGURED = re.compile(rf"^\s*['\"]?{_NAME}['\"]?\s*[:=]\s*{_VALUE}", re.IGNORECASE)
_FOUND_BY_LINE = {
    _CALLED_SECRET: re.compile(
        rf"{_END_OF_NAME}={_VALUE}|^\s*(?:ENV|ARG)\s+{_NAME}\s+{_VALUE}|\s--{_NAME}\s+{_VALUE}"
        rf"|\blogin\s+\S+\s+password\s+{_VALUE}",
        re.IGNORECASE,
    ),
    "a login": re.compile(
        rf"\bauthorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer|token)\s+{_VALUE}"
        rf"|^(?>.*?\bcurl\b).*\s(?:-u|--user)[\s=]*+(?:[^\s:$]++|(?<==)):{_VALUE}",
        re.IGNORECASE,
    ),
    "a signed address": re.compile(r"[?&]sig=[\w%+/-]{16,}", re.IGNORECASE),
    # Source: https://github.blog/changelog/2022-10-18-introducing-fine-grained-personal-access-tokens
    "a token of GitHub": re.compile(r"\bgithub_pat_\w{20,}"),
    # Source: https://learn.microsoft.com/purview/sit-defn-azure-ad-client-secret
    "a client secret of Entra ID": re.compile(r"[\w~.-]{3}\dQ~[\w~.-]{31,34}"),
}
_LONG_GAP = re.compile(r"(\s{100})\s+")
_FILTERS = (
    "allowlist.is_line_allowlisted",
    "heuristic.is_indirect_reference",
    "heuristic.is_not_alphanumeric_string",
    "heuristic.is_potential_uuid",
    "heuristic.is_prefixed_with_dollar_sign",
    "heuristic.is_sequential_string",
    "heuristic.is_templated_secret",
)


@dataclass(frozen=True, slots=True)
class Secret:
    """What looks like a secret; never the secret itself.

    Attributes:
        path: The text that it is in.
        line: Counted from 1.
        kind: What it looks like.
    """

    path: str
    line: int
    kind: str


def find_secrets(texts: Mapping[str, str]) -> list[Secret]:
    """Look for secrets in texts; one for each line.

    Args:
        texts: By their path, which distinguishes configuration from source code.

    Raises:
        BadInput: The scanner does not find what was planted for it.
    """
    found = (*_by_line(texts), *_by_detect_secrets(texts))
    return list({(secret.path, secret.line): secret for secret in found}.values())


def _by_line(texts: Mapping[str, str]) -> Iterator[Secret]:
    for path, text in texts.items():
        looked_for = [*_FOUND_BY_LINE.items(), *([] if _is_source_code(path) else [(_CALLED_SECRET, _CONFIGURED)])]
        before = ""
        for number, line in enumerate(text.splitlines(), 1):
            allowed, before = ALLOWED in before, line
            if not allowed:
                yield from (Secret(path, number, kind) for kind, pattern in looked_for if pattern.search(line))


def _by_detect_secrets(texts: Mapping[str, str]) -> Iterator[Secret]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import transient_settings

    detectors: dict[str, type] = get_mapping_from_secret_type_to_class()
    configuration = {
        "plugins_used": [{"name": detector.__name__} for detector in detectors.values()],
        "filters_used": [{"path": f"detect_secrets.filters.{name}"} for name in _FILTERS],
    }
    with tempfile.TemporaryDirectory(prefix="aml-images-secret-scan-") as folder, transient_settings(configuration):
        planted = Path(folder) / "planted"
        planted.write_text("key AKIA" + "QZ7W" * 4)
        if not list(scan_file(str(planted))):
            raise BadInput("the scanner for secrets does not find a planted key", hint="Install detect-secrets again.")
        for path, text in texts.items():
            # In what it takes for a configuration, by its name, it also finds values without quotes.
            file = Path(folder) / f"text{PurePosixPath(path).suffix if _is_source_code(path) else '.conf'}"
            # It skips what it can't decode, splits lines at "\n" alone, and takes hours over a megabyte of blanks.
            lines = [_LONG_GAP.sub(r"\1", line) for line in text.splitlines()]
            file.write_text("\n".join(line.encode("ascii", "backslashreplace").decode() for line in lines) + "\n")
            for secret in scan_file(str(file)):
                value, line = secret.secret_value or "", "".join(lines[secret.line_number - 1 : secret.line_number])
                if not (_is_checksum(value) and _CALLED_CHECKSUM.search(line)):
                    yield Secret(path, secret.line_number, f"a secret ({secret.type})")


def _is_source_code(path: str) -> bool:
    from detect_secrets.util.filetype import determine_file_type

    return determine_file_type(path).name not in ("OTHER", "EXAMPLE", "YAML", "CONFIG", "INI", "PROPERTIES", "TOML")


def _is_checksum(value: str) -> bool:
    return len(value) in _CHECKSUM_LENGTHS and re.fullmatch(r"[0-9a-fA-F]+", value) is not None
