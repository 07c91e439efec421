"""`dagster dev` for a repository of image folders: the Dagster UI and its daemon.

`python -m` this module, with a workspace file and the port of the UI, becomes it.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from aml_images_dagster.cli.instance import open_instance
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.settings import ENV_PREFIX, load_settings

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings

_HOST = "127.0.0.1"


def become_dagster_dev(settings: Settings, workspace: str, port: str) -> NoReturn:
    """Go on as `dagster dev`.

    Args:
        settings: Which repository it serves, and where the instance is.
        workspace: Absolute path of the file that names the code location.
        port: Where the UI listens on loopback.
    """
    home = open_instance(settings).root_directory
    os.environ[f"{ENV_PREFIX}REPO"] = str(settings.repo)
    if "ui_url" not in settings.pull_requests.model_fields_set:
        os.environ[f"{ENV_PREFIX}PULL_REQUESTS__UI_URL"] = f"http://{_HOST}:{port}"
    # It puts the .env of the folder that it is started in above the environment. The settings read that of the
    # repository by themselves, below the environment.
    os.chdir(home)
    # A shell lets what it starts in the background ignore SIGINT, and Dagster takes SIGTERM as it takes SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    dagster = [sys.executable, "-m", "dagster", "dev", "--workspace", workspace, "--host", _HOST, "--port", port]
    os.execv(sys.executable, dagster)  # noqa: S606 - a list, without a shell


if __name__ == "__main__":
    try:
        become_dagster_dev(load_settings(), *sys.argv[1:])
    except FactoryError as error:
        click.echo(f"aml-images: {error}", err=True)
        sys.exit(error.exit_code)
