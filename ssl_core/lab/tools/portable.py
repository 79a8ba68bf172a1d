"""The network of a finished run as ONNX, for programs without PyTorch: the file says itself how it must be fed."""

import copy
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from ssl_core.model import PRECISIONS, network_for

from ..runs import files
from .trained import Trained

FRAMING = (
    "upright by its EXIF tag; on white where it is transparent; longer side resized to {side}, bilinear; centred, "
    "the rest filled with the median colour of the border of the resized image"
)

SCALE = (
    "the values that become 0 and 255, after resizing, of images with more than 8 bits a pixel; "
    "null: the lowest and the highest of each such image"
)


class Portable(nn.Module):
    """From pixels in [0, 1], (N, C, side, side), to class probabilities: the network, with what comes before and after it."""

    mean: Tensor
    std: Tensor

    def __init__(self, trained: Trained):
        super().__init__()
        self.model, self.inverted = copy.copy(trained.model), trained.inverted
        self.model.precision = PRECISIONS[0]
        self.register_buffer("mean", torch.tensor(trained.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(trained.std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        pixels = 1 - pixels if self.inverted else pixels
        return self.model((pixels - self.mean) / self.std)[0].softmax(dim=1)


def contract(trained: Trained) -> dict[str, str]:
    """The metadata of the file: what its input must be, and what its output means."""
    colored, side = len(trained.mean) == 3, trained.model.side
    network = {"report": "the report's", "strided": "the report's with a strided first convolution"}[network_for(side)]
    return {
        "classes": "\n".join(trained.classes),
        "input": f"pixels: float32 (N, {len(trained.mean)}, {side}, {side}), channels first",
        "side": str(side),
        "output": f"probabilities: float32 (N, {len(trained.classes)}), in the order of classes, one name a line",
        "range": "0 to 1: bytes divided by 255; not normalised, light and dark as in the image file",
        "channels": "RGB" if colored else "grey: (299 R + 587 G + 114 B) / 1000, ITU-R 601-2, rounded to a byte",
        "framing": FRAMING.format(side=side),
        "scale": json.dumps(trained.scale) + f": {SCALE}",
        "light_and_dark": f"exchanged inside: {'yes' if trained.inverted else 'no'}; backgrounds must be as in training",
        "test_time_augmentation": "none; `make predict` averages over distorted views too",
        "network": f"{network}, {sum(weight.numel() for weight in trained.model.parameters())} parameters",
        "run": json.dumps(dict(trained.parameters)),
        "recipe": str(trained.parameters["recipe"]),
        "data": str(trained.parameters["data"]),
    }


def export(trained: Trained, path: Path) -> None:
    """Writes the network as ONNX: from `pixels` (N, C, side, side) in [0, 1] to `probabilities` (N, n_classes).

    Its metadata are the `contract`. The test-time augmentation is not part of it. Raises ValueError for a path that can't be
    written or does not end in .onnx, which could be an image or a part of a run, or without the package onnx.
    """
    if path.suffix.lower() != ".onnx":
        raise ValueError(f"ONNX={str(path)!r}: must be the name of a file that ends in .onnx")
    if path.is_dir():
        raise ValueError(f"ONNX={str(path)!r}: must be the name of a file, not of a folder")
    files.writable("ONNX", path.parent)
    try:
        import onnx
    except ImportError:
        raise ValueError(f"ONNX={str(path)!r}: needs onnx; install it: .venv/bin/pip install '.[onnx]'") from None
    example = (torch.zeros(2, len(trained.mean), trained.model.side, trained.model.side),)
    program = torch.onnx.export(
        Portable(trained).eval(),
        example,
        dynamo=True,
        verbose=False,
        input_names=["pixels"],
        output_names=["probabilities"],
        dynamic_shapes={"pixels": {0: torch.export.Dim("images")}},
    )
    assert program is not None  # with dynamo
    model = program.model_proto
    for key, value in contract(trained).items():
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    files.write_atomically(path, model.SerializeToString())
