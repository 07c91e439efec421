"""The line that is told of a failed node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.testing.failure_reason import failure_reason

TRACEBACK = """\
epoch 1
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    main()
epoch 2
ValueError: the loss is nan
"""
OPEN_MPI = f"""\
{TRACEBACK}
--------------------------------------------------------------------------
Primary job  terminated normally, but 1 process returned
a non-zero exit code. Per user-direction, the job has been aborted.
--------------------------------------------------------------------------
"""


@pytest.mark.parametrize(
    ("code", "output", "reason"),
    [
        (1, TRACEBACK, "exit code 1: ValueError: the loss is nan"),
        (1, OPEN_MPI, "exit code 1: ValueError: the loss is nan"),
        (1, TRACEBACK + TRACEBACK.replace("ValueError", "my.Own"), "exit code 1: my.Own: the loss is nan"),
        (1, TRACEBACK.replace("ValueError: the loss is nan", "KeyboardInterrupt"), "exit code 1: KeyboardInterrupt"),
        (2, "some words\n\n   \n", "exit code 2: some words"),
        (3, f"my words\n{'-' * 40}\nthe banner's words\n{'-' * 40}\n", "exit code 3: my words"),
        (3, f"{'-' * 40}\nthe banner's words\n{'-' * 40}\n", "exit code 3: the banner's words"),
        (4, "", "exit code 4"),
        (139, "", "exit code 139 (SIGSEGV)"),
        (3221225781, "", "exit code 3221225781"),
        (127, "[FATAL tini (7)] exec python failed: No such file or directory", "python is not in the image's PATH"),
        (126, "[FATAL tini (7)] exec /x failed: Permission denied", "/x cannot be started: Permission denied"),
        (
            127,
            'OCI runtime create failed: exec: "python": executable file not found in $PATH: unknown',
            "python is not in the image's PATH",
        ),
    ],
)
def test_reason(code, output, reason):
    assert failure_reason(code, output) == reason


@pytest.mark.parametrize(
    ("output", "errors", "reason"),
    [
        ("too low\naccuracy 0.2\n", "too low", "too low"),
        ("some words\n", "", "some words"),
        ("some words\n", f"{'-' * 40}\nthe banner's words\n{'-' * 40}", "some words"),
        (TRACEBACK + "some words\n", "some words", "ValueError: the loss is nan"),
    ],
)
def test_the_end_of_standard_error_counts_more(output, errors, reason):
    assert failure_reason(1, output, errors) == f"exit code 1: {reason}"


@given(st.integers(1, 2**32), st.text(max_size=2000), st.text(max_size=2000))
def test_any_output_gives_one_line(code, output, errors):
    reason = failure_reason(code, output, errors)
    assert len(reason.splitlines()) == 1
    assert len(reason) < 500
