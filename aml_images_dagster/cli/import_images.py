"""`aml-images import --from import.cfg`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click
from pydantic import SecretStr

from aml_images_dagster.cli.options import common_options
from aml_images_dagster.cli.release import How, release_options, run_release, show_plan
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.release.actor import stated
from aml_images_dagster.release.candidate import check_staging
from aml_images_dagster.release.drop import read_drop, resolve_login

if TYPE_CHECKING:
    from aml_images_dagster.release.import_cfg import ImportCfg
    from aml_images_dagster.settings import Settings


@click.command("import")
@click.option(
    "--from",
    "cfg_path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The import.cfg of a drop, with release.json beside it.",
)
@release_options("Import")
@common_options
def command(
    settings: Settings,
    as_json: bool,
    cfg_path: Path,
    dry_run: bool,
    **how: Unpack[How],
) -> None:
    """Release a drop: import what its import.cfg names into production. Follows the rules of a release.

    import.cfg names two environment variables; they hold the account that reads the staging registry.
    """
    how["outside_window"] = stated(how["outside_window"], "--outside-window")
    release, cfg = read_drop(cfg_path)
    login = resolve_login(cfg)
    if login is not None:
        secret = SecretStr(login.password)
        settings = settings.model_copy(update={"staging_client_id": login.username, "staging_client_secret": secret})
    backends = backends_for(settings)
    try:
        check_staging(release, backends.staging)
    except Unreachable as refused:
        if login is not None:
            raise
        raise BadInput(
            refused.what,
            where=refused.where,
            hint=f"{refused.hint} {_references(cfg)} are not set in the environment.".strip(),
        ) from None
    if dry_run:
        show_plan(settings, backends, release, as_json)
    else:
        sys.exit(run_release(settings, backends, release, as_json, **how))


def _references(cfg: ImportCfg) -> str:
    source = cfg.root[0].source
    return f"{source.registry_username} and {source.registry_password}, which import.cfg refers to,"
