"""What the server imports from which tests fork commands; every fork would import it again.

It makes no definitions: they are those of a command's own folder. And nothing of Azure's: aiohttp reads SSL_CERT_FILE
when it is imported.
"""

import gc
from importlib import import_module

gc.disable()
for name in (
    "aml_images_dagster.cli.dagster_run",
    "aml_images_dagster.definitions",
    "aml_images_dagster.instance.storage",
    "aml_images_dagster.trust.sbom.cyclonedx",
    "aml_images_dagster.trust.sbom.spdx",
    "docker",
    "tests.image_repository",
    "tests.instance.jobs",
):
    import_module(name)
gc.freeze()  # a fork would copy what a collection looks at
gc.enable()
