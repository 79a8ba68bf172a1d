"""Networks in ONNX files, run by onnxruntime."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from .networks import IMAGENET, Apply, Network

SIDE = 224  # pixels, of a network that takes any size
INPUT = "must be a network of one input (N, 3, H, W) or (N, 1, H, W), float"


def onnx_network(path: Path, side: int) -> tuple[Network, object]:
    """The network in the file `path`, for images of `side` pixels where it takes any size; and what identifies it.

    Its metadata may say how pixels are normalised: `mean` and `std`, lists as JSON; or `range`, as `make predict ONNX=file`
    writes it, for pixels in [0, 1]. Otherwise ImageNet's figures are taken. Raises ValueError, without the parameter.
    """
    session = _session(path)
    _, channels, *size = _input_shape(session, side)
    network = Network(
        load=lambda: _applied(session),
        size=(size[0], size[1]),
        channels=channels,
        normalization=_normalization(session.get_modelmeta().custom_metadata_map, channels),
        batch=_input_shape(session, side)[0],
    )
    parts = [path, *_weights_beside(path)]
    return network, ["onnx", [sha256(each.read_bytes()).hexdigest() for each in parts], network.words]


def _weights_beside(path: Path) -> list[Path]:
    """The files in which a network too large for one file keeps its weights."""
    import onnx  # of the same extra

    graph = onnx.load(path, load_external_data=False).graph
    places = {entry.value for weights in graph.initializer for entry in weights.external_data if entry.key == "location"}
    return [path.parent / place for place in sorted(places)]


def _session(path: Path) -> Any:  # noqa: ANN401  # of a package that need not be installed
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("needs onnxruntime; install it: .venv/bin/pip install '.[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # networks.read computes several batches at once
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of its own kinds
        raise ValueError(f"must be an ONNX file ({' '.join(str(error).split())[:150]})") from None


def _input_shape(session: Any, side: int) -> tuple[int, int, int, int]:  # noqa: ANN401
    """Batch (0 for any), channels, height and width of the images that the network takes. Raises ValueError for another kind."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        names = ", ".join(each.name for each in (inputs if len(inputs) != 1 else outputs))
        raise ValueError(f"must be a network of one input and one output, not {len(inputs)} and {len(outputs)} ({names})")
    shape = tuple(inputs[0].shape)
    if len(shape) != 4 or shape[1] not in (1, 3) or inputs[0].type != "tensor(float)":
        last = ": channels come first" if len(shape) == 4 and shape[3] in (1, 3) else ""
        raise ValueError(f"{INPUT}, not {shape} of {inputs[0].type}{last}")
    batch, channels, *size = (each if isinstance(each, int) else 0 for each in shape)
    if side and any(each not in (0, side) for each in size):
        raise ValueError(f"must be without @{side}: the network takes images of {size[0]} × {size[1]} pixels")
    height, width = (each or side or SIDE for each in size)
    return batch, channels, height, width


def _normalization(metadata: dict[str, str], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel that the metadata tell; ImageNet's if they tell none. Raises ValueError for bad ones."""
    if metadata.get("range", "").startswith("0 to 1"):
        return (0.0,) * channels, (1.0,) * channels
    if not metadata.keys() >= {"mean", "std"}:
        return IMAGENET if channels == 3 else ((sum(IMAGENET[0]) / 3,), (sum(IMAGENET[1]) / 3,))
    try:
        mean, std = (tuple(map(float, json.loads(metadata[name]))) for name in ("mean", "std"))
    except (TypeError, ValueError):
        mean, std = (), ()
    if not len(mean) == len(std) == channels or not np.isfinite([*mean, *std]).all() or min(std) <= 0:
        raise ValueError(f"must have metadata mean and std that are lists of {channels} numbers, std above 0")
    return mean, std


def _applied(session: Any) -> Apply:  # noqa: ANN401
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]
