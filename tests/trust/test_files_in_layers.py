"""Which files an image has, told by its layers in a real registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import OCI_CONFIG, OCI_MANIFEST, OciRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aml_images_dagster.trust.layer_records import LayerRecords

pytestmark = pytest.mark.engine


def _layer(names: Iterable[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return gzip.compress(buffer.getvalue(), mtime=0)


@pytest.fixture
def push(staging: OciRegistry, repository: str) -> Callable[..., Reference]:
    """Pushes an image of layers; each is given by the names of its entries, or as bytes."""

    def upload(body: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if not staging.has_blob(repository, digest):
            staging.upload_blob(repository, digest, body)
        return {"digest": digest, "size": len(body)}

    def push(*layers: Iterable[str] | bytes) -> Reference:
        bodies = [layer if isinstance(layer, bytes) else _layer(layer) for layer in layers]
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, **upload(b"{}")},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **upload(body)} for body in bodies],
        }
        content = json.dumps(document).encode()
        manifest = Manifest(f"sha256:{hashlib.sha256(content).hexdigest()}", OCI_MANIFEST, content)
        staging.put_manifest(repository, "1", manifest)
        return Reference(staging.host, repository, digest=manifest.digest)

    return push


def test_the_names_of_many_files_are_not_held(push, staging, records):
    image = push(f"opt/{number}" for number in range(10_000))
    tracemalloc.start()
    assert records.files_in(staging, image, ["/opt/9999", "/opt/x"]) == {"/opt/9999": True, "/opt/x": False}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6


@pytest.mark.parametrize(
    ("layers", "there"),
    [
        ([["etc/a"]], True),
        ([["./etc/a"], ["b"]], True),
        ([["etc/b"]], False),
        ([["etc/a"], ["etc/.wh.a"]], False),
        ([["etc/a"], [".wh.etc"]], False),
        ([["etc/a"], ["etc/.wh..wh..opq"]], False),
        ([["etc/a"], [".wh..wh..opq"]], False),
        ([["etc/a"], ["etc/.wh..wh..opq", "etc/a"]], True),
        ([["etc/a"], ["etc/.wh.a"], ["etc/a"]], True),
        ([["etc/a"], ["etc/.wh.ab", "b/.wh.a"]], True),
        ([["etc/a"], b"no tar that Python could read"], True),
        ([], False),
    ],
)
def test_the_newest_layer_that_says_something_decides(
    push: Callable[..., Reference], staging: OciRegistry, records: LayerRecords, layers: list[list[str]], there: bool
) -> None:
    assert records.files_in(staging, push(*layers), ["/etc/a"]) == {"/etc/a": there}


def test_windows_keeps_the_files_of_c_in_a_folder(
    push: Callable[..., Reference], staging: OciRegistry, records: LayerRecords
) -> None:
    image = push(["Files", "Files/LICENSE.txt", "Hives/Software_Delta"])
    wanted = ["C:\\LICENSE.txt", "C:\\Absent.txt"]
    assert records.files_in(staging, image, wanted) == {"C:\\LICENSE.txt": True, "C:\\Absent.txt": False}


def test_layers_below_the_last_that_is_needed_are_not_read(
    push: Callable[..., Reference], staging: OciRegistry, records: LayerRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push(["old"], ["new"])
    opened = []
    open_blob = staging.open_blob
    monkeypatch.setattr(staging, "open_blob", lambda *blob: opened.append(blob) or open_blob(*blob))
    assert records.files_in(staging, image, ["/new"]) == {"/new": True}
    assert len(opened) == 1


def test_images_on_one_base_read_it_once(
    push: Callable[..., Reference], staging: OciRegistry, records: LayerRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [push(["base"], [f"own{number}"]) for number in range(5)]
    opened = []
    open_blob = staging.open_blob
    monkeypatch.setattr(staging, "open_blob", lambda *blob: opened.append(blob) or open_blob(*blob))
    for image in images:
        assert records.files_in(staging, image, ["/base", "/none"]) == {"/base": True, "/none": False}
    assert len(opened) == 1 + len(images)


def test_an_image_that_is_not_there(staging: OciRegistry, repository: str, records: LayerRecords) -> None:
    with pytest.raises(BadInput, match="no such image"):
        records.files_in(staging, Reference(staging.host, repository, "absent"), ["/a"])
