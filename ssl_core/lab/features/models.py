"""Pretrained models of torchvision and timm, loaded by their own code: the numbers that go into their last layer."""

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from torch import nn

from ssl_core.datasets.fetch import from_mirrors

from .networks import Apply, Network


def torchvision_model(name: str, side: int) -> tuple[Network, object]:
    """The model `NAME` or `NAME.WEIGHTS` of torchvision, for images of `side` pixels, 0 for its own; and what identifies it.

    By default it has the weights that torchvision calls DEFAULT. Raises ValueError, without the parameter, for an unknown name.
    """
    from torchvision import models  # imported late: it costs a second

    model, _, wanted = name.partition(".")
    if model not in (known := models.list_models(module=models)):
        raise ValueError(f"must be torchvision:NAME with a name such as {_nearest(model, known)}")
    every = models.get_model_weights(model)
    if wanted and wanted not in every.__members__:
        raise ValueError(f"must be torchvision:{model} with the weights {' or '.join(each.name for each in every)}")
    weights = every[wanted or "DEFAULT"]
    preset = weights.transforms()
    network = Network(
        load=lambda: _applied(_loaded(model, weights)),
        size=(side or preset.crop_size[0],) * 2,
        normalization=(tuple(preset.mean), tuple(preset.std)),
    )
    return network, ["torchvision", model, weights.url, network.words]


def _loaded(model: str, weights: Any) -> nn.Module:  # noqa: ANN401  # one of torchvision's enumerations
    from torchvision import models

    try:
        return from_mirrors(partial(models.get_model, model, weights=weights, progress=False))
    except Exception as error:  # no network, a host that does not answer, a damaged file
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
        there = [each.name for each in type(weights) if (file.parent / Path(urlparse(each.url).path).name).exists()]
        others = "".join(f"; here are those of torchvision:{model}.{each}" for each in there if each != weights.name)
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"its weights can't be had ({reason}): fetch {weights.url} elsewhere, as {file}{others}") from None


def timm_model(name: str, side: int) -> tuple[Network, object]:
    """The model `name` of timm, as torchvision_model."""
    try:
        import timm
    except ImportError:
        raise ValueError("needs timm; install it: .venv/bin/pip install '.[timm]'") from None
    known = timm.is_model(name.partition(".")[0]) and (name in timm.list_pretrained() or "." not in name)
    if not known or not (settings := timm.get_pretrained_cfg(name)).has_weights:
        raise ValueError(f"must be timm:NAME with a name such as {_nearest(name, timm.list_pretrained())}")

    def load() -> Apply:
        try:
            return _applied(from_mirrors(partial(timm.create_model, name, pretrained=True)))
        except Exception as error:
            reason = " ".join(str(error).split())[:100]
            hub = f"those of {settings.hf_hub_id} must be in the hub's cache, or within reach"
            raise ValueError(f"its weights can't be had ({reason}): {hub}") from None

    size = (side, side) if side else tuple(settings.input_size[1:])
    network = Network(load, size, normalization=(tuple(settings.mean), tuple(settings.std)))
    return network, ["timm", name, settings.hf_hub_id, settings.url, network.words]


def _nearest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    return " or ".join(get_close_matches(name, known, 3, 0.5) or known[:3])


def _applied(model: nn.Module) -> Apply:
    """The model as a function that returns what goes into its last linear layer. Raises ValueError if it has none."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError("must be a model whose last layer is linear, as most are")
    parent, _, last = layers[-1].rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Identity())
    model.eval().requires_grad_(False)

    @torch.inference_mode()
    def apply(x: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(x)).numpy()

    return apply
