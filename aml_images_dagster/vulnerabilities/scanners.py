"""Scanners on PATH that look into an image in a registry: Trivy and Grype.

Sources: https://trivy.dev/latest/docs/references/configuration/cli/trivy_image/, https://github.com/anchore/grype#getting-started.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from aml_images_dagster.errors import BadInput
from aml_images_dagster.text import printable_line
from aml_images_dagster.vulnerabilities.reports import read_report
from aml_images_dagster.vulnerabilities.vulnerability import Scan

_TIMEOUT_SECONDS = 1800
_LONGEST_REASON = 300
_COMMANDS = {
    "trivy": ("trivy", "image", "--quiet", "--format", "json", "--scanners", "vuln", "--image-src", "remote", "{}"),
    "grype": ("grype", "registry:{}", "--quiet", "--output", "json"),
}


def run_scanner(name: str, reference: str) -> Scan:
    """Let a scanner look into an image.

    Args:
        name: trivy or grype.
        reference: The image, by digest.

    Returns:
        What it has found. A scan that has not looked, with the reason, where the scanner is missing, fails or prints
        something else than its report.
    """
    if shutil.which(name) is None:
        return Scan(name, None, f"there is no {name} on PATH")
    command = [part.format(reference) for part in _COMMANDS[name]]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            env={**os.environ, "NO_COLOR": "1"},
        )
    except subprocess.TimeoutExpired:
        return Scan(name, None, f"it did not end within {_TIMEOUT_SECONDS // 60} minutes", failed=True)
    except OSError as error:
        return Scan(name, None, f"it cannot be started: {error.strerror}", failed=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = printable_line(said[-1] if said else f"exit code {done.returncode}")
        return Scan(name, None, f"it failed: {reason[:_LONGEST_REASON]}", failed=True)
    try:
        return read_report(name, done.stdout, f"what {name} has printed")
    except BadInput as error:
        return Scan(name, None, error.what, failed=True)
