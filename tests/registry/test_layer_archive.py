"""Layers in every compression, and from every program, are read to their end and no further than they may."""

from __future__ import annotations

import gzip
import json

import pytest
import zstandard

from aml_images_dagster.registry.layers import UnreadableLayer, open_layer
from tests.trust.images import REPOSITORY, MemoryRegistry, archive

FILES = {"a": "1" * 3000, "b": "2", "c": "3" * 70_000}


def in_pieces(body: bytes, compress) -> bytes:
    """As eStargz and zstd:chunked write a layer: each piece is compressed for itself."""
    return b"".join(compress(body[start : start + 1000]) for start in range(0, len(body), 1000))


@pytest.fixture
def read():
    """Reads all files of a layer."""

    def read(body: bytes) -> dict[str, str]:
        registry = MemoryRegistry()
        image = registry.push(body)
        (layer,) = json.loads(registry.manifests[image.digest].body)["layers"]
        with open_layer(registry, REPOSITORY, layer["digest"]) as opened:
            return {entry.name: opened.open(entry).read().decode() for entry in opened}

    return read


@pytest.mark.parametrize(
    "compress",
    [
        lambda body: body,
        gzip.compress,
        lambda body: in_pieces(body, gzip.compress),
        zstandard.compress,
        lambda body: in_pieces(body, zstandard.compress),
    ],
    ids=["not compressed", "gzip", "gzip in pieces", "zstd", "zstd in pieces"],
)
def test_a_layer_is_read_to_its_end(read, compress):
    assert read(compress(archive(FILES))) == FILES


def test_a_window_that_takes_much_memory_is_refused(read):
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    writer = compressor.compressobj()
    with pytest.raises(UnreadableLayer, match="too much memory"):
        read(writer.compress(archive(FILES)) + writer.flush())
