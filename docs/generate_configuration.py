"""Write the table of docs/configuration.md and the whole of .env.example, from the settings themselves.

Run `python docs/generate_configuration.py` after a change in `aml_images_dagster/settings/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AliasChoices
from pydantic_core import PydanticUndefined

from aml_images_dagster.settings import ENV_PREFIX, Settings
from aml_images_dagster.settings.group import every_setting, is_secret

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / ".env.example"

BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"

# Named on the command line or by where it is; a file inside of the repository cannot say where the repository is.
FOUND_BEFORE_FILES = {"repo"}
# The table of pyproject.toml is committed: neither secrets nor who they belong to.
NEVER_COMMITTED = {"staging_client_id"}

COMPUTED = {
    "repo": "the repository around the current folder",
    "artifacts": "`<home>/artifacts`",
    "parallel": "number of processors, at least 2",
    "parallel_tests": "`parallel` in the profile local, else 8",
    "base_mirrors": "none",
    "automation": "off in the profile local, else on",
    "pull_requests.api_url": "derived from the URL of the remote",
    "pull_requests.repository": "derived from the URL of the remote",
    "pull_requests.refs": "`refs/pull/*/merge` at Azure DevOps, else `refs/pull/*/head`",
    "pull_requests.target_branch": "the main branch of the remote",
    "pull_requests.build_network": "the engine's own",
    "trust.signing_key": "in the profile local a test key",
    "trust.roots": "in the profile local the test key",
}
# Two that the settings do not describe themselves.
MEANINGS = {
    "staging_client_id": "Account that pushes to and pulls from staging; none for an open registry.",
    "staging_client_secret": "Password of that account. The factory never writes it anywhere.",
}
REGISTRIES = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/images/providers"
    "/Microsoft.ContainerRegistry/registries"
)
EXAMPLES = {
    "open_source.docs_repository": "https://git.example/registry-docs",
    "artifacts": "/var/lib/aml-images/artifacts",
    "base_mirrors": "docker.io=mirror.example/hub",
    "trusted_registries": "registry.corp.example;10.0.0.5:5000",
    "docker_host": "unix:///var/run/docker.sock",
    "windows_docker_host": "tcp://windows.example:2376",
    "builder": "builders",
    "build_cache": "registry.example/cache",
    "build_secrets": "pip=env:PIP_TOKEN;netrc=file:~/.netrc",
    "frontends": "docker/dockerfile=mirror.example/docker/dockerfile",
    "build_network": "host",
    "parallel": "2",
    "source_commit": "HEAD",
    "automation": "on",
    "trust.release_verified": "true",
    "vulnerabilities.apt_mirrors": "debian=http://mirror.example/debian",
    "release.windows": "Mon-Thu 09:00-17:00; Fri 09:00-12:00",
    "release.public_names": "mcr.microsoft.com/azureml/{name}",
    "release.who": "release pipeline",
    "pull_requests.api_url": "https://git.example/api/v3",
    "pull_requests.repository": "contoso/images",
    "pull_requests.refs": "refs/pull/*/head",
    "pull_requests.target_branch": "main",
    "pull_requests.build_network": "bridge",
    "trust.signing_key": "https://contoso.vault.azure.net/certificates/images",
    "trust.signing_certificates": "/etc/aml-images/chain.pem",
    "trust.timestamp_url": "https://timestamps.example/",
    "trust.roots": "/etc/aml-images/root.pem",
    "trust.identities": "C=US, ST=WA, O=Contoso, CN=image factory",
    "trust.timestamp_roots": "/etc/aml-images/timestamp-root.pem",
    "azure.management_endpoint": "https://management.azure.com",
    "azure.identity_client_id": "00000000-0000-0000-0000-000000000000",
    "azure.subscription_id": "00000000-0000-0000-0000-000000000000",
    "azure.resource_group": "images",
    "azure.workspace": "images",
    "azure.compute": "cpu-cluster",
    "azure.staging_registry_id": f"{REGISTRIES}/contosostaging",
    "azure.production_registry_id": f"{REGISTRIES}/contoso",
}

HEADER = """\
# Settings of aml-images; copy to .env in the root of the repository of image folders, which git ignores.
# Every setting is explained in docs/configuration.md. Written by docs/generate_configuration.py.
"""


def settings() -> list[tuple[str, FieldInfo]]:
    """Every setting by its name, `group.name` for those of a group."""
    return [(".".join(path), field) for path, field in every_setting(Settings)]


def variable(name: str, field: FieldInfo) -> str:
    """The environment variable of a setting."""
    if isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[0])
    return ENV_PREFIX + name.replace(".", "__").upper()


def meaning(name: str, field: FieldInfo) -> str:
    """What a setting says, as a sentence."""
    return field.description or MEANINGS[name]


def value(name: str, field: FieldInfo) -> str:
    """The default as a variable is written; empty when there is none that can be written."""
    default = field.default
    if default in (PydanticUndefined, None, {}) or name in COMPUTED:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return ";".join(default) if isinstance(default, tuple) else str(default)


def default_text(name: str, field: FieldInfo) -> str:
    """The default for the table."""
    written = value(name, field)
    return COMPUTED.get(name) or (f"`{written}`" if written else "none")


def table() -> str:
    """The table, in Markdown."""
    rows = ["| key in pyproject.toml | environment variable | default | meaning |", "|---|---|---|---|"]
    for name, field in settings():
        text = meaning(name, field).replace("<", "&lt;")
        elsewhere = name in FOUND_BEFORE_FILES | NEVER_COMMITTED or is_secret(field)
        key = "-" if elsewhere else f"`{name.replace('_', '-')}`"
        rows.append(f"| {key} | `{variable(name, field)}` | {default_text(name, field)} | {text} |")
    return "\n".join(rows) + "\n"


def env_example() -> str:
    """The text of .env.example: every variable with its default or an example, commented out."""
    blocks = [HEADER]
    for name, field in settings():
        if name in FOUND_BEFORE_FILES:
            continue
        written = value(name, field) or EXAMPLES.get(name, "")
        kind = "Default" if value(name, field) else "Example"
        note = f" {kind}:" if written else ""
        blocks.append(f"# {meaning(name, field)}{note}\n# {variable(name, field)}={_quoted(written)}\n")
    return "\n".join(blocks)


def page(text: str) -> str:
    """The page with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _quoted(text: str) -> str:
    return json.dumps(text) if set(text) & set(" ;#{}") else text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    EXAMPLE.write_text(env_example(), "utf-8")
