"""Lets all MPI ranks add numbers up and checks the sum, small messages and large ones.

Started by mpirun, once per rank. Shows that the image's MPI starts ranks on several machines and that they reach each
other. Exits with a message when a sum is wrong, or when all ranks are on one machine though the job has several.
"""

from __future__ import annotations

import argparse
import array
import os
import sys

from mpi4py import MPI


def main() -> None:
    """Sum over all ranks, then say who took part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=500_000, help="Numbers in the large message, 8 bytes each.")
    options = parser.parse_args()

    world = MPI.COMM_WORLD
    rank, size, host = world.Get_rank(), world.Get_size(), MPI.Get_processor_name()
    library = MPI.Get_library_version().splitlines()[0].rstrip("\0 ")
    print(f"rank {rank} of {size} on {host}: {library}", flush=True)
    if size < 2:
        sys.exit("there is only one rank: mpirun and mpi4py belong to different MPI libraries")

    expected = size * (size + 1) // 2
    total = world.allreduce(rank + 1)
    if total != expected:
        sys.exit(f"rank {rank}: the sum is {total}, it should be {expected}")

    sent = array.array("d", [float(rank + 1)]) * options.elements
    received = array.array("d", bytes(8 * options.elements))
    world.Allreduce(sent, received, op=MPI.SUM)
    if set(received) != {float(expected)}:
        sys.exit(f"rank {rank}: the sum of {options.elements} numbers is wrong")

    hosts = sorted(set(world.allgather(host)))
    nodes = int(os.environ.get("AZUREML_NODE_COUNT", "1"))
    if len(hosts) != nodes:
        sys.exit(f"rank {rank}: the ranks are on {hosts}, but the job has {nodes} node(s)")
    if rank == 0:
        print(f"sum {total} over {size} ranks on {len(hosts)} host(s): {', '.join(hosts)}", flush=True)


if __name__ == "__main__":
    main()
