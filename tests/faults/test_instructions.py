"""What only BuildKit builds, on an engine of today: built, tested and released."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.scene import Scene

pytestmark = [pytest.mark.engine, pytest.mark.faults]

DOCKERFILE = """# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM busybox AS tools
RUN mkdir /made && echo made > /made/by
FROM busybox
ARG TARGETARCH
COPY --chmod=755 --link python /bin/python
RUN --mount=type=cache,target=/cache,sharing=locked --mount=type=bind,from=tools,source=/made,target=/made <<END
  cat /made/by > /seen
  echo $TARGETARCH >> /seen
  echo {word} >> /cache/left
END
COPY <<CONFIGURATION /configuration
word={word}
CONFIGURATION
RUN --mount=type=bind,target=/context --network=none cat /context/python > /copy && test ! -e /context/tests.json
"""
SCRIPT = """
test "$(cat /seen)" = "made
amd64"
grep word= /configuration
test -x /bin/python && test ! -e /made && test ! -e /cache/left
"""


def test_mounts_and_heredocs_are_built_tested_and_released(command_line: Scene) -> None:
    repository = command_line.repository
    image = repository.image("apps/modern")
    repository.write_image("apps/modern", DOCKERFILE.format(word=uuid.uuid4().hex))
    repository.write(repository.folder("apps/modern") / "python", '#!/bin/sh\nexec sh "$@"\n')
    repository.write(repository.root / "checks" / "modern.py", SCRIPT)
    scenarios = {"scenarios": [{"name": "modern", "kind": "training", "script": "modern.py"}], "timeout_minutes": 2}
    repository.write(repository.folder("apps/modern") / "tests.json", json.dumps(scenarios))
    repository.commit("instructions of BuildKit")
    try:
        assert repository.run("validate", image).returncode == 0
        built = repository.run("build", image)
        assert built.returncode == 0, built.stdout + built.stderr
        build = repository.json("builds")[0]["build"]
        assert repository.run("release", build).returncode == 0
        again = repository.run("build", image)
        assert "reused" in again.stdout, again.stdout + again.stderr
    finally:
        repository.git("reset", "-q", "--hard", "HEAD~1")
