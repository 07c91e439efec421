"""Resource limits of the containers of a job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one container may use.

    Attributes:
        memory_bytes: Memory without swap.
        shared_memory_bytes: Size of /dev/shm; part of the memory. Linux only.
        processes: Number of processes and threads. Linux only.
        log_characters: How much of a node's output a result keeps; the log that is streamed is whole.
    """

    memory_bytes: int = 8 * 2**30
    shared_memory_bytes: int = 2 * 2**30
    processes: int = 4096
    log_characters: int = 1_000_000
