"""What the page of a pull request is told."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.pull_requests.hosts.interface import MARKER
from aml_images_dagster.pull_requests.report import ChangesReport, FailureReport, ImageReport, Report

HEAD = "0123456789abcdef0123456789abcdef01234567"
HELLO = ImageReport("apps/hello", ("modified: images/apps/hello/Dockerfile", "FROM tools/shell"), "built", 12_300_000)


def test_a_success() -> None:
    images = (HELLO, ImageReport("tools/shell", ("modified: x",), "built, 1 tests passed", 2_000_000, 3_500_000))
    report = Report(
        HEAD, "success", "2 images built and tested", build="20261123.4f2a9c1e", url="http://ui", images=images
    )
    assert (
        report.comment
        == f"""{MARKER}
### aml-images: ✅ success

`2 images built and tested`

| image | why | result | size |
|---|---|---|---|
| `apps/hello` | `modified: images/apps/hello/Dockerfile`<br>`FROM tools/shell` | built | 12.3 MB (new) |
| `tools/shell` | `modified: x` | built, 1 tests passed | 2.0 MB (-1.5 MB) |

Commit 0123456789ab, build 20261123.4f2a9c1e, [run](http://ui)
"""
    )
    assert (report.status.outcome, report.status.url) == ("success", "http://ui")


def test_a_failure_shows_the_end_of_the_log() -> None:
    log = "\n".join(f"line {number}" for number in range(2000)) + "\n\x1b[31mno space left\x1b[0m"
    failure = FailureReport("apps__hello__staged", "the build failed\n  fix it", log)
    comment = Report(HEAD, "failure", "apps/hello failed", images=(HELLO,), failure=failure).comment
    assert "no space left\n```" in comment
    assert "\x1b" not in comment
    assert "line 1\n" not in comment
    assert len(comment) < 6000


def test_many_images_are_shortened() -> None:
    images = tuple(ImageReport(f"apps/i{n}", tuple(f"modified: {'x' * 200}{k}" for k in range(9))) for n in range(1000))
    comment = Report(HEAD, "pending", "1000 images", images=images).comment
    assert "| `apps/i0` |" in comment
    shown = comment.count("| `apps/")
    assert f"| and {1000 - shown} more |" in comment


def test_what_changes_for_users_is_collapsed_and_what_may_break_them_is_not() -> None:
    changes = ChangesReport(
        "against v1: packages: 1 changed", ("Python 3.10 → 3.12",), "| a | b |\n|---|---|\n| 1 | 2 |"
    )
    new = [replace(HELLO, name=f"apps/{name}", changes=ChangesReport("not released yet")) for name in ("new", "newer")]
    comment = Report(HEAD, "success", "x", images=(replace(HELLO, changes=changes), *new)).comment
    assert (
        """⚠️ **May break users**, so that a release needs `--accept-major`:

- `apps/hello`: `Python 3.10 → 3.12`
"""
        in comment
    )
    assert (
        """
<details><summary><code>apps/hello against v1: packages: 1 changed</code></summary>

| a | b |
|---|---|
| 1 | 2 |

</details>

`apps/new`, `apps/newer`: `not released yet`
"""
        in comment
    )


def test_a_name_ends_no_summary() -> None:
    evil = "x</code></summary></details>\n\n@everyone"
    changes = ChangesReport(evil, (evil,), "details")
    comment = Report(HEAD, "success", "x", images=(replace(HELLO, changes=changes),)).comment
    (line,) = [line for line in comment.split("\n") if line.startswith("<details>")]
    assert line.count("</") == 2
    assert "&lt;/summary&gt;" in line
    assert "\n@everyone" not in comment


def test_details_for_which_there_is_no_room_are_left_out() -> None:
    images = tuple(
        replace(HELLO, name=f"apps/i{n}", changes=ChangesReport("against v1", (), "x" * 20_000)) for n in range(200)
    )
    comment = Report(HEAD, "success", "x", images=images).comment
    assert 2 <= comment.count("<details>") == comment.count("</details>") < 4
    assert re.search(r"`apps/i\d+` and 17\d more: `against v1`", comment)
    assert len(comment) <= 60_000


@settings(deadline=None)
@given(st.sampled_from(["x", "`", "é", "|", "``` ", "🚫"]))
def test_no_comment_is_longer_than_hosts_take(char: str) -> None:
    """A stranger may choose names, and how many there are; what failed is shown all the same."""
    long = char * 4000
    comment = Report(
        HEAD,
        "failure",
        long,
        details=long * 9,
        notes=(long,) * 5000,
        images=tuple(ImageReport(f"{long}{n}", (long,) * 9, "built") for n in range(1000)),
        failure=FailureReport("apps__hello__staged", long * 9, long * 9),
    ).comment
    assert len(comment) <= 65_536
    assert "**`apps__hello__staged` failed**" in comment
    assert "- and 4980 more" in comment


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_what_strangers_write_stays_text(name: str, log: str) -> None:
    """Nothing of it ends the block or the cell that it stands in."""
    failure = FailureReport(name, log, log)
    comment = Report(HEAD, "failure", "x", notes=(name,), images=(ImageReport(name, (log,)),), failure=failure).comment
    lines = comment.split("\n")
    fences = [line for line in lines if line.startswith("```")]
    assert len(fences) % 2 == 0
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| image")]
    assert len(rows) == 1
    assert rows[0].replace("\\|", "").count("|") == 5


def test_mentions_and_links_stand_in_code() -> None:
    evil = "`x` @everyone [click](http://evil) <img src=x> | y"
    row = next(
        line
        for line in Report(HEAD, "failure", "x", images=(ImageReport(evil, ()),)).comment.split("\n")
        if "everyone" in line
    )
    assert row.startswith("| `` `x` @everyone [click](http://evil) <img src=x> \\| y ``")


def test_a_summary_with_the_path_of_a_stranger_stands_in_code() -> None:
    evil = "cannot be built: images/`x` @everyone [click](http://evil)/tests.json:1: not JSON"
    lines = Report(HEAD, "failure", evil).comment.split("\n")
    assert [line for line in lines if "everyone" in line] == [f"``{evil}``"]


def test_a_bar_has_a_backslash_only_in_the_table() -> None:
    failure = FailureReport("a|b", "c|d", "e|f")
    report = Report(HEAD, "failure", "g|h", notes=("i|j",), images=(ImageReport("k|l", ("m|n",)),), failure=failure)
    lines = report.comment.split("\n")
    assert [line for line in lines if "\\|" in line] == ["| `k\\|l` | `m\\|n` |  |  |"]
    assert {"`g|h`", "- `i|j`", "**`a|b` failed**", "c|d", "e|f"} <= set(lines)
