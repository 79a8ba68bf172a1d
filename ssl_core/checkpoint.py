"""A checkpoint file: interrupted training resumes from it and ends with the same bits as if it had never stopped."""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch

FORMAT = 2  # of the state; a checkpoint of another format is ignored


@dataclass(frozen=True)
class Checkpoint:
    """The file `path`. `key` must change with everything that changes the result: a file with another key is ignored."""

    path: Path
    key: str = ""

    def write(self, state: dict) -> None:
        """Replaces the file in one step: a crash leaves the old file or the new. `state` holds tensors, numbers and texts."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            torch.save(state | {"key": self.key, "format": FORMAT}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def read(self) -> dict | None:
        """The state that was written under the same key; None if there is none, or if the file is damaged or of old code."""
        try:
            state = torch.load(self.path, weights_only=True)  # tensors and numbers only: the file cannot run code
            return state if (state["key"], state["format"]) == (self.key, FORMAT) else None
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
            return None
