"""What a builder can do with a Dockerfile, found out by asking it: versions of distributions' engines say nothing.

Each feature stands in a stage that nothing needs, so it is read and not run. The answers are kept in a file, because
asking takes some seconds, until the builder is another one.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.builder_features import (
    GIT_SOURCES,
    HEREDOCS,
    PLATFORM_ARGS,
    SECRET_VARIABLES,
)
from aml_images_dagster.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.engine.buildkit.buildx import Buildx

_NOWHERE = "http://127.0.0.1:9/x"
_DIGEST = hashlib.sha256(b"").hexdigest()
_PROBES: Mapping[str, str] = {
    "RUN --mount": "RUN --mount=type=cache,target=/c --mount=type=secret,id=s true",
    "RUN --network": "RUN --network=none true",
    "RUN --security": "RUN --security=sandbox true",
    "RUN --device": "RUN --device=vendor.example/device true",
    "COPY --chmod": "COPY --from=0 --chmod=755 /a /b",
    "COPY --link": "COPY --from=0 --link /a /b",
    "COPY --parents": "COPY --from=0 --parents /a /b",
    "COPY --exclude": "COPY --from=0 --exclude=x /a /b",
    "ADD --chmod": f"ADD --chmod=755 {_NOWHERE} /b",
    "ADD --link": f"ADD --link {_NOWHERE} /b",
    "ADD --checksum": f"ADD --checksum=sha256:{_DIGEST} {_NOWHERE} /b",
    "ADD --keep-git-dir": f"ADD --keep-git-dir=true {_NOWHERE}.git /b",
    "ADD --exclude": "ADD --exclude=x x /b",
    "ADD --unpack": f"ADD --unpack=true {_NOWHERE} /b",
    HEREDOCS: "COPY <<END /b\nwords\nEND",
}
# These two are read only when the stage is needed. What RUN does then fails, because there is no program.
_PROBES_OF_THE_LAST_STAGE: Mapping[str, str] = {
    SECRET_VARIABLES: "FROM scratch\nRUN --mount=type=secret,id=s,env=S true",
    PLATFORM_ARGS: "FROM --platform=$TARGETPLATFORM scratch\nLABEL a=b",
}
# As the parser and the reader of mounts word it, in all versions.
_REFUSED = re.compile(r"unknown flag|unexpected key|parse error|unknown instruction|not supported|requires the labs")
_LOST = re.compile(r"error reading from server|Cannot connect|transport is closing|code = Unavailable")
_PROBE_SECONDS = 60
_AT_ONCE = 4


def supported_features(buildx: Buildx, kept_in: Path, builder: str) -> frozenset[str]:
    """The features that a builder has.

    Args:
        buildx: Calls the builder.
        kept_in: File in which the answers of builders are kept.
        builder: All that distinguishes it from others and from itself after an update.

    Raises:
        BadInput: There is no buildx.
        Unreachable: The builder does not answer.
    """
    key = hashlib.sha256(json.dumps([builder, _PROBES, _PROBES_OF_THE_LAST_STAGE]).encode()).hexdigest()
    known = _read(kept_in)
    if key not in known:
        known = {**known, key: sorted(_ask(buildx))}
        _write(kept_in, known)
    return frozenset(known[key])


def _ask(buildx: Buildx) -> set[str]:
    texts = {feature: f"FROM scratch\nFROM scratch\n{line}\nFROM scratch\n" for feature, line in _PROBES.items()}
    texts |= {feature: f"{text}\n" for feature, text in _PROBES_OF_THE_LAST_STAGE.items()}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda text: _is_known(buildx, text), texts.values())
        supported = {feature for feature, is_known in zip(texts, answers, strict=True) if is_known}
    if "ADD --keep-git-dir" in supported:  # older ones take the address of a repository for that of a file
        supported.add(GIT_SOURCES)
    return supported


def _is_known(buildx: Buildx, text: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="aml-images-buildx-") as folder:
        try:
            done = subprocess.run(
                buildx.command("--progress=plain", "--output=type=cacheonly", "-"),
                env=buildx.environment(Path(folder)),
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            raise Unreachable("the builder does not answer", where=buildx.where, hint="Start it again.") from None
    if done.returncode and _LOST.search(done.stderr):
        raise Unreachable("the builder was lost", where=buildx.where, hint="Start it again.")
    return done.returncode == 0 or not _REFUSED.search(done.stderr)


def _read(path: Path) -> dict[str, list[str]]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, known: Mapping[str, list[str]]) -> None:
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / ".gitignore").write_text("*\n")  # what is kept is no change of the working tree
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(known, file)
    Path(file.name).replace(path)
