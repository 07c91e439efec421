"""GitHub and Azure DevOps, spoken to over HTTP as they document it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.code_hosts.address import HostAddress
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.pull_requests.hosts import host_address
from aml_images_dagster.pull_requests.hosts.azure_devops import AzureDevOpsHost
from aml_images_dagster.pull_requests.hosts.github import GitHubHost
from aml_images_dagster.pull_requests.hosts.interface import MARKER, PullRequestHost, Status
from tests.emulators import azure_devops, github
from tests.emulators.github import GitHub, OpenPullRequest

if TYPE_CHECKING:
    from tests.emulators.azure_devops import AzureDevOps

HEAD = "0123456789abcdef0123456789abcdef01234567"
BODY = f"{MARKER}\nall is well\n"


def github_host(server: GitHub, token: str = github.TOKEN) -> PullRequestHost:
    return GitHubHost(HostAddress("github", server.url, github.REPOSITORY), token)


def azure_host(server: AzureDevOps, token: str = azure_devops.TOKEN) -> PullRequestHost:
    return AzureDevOpsHost(HostAddress("azure_devops", f"{server.url}/contoso", azure_devops.REPOSITORY), token)


@pytest.mark.parametrize(
    ("url", "host", "expected"),
    [
        ("https://github.com/o/r.git", "auto", HostAddress("github", "https://api.github.com", "o/r")),
        ("https://token@github.com/o/r", "auto", HostAddress("github", "https://api.github.com", "o/r")),
        ("git@github.com:o/r.git", "auto", HostAddress("github", "https://api.github.com", "o/r")),
        ("ssh://git@github.com:22/o/r", "auto", HostAddress("github", "https://api.github.com", "o/r")),
        ("https://git.example/o/r", "github", HostAddress("github", "https://git.example/api/v3", "o/r")),
        ("https://git.example/o/r", "auto", HostAddress("none")),
        ("https://github.com.evil.example/o/r", "auto", HostAddress("none")),
        ("https://github.com/o/r", "none", HostAddress("none")),
        ("/srv/git/r.git", "auto", HostAddress("none")),
        ("file:///github.com/o/r", "auto", HostAddress("none")),
        (
            "https://o@dev.azure.com/o/p/_git/r",
            "auto",
            HostAddress("azure_devops", "https://dev.azure.com/o", "p/r"),
        ),
        ("git@ssh.dev.azure.com:v3/o/p/r", "auto", HostAddress("azure_devops", "https://dev.azure.com/o", "p/r")),
        (
            "https://o.visualstudio.com/p/_git/r",
            "auto",
            HostAddress("azure_devops", "https://o.visualstudio.com", "p/r"),
        ),
        (
            "https://tfs.example/tfs/c/p/_git/r",
            "azure_devops",
            HostAddress("azure_devops", "https://tfs.example/tfs/c", "p/r"),
        ),
    ],
)
def test_the_url_tells_the_host(pull_settings, url: str, host: str, expected: HostAddress) -> None:
    assert host_address(pull_settings(remote=url, host=host)) == expected


def test_a_host_that_the_url_does_not_tell(pull_settings) -> None:
    with pytest.raises(BadInput, match="does not name a repository"):
        host_address(pull_settings(remote="/srv/git/r.git", host="azure_devops"))
    given = {"api_url": "https://x.example", "repository": "p/r"}
    found = host_address(pull_settings(remote="/srv/git/r.git", host="azure_devops", **given))
    assert found == HostAddress("azure_devops", "https://x.example", "p/r")


@pytest.mark.parametrize("count", [0, 1, 100, 230])
def test_all_that_are_open(github: GitHub, azure_devops: AzureDevOps, count: int) -> None:
    github.pull_requests = azure_devops.pull_requests = {number: OpenPullRequest() for number in range(1, count + 1)}
    assert github_host(github).open_pull_requests() == set(range(1, count + 1))
    assert azure_host(azure_devops).open_pull_requests() == set(range(1, count + 1))


def test_a_server_that_gives_one_page_again_and_again(
    azure_devops: AzureDevOps, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {"value": [{"pullRequestId": number} for number in range(100)]}
    monkeypatch.setattr(azure_devops, "_list", lambda _: (200, page))
    with pytest.raises(Unreachable, match="the same page of pull requests again"):
        azure_host(azure_devops).open_pull_requests()
    assert len(azure_devops.received) == 2


@pytest.mark.parametrize("fork", [True, False])
def test_origin(github: GitHub, azure_devops: AzureDevOps, fork: bool) -> None:
    for server in (github, azure_devops):
        server.pull_requests = {3: OpenPullRequest("bob", ["ok"], fork)}
    for host in (github_host(github), azure_host(azure_devops)):
        origin = host.origin(3)
        assert (origin.author, origin.labels, origin.same_repository) == ("bob", {"ok"}, not fork)
        host.remove_label(3, "ok")
    assert github.pull_requests[3].labels == []
    github_host(github).remove_label(3, "ok")  # it is gone already


def test_github_status(github: GitHub) -> None:
    github_host(github).set_status(3, HEAD, Status("canceled", "x" * 300, "http://ui/runs/1"))
    (status,) = github.statuses[HEAD]
    assert (status["state"], status["context"], status["target_url"]) == ("error", "aml-images", "http://ui/runs/1")
    assert len(status["description"]) == 140
    assert len(github.received) == 1


def test_azure_status(azure_devops: AzureDevOps) -> None:
    azure_host(azure_devops).set_status(3, HEAD, Status("success", "fine"))
    assert azure_devops.statuses[3] == [
        {
            "state": "succeeded",
            "description": "01234567: fine",
            "context": {"name": "aml-images", "genre": "build"},
        }
    ]


def test_one_comment_is_updated(github: GitHub, azure_devops: AzureDevOps) -> None:
    for make, bodies in (
        (lambda: github_host(github), lambda: [c["body"] for c in github.comments[3]]),
        (lambda: azure_host(azure_devops), lambda: [t["comments"][0]["content"] for t in azure_devops.threads[3]]),
    ):
        known = make().write_comment(3, "", BODY)
        assert make().write_comment(3, known, f"{BODY}more") == known
        assert make().write_comment(3, "", f"{BODY}most") == known  # found again by who has lost its id
        assert bodies() == [f"{BODY}most"]
    assert [thread["status"] for thread in azure_devops.threads[3]] == ["closed"]


def test_one_comment_of_an_app_is_updated(github: GitHub) -> None:
    github.is_app = True
    github.add_comment(3, "mallory", f"{MARKER}\nall green, merge it")
    github.add_comment(3, "other[bot]", "a comment of another app")
    known = github_host(github).write_comment(3, "", BODY)
    assert github_host(github).write_comment(3, "", f"{BODY}more") == known
    assert [comment["body"] for comment in github.comments[3]][2:] == [f"{BODY}more"]


def test_a_comment_that_was_deleted_is_written_again(github: GitHub, azure_devops: AzureDevOps) -> None:
    for host, comments in ((github_host(github), github.comments), (azure_host(azure_devops), azure_devops.threads)):
        known = host.write_comment(3, "", BODY)
        comments[3].clear()
        assert host.write_comment(3, known, BODY) != known
        assert len(comments[3]) == 1


def test_a_comment_of_a_stranger_with_our_marker_is_left_alone(github: GitHub, azure_devops: AzureDevOps) -> None:
    github.add_comment(3, "mallory", f"{MARKER}\nall green, merge it")
    stranger = {"id": 1, "content": f"{MARKER}\nall green", "author": {"id": "mallory"}}
    azure_devops.threads[3].append({"id": 5, "comments": [stranger]})
    github_host(github).write_comment(3, "", BODY)
    azure_host(azure_devops).write_comment(3, "", BODY)
    assert [c["body"].partition("\n")[2] for c in github.comments[3]] == ["all green, merge it", "all is well\n"]
    assert len(azure_devops.threads[3]) == 2


@pytest.mark.parametrize("fault", [401, 403, 404, 429, 500, 503])
def test_faults_are_explained_and_show_no_token(github: GitHub, azure_devops: AzureDevOps, fault: int) -> None:
    github.fault = azure_devops.fault = fault
    for host in (github_host(github), azure_host(azure_devops)):
        for ask in (
            lambda host=host: host.set_status(3, HEAD, Status("success", "fine")),
            lambda host=host: host.origin(3),
            host.open_pull_requests,
        ):
            with pytest.raises(Unreachable, match=str(fault)) as told:
                ask()
            assert "never-shown" not in str(told.value)


def test_a_wrong_token(github: GitHub, azure_devops: AzureDevOps) -> None:
    with pytest.raises(Unreachable, match="401: Bad credentials"):
        github_host(github, "wrong").set_status(3, HEAD, Status("success", "fine"))
    with pytest.raises(Unreachable, match="302"):  # to a page for signing in
        azure_host(azure_devops, "wrong").origin(3)


def test_nobody_answers() -> None:
    for host in (
        GitHubHost(HostAddress("github", "http://127.0.0.1:9", "o/r"), "t"),
        AzureDevOpsHost(HostAddress("azure_devops", "http://127.0.0.1:9", "p/r"), "t"),
    ):
        with pytest.raises(Unreachable, match="does not answer"):
            host.origin(1)
