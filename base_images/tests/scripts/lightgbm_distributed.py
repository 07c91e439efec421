"""Trains one LightGBM model on several nodes, over LightGBM's own sockets.

Started once per rank with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, like a PyTorch job. Every rank has its own
part of the data. Exits with a message when the ranks end up with different models, or when the model predicts badly.

LightGBM wants to know the address of every machine beforehand
(https://lightgbm.readthedocs.io/en/stable/Parallel-Learning-Guide.html): the ranks tell each other through rank 0.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import sys
import time
from typing import TextIO

import lightgbm
import numpy


class Meeting:
    """Lets all ranks exchange short messages; rank 0 listens, the others connect to it.

    Args:
        rank: This process's number.
        size: Number of processes.
        address: Host on which rank 0 runs.
        port: Port on which rank 0 listens.
        patience: Seconds to wait for the others.
    """

    def __init__(self, rank: int, size: int, address: str, port: int, patience: float) -> None:
        if rank == 0:
            with socket.create_server(("", port), backlog=size) as server:
                server.settimeout(patience)
                self._peers = [server.accept()[0] for _ in range(size - 1)]
        else:
            self._peers = [self._connect(address, port, patience)]
        self._is_host = rank == 0
        for peer in self._peers:
            peer.settimeout(patience)
        self._files = [peer.makefile("rw", encoding="utf-8") for peer in self._peers]

    @staticmethod
    def _connect(address: str, port: int, patience: float) -> socket.socket:
        until = time.monotonic() + patience
        while True:
            try:
                return socket.create_connection((address, port), timeout=patience)
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def exchange(self, message: str) -> list[str]:
        """Hand in one message and get those of all ranks, sorted."""
        if self._is_host:
            messages = sorted([message, *(json.loads(file.readline()) for file in self._files)])
            for file in self._files:
                self._send(file, messages)
            return messages
        self._send(self._files[0], message)
        return json.loads(self._files[0].readline())

    @staticmethod
    def _send(file: TextIO, content: str | list[str]) -> None:
        file.write(json.dumps(content) + "\n")
        file.flush()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("", 0)) as probe:
        return probe.getsockname()[1]


def make_data(rows: int, seed: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Points that belong to class 1 inside a ring; no single split can tell."""
    source = numpy.random.default_rng(seed)
    points = source.uniform(-1, 1, size=(rows, 4))
    return points, ((points[:, 0] ** 2 + points[:, 1] ** 2) < 0.5).astype(int)


def main() -> None:
    """Meet, train together, compare the models, and check the predictions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4000, help="Rows on each rank.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--least-accuracy", type=float, default=0.95)
    parser.add_argument("--patience", type=float, default=120, help="Seconds to wait for the other ranks.")
    options = parser.parse_args()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    host = socket.gethostname()
    port = free_port()
    print(f"rank {rank} of {size} on {host}: LightGBM {lightgbm.__version__}", flush=True)
    meeting = Meeting(rank, size, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), options.patience)
    machines = meeting.exchange(f"{socket.gethostbyname(host)}:{port}")
    print(f"rank {rank}: the machines are {', '.join(machines)}", flush=True)

    points, classes = make_data(options.rows, seed=rank)
    parameters = {
        "objective": "binary",
        "tree_learner": "data",
        "pre_partition": True,
        "num_machines": size,
        "machines": ",".join(machines),
        "local_listen_port": port,
        "time_out": max(1, int(options.patience // 60)),  # minutes
        # Several ranks may share a machine, and threads that wait for each other would take all of it.
        "num_threads": 1,
        "num_leaves": 15,
        "learning_rate": 0.3,
        "verbosity": -1,
    }
    model = lightgbm.train(parameters, lightgbm.Dataset(points, label=classes), num_boost_round=options.rounds)

    # The parameters at the end of the text name this rank's own port.
    trees = model.model_to_string().partition("\nparameters:")[0]
    models = meeting.exchange(hashlib.sha256(trees.encode()).hexdigest())
    if len(set(models)) != 1:
        sys.exit(f"rank {rank}: the ranks have {len(set(models))} different models")

    test_points, test_classes = make_data(2000, seed=1000)
    accuracy = float(((model.predict(test_points) > 0.5) == test_classes).mean())
    print(f"rank {rank}: accuracy {accuracy:.3f}, model {models[0][:12]} on all {size} ranks", flush=True)
    if accuracy < options.least_accuracy:
        sys.exit(f"rank {rank}: the accuracy is {accuracy:.3f}, it should be at least {options.least_accuracy}")


if __name__ == "__main__":
    main()
