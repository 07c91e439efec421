"""What is told of what an engine says."""

import pytest

from aml_images_dagster.engine.stream import redact


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("pull https://robot:s3cret@host/x", "pull https://***@host/x"),
        ("clone https://ghp_s3cret@github.com/x and more", "clone https://***@github.com/x and more"),
        ("http://robot:s3c@ret@host:80/x", "http://***@host:80/x"),
        ("https://:s3cret@host", "https://***@host"),
        ("tcp://robot:s3cret@host:2376", "tcp://***@host:2376"),
        ("ssh://user@host and https://host/a@b", "ssh://user@host and https://host/a@b"),
        ("the word s3cret alone", "the word *** alone"),
    ],
)
def test_logins_are_never_told(said: str, told: str) -> None:
    assert redact(said, ("s3cret",) if "alone" in said else ()) == told
