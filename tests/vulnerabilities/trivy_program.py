"""A program in the place of Trivy on PATH, which finds in each image what a test says, in Trivy's own form."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_SCRIPT = """#!/bin/sh
for reference; do :; done
report={folder}/${{reference##*:}}.json
[ -e "$report" ] || report={folder}/any.json
[ -e "$report" ] || {{ echo no database >&2; exit 1; }}
cat "$report"
"""


def finding(identifier: str, package: str, **more: Any) -> dict[str, Any]:
    """One finding of a package of Debian, in Trivy's form."""
    return {"VulnerabilityID": identifier, "PkgName": package, "Severity": "HIGH", **more}


@dataclass(frozen=True)
class TrivyProgram:
    """The program.

    Attributes:
        folder: Where its reports are, by digest.
    """

    folder: Path

    @classmethod
    def on_path(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> TrivyProgram:
        """Put it on PATH as the one source that is asked; it finds nothing."""
        (folder / "bin").mkdir(parents=True)
        program = folder / "bin" / "trivy"
        program.write_text(_SCRIPT.format(folder=folder))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("AML_IMAGES_VULNERABILITIES__SOURCES", "trivy")
        made = cls(folder)
        made.finds("any")
        return made

    def finds(self, digest: str, *findings: dict[str, Any]) -> None:
        """What it finds in an image."""
        results = [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": list(findings)}]
        report = {"SchemaVersion": 2, "Results": results}
        (self.folder / f"{digest.removeprefix('sha256:')}.json").write_text(json.dumps(report))

    def knows_no_other(self) -> None:
        """It fails at images of which it was not told."""
        (self.folder / "any.json").unlink()
