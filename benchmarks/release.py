"""Releasing 20 images from one local registry to another, beside `skopeo copy` of the same images, in one run.

python benchmarks/release.py [IMAGES] [MEGABYTES]: both registries are started for it and are gone afterwards. Every
image has a layer of its own that cannot be compressed. Each way is timed with an empty production registry.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.copy import CopyingImporter
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import OCI_CONFIG, OCI_MANIFEST, OciRegistry
from aml_images_dagster.release.drop_script.import_images import Tested, import_all
from tests.faults.own_registry import OwnRegistry

ROUNDS = 3
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def push(staging: OciRegistry, name: str, megabytes: int) -> Tested:
    descriptors = []
    for kind, body in (
        (OCI_CONFIG, json.dumps({"comment": str(uuid.uuid4())}).encode()),
        (LAYER, os.urandom(megabytes * 10**6)),
    ):
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        staging.upload_blob("base", digest, body)
        descriptors.append({"mediaType": kind, "digest": digest, "size": len(body)})
    config, layer = descriptors
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    content = json.dumps(document).encode()
    manifest = Manifest(f"sha256:{hashlib.sha256(content).hexdigest()}", OCI_MANIFEST, content)
    staging.put_manifest("base", name, manifest)
    return Tested("base", manifest.digest, [f"public/{name}:20261123.v1", f"public/{name}:latest"])


class Production:
    def __init__(self, staging: OciRegistry, registry: OciRegistry) -> None:
        self.staging, self.registry = staging, registry
        self.importer = CopyingImporter(staging, registry)

    def digest(self, name: str) -> str | None:
        return self.registry.digest(Reference.parse(f"{self.registry.host}/{name}"))

    def bring(self, image: Tested, name: str, *, replace: bool) -> None:
        source = Reference(self.staging.host, image.source, digest=image.digest)
        self.importer.import_image(source, Reference.parse(f"{self.registry.host}/{name}"), replace=replace)


def ours(staging: OciRegistry, production: OciRegistry, images: list[Tested]) -> None:
    import_all(images, Production(staging, production), lambda _: None)


def skopeo(staging: OciRegistry, production: OciRegistry, images: list[Tested]) -> None:
    for index in (0, 1):  # release tags, then latest
        for image in images:
            source = f"docker://{staging.host}/{image.source}@{image.digest}"
            command = [
                "skopeo",
                "copy",
                "-q",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
                "--preserve-digests",
            ]
            subprocess.run([*command, source, f"docker://{production.host}/{image.names[index]}"], check=True)


def main() -> None:
    count, megabytes = (int(argument) for argument in (*sys.argv[1:], *("20", "20")[len(sys.argv) - 1 :]))
    if not shutil.which("skopeo"):
        sys.exit("skopeo is not installed: apt-get install skopeo")
    with tempfile.TemporaryDirectory() as folder, OwnRegistry(Path(folder) / "staging") as source:
        staging = OciRegistry(source.host)
        images = [push(staging, f"image{n}", megabytes) for n in range(count)]
        seconds: dict[str, list[float]] = {"aml-images": [], "skopeo copy": []}
        for turn in range(ROUNDS):
            for name, way in (("aml-images", ours), ("skopeo copy", skopeo)):
                with OwnRegistry(Path(folder) / f"{turn}-{name.replace(' ', '-')}") as target:
                    production = OciRegistry(target.host)
                    begun = time.perf_counter()
                    way(staging, production, images)
                    seconds[name].append(time.perf_counter() - begun)
                    for image in images:
                        for tag in image.names:
                            served = production.digest(Reference.parse(f"{production.host}/{tag}"))
                            assert served == image.digest, tag
    print(f"{count} images of {megabytes} MB, {ROUNDS} rounds, release tag and latest of each, every digest compared")
    for name, all_seconds in seconds.items():
        listed = ", ".join(f"{s:.2f}" for s in all_seconds)
        print(f"{name:12} median {statistics.median(all_seconds):6.2f} s  ({listed})")


if __name__ == "__main__":
    main()
