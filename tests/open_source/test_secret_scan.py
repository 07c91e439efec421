"""What looks like a secret is found, in the forms that image folders have; what only speaks of one is not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from aml_images_dagster.open_source.secret_scan import ALLOWED, find_secrets

VALUE = "hunter2x"
IMAGES = Path(__file__).parents[2] / "base_images"


@pytest.mark.parametrize(
    "line",
    [
        f"ENV DB_PASSWORD={VALUE}",
        f"ENV DB_PASS {VALUE}",
        f"ARG FEED_PAT={VALUE}",
        f"RUN pip config set --token {VALUE}",
        f"RUN login --password={VALUE}",
        f"RUN curl -fsSL -u me:{VALUE} https://files.example/x",
        f"RUN curl -H 'Authorization: Bearer {VALUE}' https://files.example/x",
        f"RUN wget https://me:{VALUE}@files.example/x",
        "ADD https://a.blob.core.windows.net/c/f?sv=2020&sig=abcd%2Fefgh1234567890abcd%3D /f",
        f"password: {VALUE}",
        f"  db_password = {VALUE}",
        f'"token": "{VALUE}"',
        f"token = {VALUE}",
        f"//registry.example/:_authToken={VALUE}",
        f"machine files.example login me password {VALUE}",
        "github_pat_11ABCDEFG0abcdefghijklmnop",
        "it is Abc8Q~abcdefghijklmnopqrstuvwxyz01234567",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
@pytest.mark.parametrize("path", ["base/a/Dockerfile", "base/a/pip.conf", "base/a/settings.yml", "base/a/.netrc"])
def test_a_secret(path: str, line: str) -> None:
    found = find_secrets({path: f"first\n{line}\n"})
    assert [(secret.path, secret.line) for secret in found] == [(path, 2)]
    assert VALUE not in repr(found)


@pytest.mark.parametrize(
    "line",
    [
        "ARG TOKEN",
        "ENV TOKEN=$TOKEN",
        'RUN curl -u "$USER:$PASSWORD" https://files.example/x',
        "RUN useradd -u 1000 dockeruser",
        "RUN apt-get install -y libpam-passwdqc libsecret-1-0=0.20.5-3",
        "ENV PYTHON_PATH=/usr/lib/python3",
        "# The token is read from /run/secrets.",
        f"ARG SHA256={'0af1' * 16}",
    ],
)
def test_what_is_none(line: str) -> None:
    assert find_secrets({"base/a/Dockerfile": f"{line}\n"}) == []


def test_source_code_calls_things_tokens() -> None:
    code = "def sign_in(token: str, password):\n    token = first_token(password)\n    return token\n"
    assert find_secrets({"base/a/sign_in.py": code}) == []
    (found,) = find_secrets({"base/a/sign_in.py": f'{code}password = "{VALUE}"\n'})
    assert found.line == 4


def test_one_that_reviewers_have_let_through() -> None:
    for line in (f"ENV FEED_TOKEN={VALUE}", f"password: {VALUE}", "key AKIA" + "QZ7W" * 4):
        assert find_secrets({"base/a/Dockerfile": f"# {ALLOWED}\n{line}\n"}) == []


def test_a_long_line_of_many_words_is_no_trouble() -> None:
    begun = time.process_time()
    find_secrets({"base/a/data.txt": "a-" * 10_000})
    assert time.process_time() - begun < 20


def test_our_own_images_have_none() -> None:
    texts = {str(path): path.read_text("utf-8") for path in IMAGES.rglob("*") if path.is_file()}
    assert len(texts) > 50
    assert find_secrets(texts) == []
