"""What looks like a secret is found, in the forms that image folders have; what only speaks of one is not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.open_source.secret_scan import _CALLED_SECRET, ALLOWED, _by_line, find_secrets

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


@pytest.mark.parametrize(
    "line",
    ["a-" * 500_000, "token_" * 170_000, "curl " * 200_000, f"x{' ' * 1_000_000}y", f"curl -u{'=' * 1_000_000}"],
    ids=["words", "names", "curl", "blanks", "equals"],
)
def test_a_line_of_a_megabyte_is_no_trouble(line: str) -> None:
    code = "import sys; from aml_images_dagster.open_source.secret_scan import find_secrets as f; "
    code += "print(len(f({'a': sys.stdin.read()})))"
    text = f"{line}\nENV DB_PASSWORD={VALUE}{'z' * 1_000_000}\n"
    # It takes seconds; before it was a matter of hours.
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, timeout=300)
    assert done.stdout == "1\n", done.stderr


def test_a_secret_in_a_long_line_is_found_wherever_it_is() -> None:
    for before in (0, 1, 4_095, 4_096, 65_535, 100_000):
        line = f"{'x,' * before}API_TOKEN={VALUE}{',y' * 100_000}"
        assert len(find_secrets({"base/a/app.min.js": line})) == 1


# The same patterns as they would be written if time did not matter.
_PLAIN_WORDS = r"passw(?:or)?d|passphrase|secret|credential|token|(?:api|auth|access|account)_?key|connection_?string"
_PLAIN_NAME = rf"[\w-]*(?:{_PLAIN_WORDS}|_(?:pwd|pass|pat|sas)(?![a-z]))\w*"
_PLAIN_VALUE = r"(?!['\"]*(?:\s|$|\$))\S{4,}"
_PLAIN = re.compile(
    rf"^\s*['\"]?{_PLAIN_NAME}['\"]?\s*[:=]\s*{_PLAIN_VALUE}"
    rf"|(?:(?<![\w-]){_PLAIN_NAME}=|^\s*(?:ENV|ARG)\s+{_PLAIN_NAME}\s+|\s--{_PLAIN_NAME}\s+"
    rf"|\blogin\s+\S+\s+password\s+){_PLAIN_VALUE}"
    rf"|\bcurl\b.*\s(?:-u|--user)[\s=]*['\"]?[^\s:$]+:{_PLAIN_VALUE}",
    re.IGNORECASE,
)
_PIECES = [
    *("password", "passwd", "_pass", "_pat", "token", "secre", "secret", "oken", "key", "api", "connection", "string"),
    *("curl", "-u", "--user", "login", "ENV", "--", "-", "_", "=", ":", '"', "'", "$", " ", "\t", "a", "abcd"),
]


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_nothing_is_missed_for_the_sake_of_time(line: str) -> None:
    found = any(secret.kind in (_CALLED_SECRET, "a login") for secret in _by_line({"a": line}))
    assert found == bool(_PLAIN.search(line))


def test_our_own_images_have_none() -> None:
    texts = {str(path): path.read_text("utf-8") for path in IMAGES.rglob("*") if path.is_file()}
    assert len(texts) > 50
    assert find_secrets(texts) == []
