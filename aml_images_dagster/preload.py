"""Imports of a step process, made once in the server that steps are forked from.

The server ignores a module that fails to import, and every step would then be slow: a test imports this one.
"""

import dagster._core.executor.multiprocess
import dagster._core.launcher
import dagster._core.run_coordinator
import dagster._core.scheduler
import dagster._core.storage.local_compute_log_manager
import dagster._core.storage.root
import dagster._core.storage.sqlite_storage
import docker
import requests

from aml_images_dagster.definitions import build_job

__all__ = ["build_job", "dagster", "docker", "requests"]

build_job()
