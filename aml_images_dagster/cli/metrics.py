"""`aml-images metrics`."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from aml_images_dagster.cli.options import common_options
from aml_images_dagster.errors import BadInput
from aml_images_dagster.metrics import Exporter, StoreMetrics
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from aml_images_dagster.metrics import MetricSource
    from aml_images_dagster.settings import Settings

_MOST_PORTS = 65535


@click.command("metrics")
@click.option("--listen", metavar="HOST:PORT", help="Serve at this address until it is ended, e.g. 127.0.0.1:9464.")
@click.option(
    "--textfile",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write this file once, for the textfile collector of the node exporter.",
)
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    default=30,
    show_default=True,
    help="Seconds between two reads of the artifacts and the Dagster instance.",
)
@common_options
def command(settings: Settings, as_json: bool, listen: str | None, textfile: Path | None, interval: float) -> None:
    """Serve or write metrics for Prometheus: builds, times, reuse, cleanups, releases, sensors. Changes nothing.

    They are read from the artifacts and the Dagster instance, so it runs wherever both can be reached, once for all
    processes of the factory. docs/operate.md lists them.
    """
    if (listen is None) is (textfile is None):
        raise BadInput("give --listen or --textfile", where="metrics", hint="One of them, and not both.")
    if as_json:
        raise BadInput("the format is Prometheus' own", where="--json", hint="Leave it out.")
    if textfile is not None and not textfile.parent.is_dir():
        raise BadInput(
            "there is no such folder", where=f"--textfile {textfile.parent}", hint="Name another, or make it."
        )
    address = _address(listen) if listen is not None else None
    exporter = _exporter(settings)
    if textfile is not None:
        exporter.refresh()
        exporter.write(textfile)
        return
    assert address is not None  # noqa: S101 - one of the two is given
    _serve(exporter, *address, interval)


def _exporter(settings: Settings) -> Exporter:
    from aml_images_dagster.cli.instance import open_instance  # Dagster takes seconds to import
    from aml_images_dagster.defs.operations.run_metrics import RunMetrics

    sources: list[MetricSource] = [
        StoreMetrics(backends_for(settings).artifacts, settings),
        RunMetrics(open_instance(settings)),
    ]
    return Exporter(sources, lambda reason: click.echo(f"warning: {printable(reason)}", err=True))


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    is_host = host and (":" not in host or (host.startswith("[") and host.endswith("]")))
    if not is_host or not port.isdecimal() or not 0 < int(port) <= _MOST_PORTS:
        raise BadInput(f"{listen!r} is no address", where="--listen", hint="Write HOST:PORT, e.g. 127.0.0.1:9464.")
    return host, int(port)


def _serve(exporter: Exporter, host: str, port: int, interval: float) -> NoReturn:
    listen = f"{host}:{port}"
    exporter.refresh()
    try:
        exporter.serve(host.strip("[]"), port)
    except OSError as error:
        raise BadInput(
            f"the address cannot be had: {error.strerror or error}",
            where=f"--listen {listen}",
            hint="End what listens there, or give another address.",
        ) from None
    # Dagster takes SIGTERM as it takes SIGINT, which a shell lets what it starts in the background ignore.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    click.echo(f"Metrics at http://{listen}/metrics", err=True)
    while True:
        time.sleep(interval)
        exporter.refresh()
