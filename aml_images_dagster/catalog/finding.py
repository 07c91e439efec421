"""A remark about an image folder, made while reading or validating it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One remark. `document` is what `validate --json` prints.

    Attributes:
        image: `<family>/<image name>`.
        severity: An error has to be fixed; a warning is only shown.
        message: What is wrong, and where it helps how to fix it.
        path: The file or folder, relative to the repository.
        line: Line in the file, counted from 1; None when the remark is about the file as a whole.
        stops_build: Whether an error keeps the image from being built; the others keep its source from being
            published.
    """

    image: str
    severity: Severity
    message: str
    path: str
    line: int | None = None
    stops_build: bool = True

    def document(self) -> dict[str, str | int | None]:
        """The finding for programs."""
        return {
            "image": self.image,
            "severity": self.severity,
            "message": self.message,
            "path": self.path,
            "line": self.line,
        }

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.severity}: {self.message}"
