"""Checkpoints: written whole or not at all, without pickle, and read back bit for bit.

Rank 0 keeps parameters and optimizer state, every rank its own buffers (running statistics differ between ranks)
and its rows so far. `checkpoint.json`, renamed into place last, says that the folder is complete.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bnn.data.pipeline import Schedule
from bnn.records import STEPS, read_table, write_table
from bnn.records.checkpoint import MARKER, CheckpointMarker
from bnn.records.files import CHECKPOINT, write_text
from bnn.training.run import Run


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that safetensors accepts: contiguous and sharing no memory."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by name; empty before its first step."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{i}.{key}": value for i, entry in state.items() for key, value in entry.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    layout = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": layout["param_groups"]})
    # load_state_dict keeps the file's memory format; moments must lie as their parameters do
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for key, value in optimizer.state.get(parameter, {}).items():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(value)


def checkpoint_due(schedule: Schedule, done: int, every: int) -> bool:
    """Whether the last of `done` steps brought the run to, or past, a multiple of `every` epochs; never for 0."""
    return every > 0 and schedule.epoch(done) // every > schedule.epoch(done - 1) // every


def spoilt(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """The name of a tensor with which no run can go on; empty if there is none.

    Such a tensor is a parameter that is not finite, or a buffer or state of the optimizer that holds NaN. (Infinity may
    be meant there, as in masks.)
    """
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return name
    for name, tensor in {**dict(model.named_buffers()), **optimizer_tensors(optimizer)}.items():
        if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
            return name
    return ""


def save_checkpoint(run: Run, step: int) -> bool:
    """Keep the state after `step` steps; older checkpoints go once this one is complete. Returns whether it was kept.

    A state that is spoilt on any rank is not kept, and older checkpoints stay: the update that spoilt it may be the
    last one, which no loss shows.
    """
    model, optimizer, engine = run.trainer.model, run.trainer.optimizer, run.trainer.engine
    run.heartbeat.move("checkpoint")
    problems = engine.gather(spoilt(model, optimizer), "spoilt")
    if any(problems):
        if engine.rank == 0:
            rank = next(rank for rank, problem in enumerate(problems) if problem)
            print(f"no checkpoint after step {step}: {problems[rank]} is not finite on rank {rank}", flush=True)
        return False
    checkpoints = run.folder.out / CHECKPOINT
    folder = checkpoints / f"step-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_plain(dict(model.named_buffers())), folder / f"rank-{engine.rank}.safetensors")
    write_table(run.recorder.frame(), folder / f"rank-{engine.rank}.parquet", STEPS)
    if engine.rank == 0:
        shared = {**dict(model.named_parameters()), **optimizer_tensors(optimizer)}
        save_file(_plain(shared), folder / "shared.safetensors")
    run.heartbeat.move("exchange")  # a rank that waits here is not the one that takes long to write
    engine.barrier("checkpoint")
    run.heartbeat.move("checkpoint")
    if engine.rank == 0:
        marker = CheckpointMarker(
            step=step,
            ranks=engine.size,
            hash=run.settings.fingerprint(),
            baseline=run.trainer.settings.baseline,
        )
        write_text(folder / MARKER, marker.model_dump_json())
        for other in checkpoints.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
    return True


def load_checkpoint(
    out: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, rank: int
) -> pd.DataFrame:
    """Restore parameters, buffers and optimizer state in place, wherever they lie; returns the rank's rows so far."""
    folder = out / CHECKPOINT / f"step-{step}"
    shared = load_file(folder / "shared.safetensors")
    buffers = load_file(folder / f"rank-{rank}.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(shared[name])
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    _restore_optimizer(optimizer, shared)
    return read_table(folder / f"rank-{rank}.parquet", STEPS)
