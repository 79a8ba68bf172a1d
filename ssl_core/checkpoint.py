"""Training that was cut off goes on from its last checkpoint, to the same bits as if it had not been."""

import os
import pickle
from pathlib import Path

import torch


def write(path: Path, key: str, state: dict) -> None:
    """Replaces the checkpoint in one step: a crash leaves the old one or the new. `state` holds tensors, numbers and texts."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        torch.save(state | {"key": key}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read(path: Path, key: str) -> dict | None:
    """The state that was written under the same `key`; None if there is none, or if the file is damaged."""
    try:
        state = torch.load(path, weights_only=True)  # numbers only: the file can't run code
        return state if state["key"] == key else None
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
        return None
