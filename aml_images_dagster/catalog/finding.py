"""A remark about an image folder, made while reading or validating it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One remark. The fields, in this order, are what `validate --json` prints.

    Attributes:
        image: `<family>/<image name>`.
        severity: An image with an error is not built; a warning is only shown.
        message: What is wrong, and where it helps how to mend it.
        path: The file or folder, relative to the repository.
        line: Line in the file, counted from 1; None when the remark is about the file as a whole.
    """

    image: str
    severity: Severity
    message: str
    path: str
    line: int | None = None

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.severity}: {self.message}"
