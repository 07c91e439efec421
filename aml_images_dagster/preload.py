"""Imports of a process that Dagster starts for a run or a step, made once in the server that it is forked from.

The server ignores a module that cannot be imported, and every process would then be slow: a test imports this one.
"""

# ruff: noqa: E402
import gc

gc.set_threshold(100_000)  # as the command line does: modules are long-lived

import dagster._core.executor.multiprocess
import dagster._core.launcher
import dagster._core.run_coordinator
import dagster._core.scheduler
import dagster._core.storage.local_compute_log_manager
import dagster._core.storage.root
import dagster._core.storage.sqlite_storage
import dagster._grpc.impl
import docker
import requests

import aml_images_dagster.definitions
from aml_images_dagster import fork_server

__all__ = ["aml_images_dagster", "dagster", "docker", "requests"]

fork_server.become_server()
gc.freeze()  # a fork would copy what a collection looks at
