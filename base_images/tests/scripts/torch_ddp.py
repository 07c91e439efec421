"""Trains a small PyTorch model with DistributedDataParallel and checks that the ranks work together.

Started once per rank with PyTorch's variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT). Uses NCCL where
every rank has a GPU, else gloo. Exits with a message when gradients are not the average over the ranks, when the ranks
end up with different parameters, or when the loss does not fall.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import socket
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def make_data(rows: int, seed: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """This rank's part of the data: the same rule, other points."""
    source = torch.Generator().manual_seed(seed)
    points = torch.rand(rows, 8, generator=source) * 2 - 1
    return points.to(device), torch.sin(points.sum(dim=1, keepdim=True)).to(device)


def make_model(device: torch.device) -> torch.nn.Module:
    """Two layers, different on every rank before DistributedDataParallel spreads those of rank 0."""
    return torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)).to(device)


def gradients(model: torch.nn.Module) -> torch.Tensor:
    """All gradients in one row."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def check_averaged(model: DistributedDataParallel, points: torch.Tensor, values: torch.Tensor, size: int) -> None:
    """Compare the gradients with the average of those that each rank computes by itself."""
    alone = copy.deepcopy(model.module)
    torch.nn.functional.mse_loss(alone(points), values).backward()
    expected = gradients(alone)
    dist.all_reduce(expected)
    expected /= size
    model.zero_grad()
    torch.nn.functional.mse_loss(model(points), values).backward()
    if not torch.allclose(gradients(model), expected, atol=1e-6):
        sys.exit(f"rank {dist.get_rank()}: the gradients are not the average over the ranks")


def check_identical(model: torch.nn.Module, size: int) -> None:
    """Make sure that every rank has the same parameters, to the last bit."""
    mine = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    everyone = [torch.empty_like(mine) for _ in range(size)]
    dist.all_gather(everyone, mine)
    if not all(torch.equal(mine, other) for other in everyone):
        sys.exit(f"rank {dist.get_rank()}: the ranks have different parameters")


def train(rank: int, size: int, device: torch.device, rows: int, steps: int) -> tuple[float, float]:
    """Train and check the ranks against each other; gives the first and the last loss of this rank."""
    torch.manual_seed(rank)
    model = DistributedDataParallel(make_model(device), device_ids=[device.index] if device.type == "cuda" else None)
    points, values = make_data(rows, rank, device)
    check_identical(model, size)
    check_averaged(model, points, values, size)

    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(model(points), values)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    check_identical(model, size)
    return losses[0], losses[-1]


def main() -> None:
    """Join the other ranks, train, and leave together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=512, help="Rows on each rank.")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--patience", type=float, default=300, help="Seconds to wait for the other ranks.")
    options = parser.parse_args()

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available() and torch.cuda.device_count() > local_rank
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(seconds=options.patience))
    rank, size = dist.get_rank(), dist.get_world_size()
    print(
        f"rank {rank} of {size} on {socket.gethostname()}: "
        f"PyTorch {torch.__version__}, {dist.get_backend()} on {device}",
        flush=True,
    )

    # Several ranks may share a machine, and threads that wait for each other would take all of it.
    torch.set_num_threads(1)
    first, last = train(rank, size, device, options.rows, options.steps)
    print(f"rank {rank}: loss {first:.4f} -> {last:.4f}, same parameters on all {size} ranks", flush=True)
    if not last < first / 5:
        sys.exit(f"rank {rank}: the loss did not fall: {first:.4f} -> {last:.4f}")

    # The model holds on to the process group, whose threads abort the process when they outlive Python.
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
