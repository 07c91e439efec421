"""A layer is read once, whoever asks; what is hostile in it is refused, and what is broken is not kept."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import re
import tarfile
import time
from contextlib import contextmanager

import pytest

from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry import layers
from aml_images_dagster.trust import layer_records
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from tests.memory import memory_growth
from tests.trust.images import Folder, Link, MemoryRegistry, archive
from tests.trust.test_inventory import conda, dist_info, versions


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "layers"


def layers_of(registry, image):
    return [layer["digest"] for layer in json.loads(registry.manifest(image).body)["layers"]]


def test_images_on_one_base_read_it_once(registry, records):
    base, own = conda("base", "1"), [dist_info(f"own{number}", "1") for number in range(20)]
    images = [registry.push(base, each) for each in own]
    for number, image in enumerate(images):
        assert versions(read_inventory(registry, image, records)) == {"base": "1", f"own{number}": "1"}
    assert len(registry.opened) == 21


def test_a_record_says_what_the_layer_says(registry, folder):
    layer = {"etc/.wh.a": "", "b/.wh..wh..opq": "", "c": Folder(), "d": Link("e"), "f": "", **conda("g", "1")}
    image = registry.push({"etc/a": "", "b/x": ""}, layer)
    first = read_inventory(registry, image, LayerRecords(folder))
    assert read_inventory(registry, image, LayerRecords(folder)) == first
    assert len(registry.opened) == 2


@pytest.mark.parametrize("spoil", [lambda body: body[:-9], lambda body: b"", lambda body: body[:20] + b"!" + body[21:]])
def test_a_record_that_is_damaged_is_made_again(registry, folder, spoil):
    image = registry.push(conda("a", "1"))
    records = LayerRecords(folder)
    before = read_inventory(registry, image, records)
    (kept,) = folder.glob("*.gz")
    whole = kept.read_bytes()
    kept.write_bytes(spoil(whole))
    assert read_inventory(registry, image, records) == before
    assert kept.read_bytes() == whole


def test_a_layer_that_is_not_what_its_digest_says_is_not_kept(registry, records, folder):
    image = registry.push(conda("a", "1"))
    (digest,) = layers_of(registry, image)
    registry.blobs[digest] = gzip.compress(archive(conda("evil", "1")))
    with pytest.raises(Unreachable):
        read_inventory(registry, image, records)
    assert list(folder.glob("*.gz")) == []
    assert list(folder.glob("new-*")) == []


def test_what_was_used_last_stays(registry, records, folder, monkeypatch):
    monkeypatch.setattr(layer_records, "_MOST_RECORDS", 2)
    images = [registry.push(conda(name, "1")) for name in "abc"]
    for age, image in enumerate(images[:2]):
        read_inventory(registry, image, records)
        (kept,) = folder.glob(f"*{layers_of(registry, image)[0][7:]}*")
        os.utime(kept, (1000 + age, 1000 + age))
    read_inventory(registry, images[0], records)
    read_inventory(registry, images[2], records)
    assert {path.name.split(".")[0][7:] for path in folder.glob("*.gz")} == {
        layers_of(registry, image)[0][7:] for image in (images[0], images[2])
    }


class SlowRegistry(MemoryRegistry):
    """Notes in a file, which processes share, that a layer was opened."""

    def __init__(self, note):
        super().__init__()
        self._note = note

    @contextmanager
    def open_blob(self, repository, digest):
        with self._note.open("a") as file:
            file.write(f"{digest}\n")
        time.sleep(0.3)
        with super().open_blob(repository, digest) as blob:
            yield blob


def test_processes_that_want_a_layer_at_once_read_it_once(tmp_path, folder):
    registry = SlowRegistry(tmp_path / "opened")
    image = registry.push(conda("a", "1"))
    context = multiprocessing.get_context("fork")
    readers = [context.Process(target=read_inventory, args=(registry, image, LayerRecords(folder))) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(30)
    assert [reader.exitcode for reader in readers] == [0] * 4
    assert len((tmp_path / "opened").read_text().splitlines()) == 1


def pax(length):
    """An archive whose first header extension has a length of its own."""
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, length
    return header.tobuf(tarfile.USTAR_FORMAT) + b"0" * 1024


def chain(count):
    """Header extensions that follow each other, each of which tarfile reads by a call within a call."""
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 4
    return (name.tobuf(tarfile.GNU_FORMAT) + b"abc\0".ljust(512, b"\0")) * count


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (b"no archive", "truncated header"),
        (b"", "empty file"),
        (gzip.compress(b"no archive" * 1000), "truncated header|invalid header|bad checksum|could not be opened"),
        (gzip.compress(archive(conda("a", "1")))[:-120], "ended before the end-of-stream marker"),
        (archive({"a": "x" * 5000})[:2000], "unexpected end of data"),
        (pax(5_000_000_000), "a header has more than 262,144 bytes"),
        (chain(5000), "a header is damaged: maximum recursion depth exceeded"),
    ],
    ids=["text", "nothing", "packed text", "cut off packed", "cut off", "long header", "chain of headers"],
)
def test_a_layer_that_cannot_be_read_is_named_and_not_kept(registry, records, folder, layer, why):
    image = registry.push(conda("below", "1"), layer)
    inventory = read_inventory(registry, image, records)
    (unread,) = inventory.unread
    assert unread.startswith(f"layer {layers_of(registry, image)[1]}: ")
    assert re.search(why, unread), unread
    assert versions(inventory)["below"] == "1"
    assert len(list(folder.glob("*.gz"))) == 1


@pytest.mark.parametrize(
    ("module", "limit", "value", "why"),
    [
        (layers, "MOST_ENTRIES", 3, "it has more than 3 entries"),
        (layers, "MOST_BYTES", 4000, "it has more than 4,000 bytes"),
        (layer_records, "_LONGEST_RECORD", 100, "what there is to say of its files has more than 100 bytes"),
        (layer_records, "_MOST_REMOVED", 0, "it removes more than 0 files"),
    ],
)
def test_a_layer_that_is_too_large_is_named(read, monkeypatch, module, limit, value, why):
    monkeypatch.setattr(module, limit, value)
    inventory = read({**{f"f{number}": "x" * 2000 for number in range(5)}, ".wh.a": ""})
    assert len(inventory.unread) == 1
    assert inventory.unread[0].endswith(why)


def test_a_layer_that_is_too_large_may_have_a_database(read, monkeypatch):
    monkeypatch.setattr(layer_records, "_LONGEST_RECORD", 100)
    inventory = read({"var/lib/rpm/rpmdb.sqlite": "no database", **{f"f{number}": "" for number in range(5)}})
    assert len(inventory.unread) == 1
    assert inventory.unread[0].endswith("what there is to say of its files has more than 100 bytes")


def test_a_bomb_is_read_in_little_memory(read):
    size = 300 * 2**20
    header = tarfile.TarInfo("opt/a.dist-info/RECORD")
    header.size = size
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as out:
        out.write(header.tobuf())
        for _ in range(300):
            out.write(bytes(2**20))
        out.write(bytes(1024))
    with memory_growth() as growth:
        inventory = read(packed.getvalue())
    assert inventory.unread == ("opt/a.dist-info/RECORD: it has more than 16,777,216 bytes",)
    assert growth.peak < 50e6


def test_paths_that_leave_the_image_and_those_that_are_too_long(read):
    inventory = read(
        {
            **dist_info("a", "1", folder="../../opt"),
            "x" * 5000: "",
            "dev/null\n": Link("../../../etc"),
        }
    )
    assert versions(inventory) == {"a": "1"}
    assert inventory.packages[0].location == "opt/a-1.dist-info/METADATA"
    assert inventory.unread == (f"{'x' * 60}…: its path is too long",)


def test_many_files_fit_into_little_memory(read):
    count = 30_000
    layer = gzip.compress(archive({f"opt/lib/package{n // 100}/module_{n}.py": "" for n in range(count)}), 1)
    with memory_growth() as growth:
        inventory = read(layer)
    assert inventory.files == count
    assert growth.peak < count * 600  # so that MOST_NODES do not take 400 MB, and a real image takes tens
