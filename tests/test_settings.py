"""Where a setting comes from, and what a wrong one says."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.errors import BadInput
from aml_images_dagster.settings import Settings, find_repository, load_settings


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(("AML_IMAGES_", "STAGING_CLIENT_")):
            monkeypatch.delenv(name)


def table(repo: Path, text: str) -> None:
    (repo / "pyproject.toml").write_text(f"[tool.aml-images]\n{text}\n")


def refusal(repo: Path, **options: object) -> str:
    with pytest.raises(BadInput) as refused:
        load_settings(repo=repo, **options)
    assert refused.value.__cause__ is None
    return str(refused.value)


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings(repo=tmp_path)
    assert settings.profile == "local"
    assert settings.home == tmp_path / ".aml-images"
    assert settings.artifacts_uri == str(tmp_path / ".aml-images" / "artifacts")
    assert settings.published_as == ("mcr.microsoft.com/azureml/{name}",)
    assert settings.base_mirrors == {}


def test_the_first_place_that_has_a_value_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def path(**options: object) -> str:
        return load_settings(repo=tmp_path, **options).docker_files_path

    assert path() == "base_images/docker/public"
    table(tmp_path, 'docker-files-path = "table"')
    assert path() == "table"
    (tmp_path / ".env").write_text("AML_IMAGES_DOCKER_FILES_PATH=dotenv\n")
    assert path() == "dotenv"
    monkeypatch.setenv("AML_IMAGES_DOCKER_FILES_PATH", "environment")
    assert path() == "environment"
    assert path(docker_files_path="option") == "option"
    assert path(docker_files_path=None) == "environment"


def test_an_empty_variable_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AML_IMAGES_DOCKER_FILES_PATH", "")
    assert load_settings(repo=tmp_path).docker_files_path == "base_images/docker/public"


def test_other_variables_of_dotenv_are_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PATH_OF_SOMETHING=1\nAML_IMAGES_PARALLEL=3\n")
    assert load_settings(repo=tmp_path).parallel == 3


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('published-as = ["a.example/{name}", "b.example/{name}"]', ("a.example/{name}", "b.example/{name}")),
        ('published-as = "a.example/{name};b.example/{name}"', ("a.example/{name}", "b.example/{name}")),
    ],
)
def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, expected: tuple[str, ...]) -> None:
    table(tmp_path, written)
    assert load_settings(repo=tmp_path).published_as == expected
    monkeypatch.setenv("AML_IMAGES_PUBLISHED_AS", "c.example/{name};;d.example/{name};")
    assert load_settings(repo=tmp_path).published_as == ("c.example/{name}", "d.example/{name}")
    assert load_settings(repo=tmp_path, published_as=("e.example/{name}",)).published_as == ("e.example/{name}",)


def test_patterns_of_images_search_the_whole_repository_unless_told_otherwise(tmp_path: Path) -> None:
    table(tmp_path, 'image-paths = "src/{name}/.devcontainer; src/{os} = a/{os}"')
    settings = load_settings(repo=tmp_path)
    assert settings.image_paths == ("src/{name}/.devcontainer", "src/{os} = a/{os}")
    assert settings.docker_files_path == "."
    assert load_settings(repo=tmp_path, docker_files_path="src").docker_files_path == "src"


def test_mappings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path, 'base-mirrors = { "docker.io" = "mirror.example/hub" }')
    assert load_settings(repo=tmp_path).base_mirrors == {"docker.io": "mirror.example/hub"}
    monkeypatch.setenv("AML_IMAGES_BASE_MIRRORS", "docker.io=mirror.example/hub; quay.io = mirror.example/quay ;")
    assert load_settings(repo=tmp_path).base_mirrors == {
        "docker.io": "mirror.example/hub",
        "quay.io": "mirror.example/quay",
    }


@pytest.mark.parametrize(
    ("host", "setting"),
    [
        ("staging.example", "staging_registry"),
        ("production.example:5001", "production_registry"),
        ("Mirror.example", "base_mirrors"),
        ("10.0.0.5:5000", "trusted_registries"),
        ("other.example", "trusted_registries"),
        ("docker.io", ""),
        ("10.0.0.5", ""),
        ("127.0.0.1:5000", ""),
    ],
)
def test_registries_that_a_setting_names_are_trusted(tmp_path: Path, host: str, setting: str) -> None:
    settings = load_settings(
        repo=tmp_path,
        staging_registry="staging.example",
        production_registry="production.example:5001",
        base_mirrors="docker.io=mirror.example/hub",
        trusted_registries=" 10.0.0.5:5000 ;other.example;",
    )
    assert settings.naming(host) == setting
    assert settings.trusts(host) is bool(setting)


@pytest.mark.parametrize("pairs", ["docker.io", "docker.io=", "=mirror.example", "a=b;c"])
def test_a_mapping_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: str) -> None:
    monkeypatch.setenv("AML_IMAGES_BASE_MIRRORS", pairs)
    message = refusal(tmp_path)
    assert "AML_IMAGES_BASE_MIRRORS (environment): write it as" in message
    assert "name=value;name=value" in message


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("docker-file-path", "Did you mean 'docker-files-path'?"),
        ("docker_files_path", "Did you mean 'docker-files-path'?"),
        ("zzz", "Known keys: artifacts, automation, azure"),
    ],
)
def test_an_unknown_key(tmp_path: Path, key: str, hint: str) -> None:
    table(tmp_path, f'{key} = "x"')
    message = refusal(tmp_path)
    assert f"unknown key '{key}' in [tool.aml-images]" in message
    assert hint in message
    assert str(tmp_path / "pyproject.toml") in message


def test_all_mistakes_of_the_table_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AML_IMAGES_HOST_PATIENCE_SECONDS", "0")
    table(
        tmp_path,
        'staging-registri = "x"\nparallel = -3\nprofile = "azur"\n'
        f'azure = {{zzz = 1}}\nrelease = 3\nstaging-client-secret = "{SECRET}"',
    )
    where = tmp_path / "pyproject.toml"
    message = refusal(tmp_path)
    for said in (
        f"{where}: unknown key 'staging-registri' in [tool.aml-images]. Did you mean 'staging-registry'?",
        f"parallel in [tool.aml-images] of {where}: must be at least 1, not -3",
        f'profile in [tool.aml-images] of {where}: must be "local" or "azure", not "azur"',
        f"{where}: unknown key 'zzz' in [tool.aml-images.azure]. Known keys: ",
        f"{where}: [tool.aml-images.release] is not a table. ",
        f"{where}: staging-client-secret in [tool.aml-images] is a secret, and this file is committed. ",
        "AML_IMAGES_HOST_PATIENCE_SECONDS (environment): must be more than 0",
    ):
        assert f"\n  {said}" in message
    assert SECRET not in message


def test_a_group_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.aml-images.azure]\nzzz = 1\n")
    assert "unknown key 'zzz' in [tool.aml-images.azure]" in refusal(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.aml-images]\nazure = 1\n")
    assert "[tool.aml-images.azure] is not a table" in refusal(tmp_path)
    (tmp_path / "pyproject.toml").unlink()
    monkeypatch.setenv("AML_IMAGES_AZURE__ZZZ", "1")
    assert "AML_IMAGES_AZURE__ZZZ (environment): there is no such setting" in refusal(tmp_path)
    monkeypatch.delenv("AML_IMAGES_AZURE__ZZZ")
    monkeypatch.setenv("AML_IMAGES_AZURE__WORKSPAC", "1")
    assert "did you mean AML_IMAGES_AZURE__WORKSPACE?" in refusal(tmp_path)
    monkeypatch.delenv("AML_IMAGES_AZURE__WORKSPAC")
    monkeypatch.setenv("AML_IMAGES_AZURE", "images")
    assert "AML_IMAGES_AZURE (environment): this is a group of settings" in refusal(tmp_path)


def test_the_code_location_is_reloaded_by_the_ui_unless_a_sign_in_stands_before_it(tmp_path: Path) -> None:
    table(tmp_path, 'pull-requests = {ui-url = "https://images.example"}')
    assert load_settings(repo=tmp_path).pull_requests.reload_url == "https://images.example"
    inner = 'pull-requests = {ui-url = "https://images.example", webserver-url = "http://127.0.0.1:3001"}'
    table(tmp_path, inner)
    settings = load_settings(repo=tmp_path).pull_requests
    assert (settings.ui_url, settings.reload_url) == ("https://images.example", "http://127.0.0.1:3001")


def test_a_secret_is_refused_where_it_would_be_committed(tmp_path: Path) -> None:
    table(tmp_path, f'staging-client-secret = "{SECRET}"')
    with pytest.raises(BadInput, match="STAGING_CLIENT_SECRET") as refused:
        load_settings(repo=tmp_path)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "text", ["[tool.aml-images", "[tool]\naml-images = 3\n", "tool = 3\n", "[[tool.aml-images]]\nparallel = 2\n"]
)
def test_a_pyproject_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert str(tmp_path / "pyproject.toml") in refusal(tmp_path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe")
    assert str(tmp_path / "pyproject.toml") in refusal(tmp_path)
    (tmp_path / "pyproject.toml").unlink()
    (tmp_path / ".env").write_bytes(b"AML_IMAGES_PARALLEL=\xff\n")
    assert str(tmp_path / ".env") in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("profile", "cloud", 'must be "local" or "azure", not "cloud"'),
        ("parallel", "0", 'must be at least 1, not "0"'),
        ("parallel", "many", 'must be a whole number, not "many"'),
        ("min_free_gb", "-1", 'must be at least 0, not "-1"'),
        ("build_timeout_minutes", "0", 'must be more than 0, not "0"'),
        ("build_timeout_minutes", "an hour", 'must be a number, not "an hour"'),
        ("open_source__after_release", "maybe", 'must be true or false, not "maybe"'),
        ("production_names", "public/{nmae}", "write a repository with {name}"),
        ("production_names", "public/azureml", "write a repository with {name}"),
        ("production_names", "public/{name", "a brace is not closed"),
        ("release__windows", "always", "'always' is no release window"),
        ("staging_registry", "http://127.0.0.1:5000", "write host and port alone, without http://"),
        ("production_registry", "registry.example/images", "write host and port alone, without http://"),
        ("production_names", "public/{name:>9}", "write nothing but a name between braces"),
        ("keep_staged_days", "1000000", 'must be at most 36500, not "1000000"'),
        ("keep_failed_hours", "inf", "must be"),
        ("home", "~nobody-here/x", "there is no home folder ~nobody-here"),
        ("artifacts", "~nobody-here", "there is no home folder ~nobody-here"),
        ("build_secrets", "pip=file:~nobody-here/x", "there is no home folder ~nobody-here"),
        ("trust__roots", "a.pem;~nobody-here/x", "there is no home folder ~nobody-here"),
        ("staging_registry", "[::1", "write host and port alone"),
        ("staging_registry", "robot:secret@registry.example", "write host and port alone, without http://, a login"),
        ("trusted_registries", "10.0.0.5;https://registry.example", "write host and port alone, without http://"),
    ],
)
def test_a_wrong_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str) -> None:
    variable = f"AML_IMAGES_{name.upper()}"
    monkeypatch.setenv(variable, value)
    assert refusal(tmp_path).startswith(f"{variable} (environment): {what}")
    monkeypatch.delenv(variable)
    (tmp_path / ".env").write_text(f"{variable}='{value}'\n")
    assert refusal(tmp_path).startswith(f"{variable} in {tmp_path / '.env'}: {what}")


def test_every_wrong_value_is_told_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path, 'parallel = "x"\nbase-mirrors = { "docker.io" = 3 }\n[tool.aml-images.azure]\njob-poll-seconds = 0')
    monkeypatch.setenv("AML_IMAGES_MIN_FREE_GB", "some")
    first, *faults, _ = refusal(tmp_path, docker_files_path=3).splitlines()
    pyproject = tmp_path / "pyproject.toml"
    assert first == "several settings are wrong:"
    assert sorted(fault.strip() for fault in faults) == [
        "--docker-files-path: must be text, not 3",
        'AML_IMAGES_MIN_FREE_GB (environment): must be a number, not "some"',
        f"docker.io in [tool.aml-images.base-mirrors] of {pyproject}: must be text, not 3",
        f"job-poll-seconds in [tool.aml-images.azure] of {pyproject}: must be more than 0, not 0",
        f'parallel in [tool.aml-images] of {pyproject}: must be a whole number, not "x"',
    ]


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nowhere")


SECRET = "correct-horse-battery"


def test_a_secret_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGING_CLIENT_ID", "someone")
    monkeypatch.setenv("STAGING_CLIENT_SECRET", SECRET)
    settings = load_settings(repo=tmp_path)
    assert settings.staging_client_secret is not None
    assert settings.staging_client_secret.get_secret_value() == SECRET
    assert settings.staging_client_id == "someone"
    for text in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert SECRET not in text


def test_a_secret_is_not_in_the_words_about_another_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGING_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("AML_IMAGES_PARALLEL", "many")
    with pytest.raises(BadInput) as refused:
        load_settings(repo=tmp_path)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_home_is_relative_to_the_repository_or_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AML_IMAGES_HOME", "state")
    assert load_settings(repo=tmp_path).home == tmp_path / "state"
    monkeypatch.setenv("AML_IMAGES_HOME", str(tmp_path / "elsewhere"))
    assert load_settings(repo=tmp_path).home == tmp_path / "elsewhere"


def test_artifacts_may_be_a_uri(tmp_path: Path) -> None:
    assert load_settings(repo=tmp_path, artifacts="memory://builds").artifacts_uri == "memory://builds"


def test_a_folder_of_artifacts_is_the_same_for_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repository" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repository" / "inside")
    found = load_settings(repo=tmp_path / "repository", artifacts="out/builds").artifacts_uri
    assert found == str(tmp_path / "repository" / "out" / "builds")
    assert load_settings(repo=tmp_path, artifacts=str(tmp_path / "a")).artifacts_uri == str(tmp_path / "a")


def test_the_repository_around_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "repository" / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    assert find_repository(inner) == tmp_path / "repository"
    monkeypatch.chdir(inner)
    assert load_settings().repo == tmp_path / "repository"
    monkeypatch.setenv("AML_IMAGES_REPO", str(tmp_path))
    assert load_settings().repo == tmp_path


def test_settings_stay_as_they_are(tmp_path: Path) -> None:
    settings = load_settings(repo=tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        settings.parallel = 5  # type: ignore[misc]


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}\.io", fullmatch=True), st.from_regex(r"[a-z/]{1,8}", fullmatch=True)))
def test_a_mapping_reads_the_same_in_both_forms(mirrors: dict[str, str]) -> None:
    joined = ";".join(f"{prefix}={mirror}" for prefix, mirror in mirrors.items())
    repo = Path.cwd()
    assert Settings(repo=repo, base_mirrors=joined).base_mirrors == mirrors  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("half", "missing"),
    [
        ("STAGING_CLIENT_ID", "STAGING_CLIENT_SECRET is not set"),
        ("STAGING_CLIENT_SECRET", "STAGING_CLIENT_ID is not set"),
    ],
)
def test_half_an_account_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: str, missing: str) -> None:
    for name in ("STAGING_CLIENT_ID", "STAGING_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(half, "correct-horse-battery")
    with pytest.raises(BadInput, match=f"^{missing}") as refused:
        load_settings(repo=tmp_path)
    assert "correct-horse-battery" not in str(refused.value)
