"""A registry of the tests' own, which they may stop and start again, and what it holds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from aml_images_dagster.errors import FactoryError
from aml_images_dagster.registry.oci import OciRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_SECONDS = 20
_LIST = "sha256-"
"""How the tag of the list of what is attached to a manifest begins."""


@dataclass(frozen=True)
class Stored:
    """What a registry holds of a repository, as its disk says: also what no request lists.

    Attributes:
        manifests: Digest → manifest.
        tags: Tag → digest.
    """

    manifests: Mapping[str, Mapping[str, Any]]
    tags: Mapping[str, str]

    def attached(self, digest: str) -> set[str]:
        """Digests of everything that is attached to a manifest, and to that."""
        entries = self.manifests.get(self.tags.get(digest.replace(":", "-"), ""), {}).get("manifests", ())
        found = {entry["digest"] for entry in entries} & self.manifests.keys()
        return found.union(*map(self.attached, found))

    def unreachable(self) -> tuple[str, ...]:
        """What no tag of an image leads to: untagged images, artifacts, and the lists of what is gone.

        Earlier versions of a list are left out: registries keep them until they collect garbage.
        """
        reached: set[str] = set()
        for tag, digest in self.tags.items():
            if not tag.startswith(_LIST):
                below = {each["digest"] for each in self.manifests.get(digest, {}).get("manifests", ())}
                for each in {digest, *below}:
                    reached |= {each, *self.attached(each)}
        manifests = (
            digest
            for digest, document in self.manifests.items()
            if "manifests" not in document and digest not in reached
        )
        lists = (tag for tag in self.tags if tag.startswith(_LIST) and tag.replace("-", ":") not in reached)
        return (*manifests, *lists)


class OwnRegistry:
    """A context manager.

    Args:
        folder: Where it keeps everything.

    Attributes:
        host: Host and port; the same after each start.
    """

    host: str

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        with socket.socket() as free:  # only now: others look for free ports, too
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        (self._folder / "registry.yml").write_text(
            "version: 0.1\nlog: {level: warn}\n"
            f"storage: {{filesystem: {{rootdirectory: {self._folder}}}, delete: {{enabled: true}}}}\n"
            f'http: {{addr: "{self.host}"}}\n'
        )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGTERM)

    def stored(self, repository: str) -> Stored:
        """What it holds of a repository; also while it does not run."""
        root = self._folder / "docker" / "registry" / "v2"
        own = root / "repositories" / repository / "_manifests"
        manifests: dict[str, Mapping[str, Any]] = {}
        for link in own.glob("revisions/sha256/*/link"):
            digest = link.parent.name
            with suppress(FileNotFoundError):  # deleted at this moment
                content = (root / "blobs" / "sha256" / digest[:2] / digest / "data").read_bytes()
                manifests[f"sha256:{digest}"] = json.loads(content)
        return Stored(manifests, dict(_links(own / "tags")))

    def start(self) -> None:
        """Start the registry unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        with (self._folder / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self._folder / "registry.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"GOGC": "400", **os.environ},  # as scripts/services starts them
            )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                OciRegistry(self.host).ping()
            except FactoryError:
                is_late = time.monotonic() >= deadline or self._process.poll() is not None
                assert not is_late, f"the registry does not start: {self._folder}/registry.log"
                time.sleep(0.1)
            else:
                return

    def end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(_SECONDS)


def _links(tags: Path) -> Iterator[tuple[str, str]]:
    for link in tags.glob("*/current/link"):
        with suppress(FileNotFoundError):
            yield link.parents[1].name, link.read_text()
