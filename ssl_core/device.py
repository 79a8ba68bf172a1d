"""The device to train on, and the precision that pays there: whether PyTorch serves a GPU, and how much of its memory is free."""

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from .model import PRECISIONS, init_net

DEVICES = ("auto", "cpu", "cuda")
NONE = "PyTorch finds no GPU"
_warned: list[str] = []  # what PyTorch says of a driver that it cannot use; it says so once a process


def unserved() -> str:
    """Why PyTorch does not serve the GPU, as far as that is known without using it; '' if it does."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    _warned.extend(_sentence(each.message) for each in warned)
    if not there:
        return _warned[0] if _warned else NONE
    try:
        has = torch.cuda.get_device_capability()
    except (RuntimeError, AssertionError) as error:  # PyTorch without CUDA asserts
        return _sentence(error)
    served = [int(name.removeprefix("sm_")) for name in torch.cuda.get_arch_list() if name.removeprefix("sm_").isdecimal()]
    least = divmod(min(served, default=0), 10)
    if has < least:
        return f"the GPU has compute capability {_dotted(has)}, and PyTorch {torch.__version__} needs {_dotted(least)}"
    return ""


def problem() -> str:
    """Why PyTorch cannot train on the GPU; '' if it can, as a step on two images shows."""
    if why := unserved():
        return why
    try:
        attempt()
    except (RuntimeError, AssertionError) as error:
        return _sentence(error)
    return ""


def attempt() -> None:
    """The network on two images, forwards and backwards; raises RuntimeError where the GPU fails."""
    init_net(0).to("cuda")(torch.zeros(2, 1, 28, 28, device="cuda"))[0].sum().backward()
    torch.cuda.synchronize()


def ask() -> tuple[str, int]:
    """What `problem` says, and the bytes of the GPU that are free.

    A process of its own is asked: one that has used a GPU keeps some of its memory, and may keep others from it.
    """
    if why := unserved():
        return why, 0
    program = "from ssl_core.device import answer; answer()"
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, errors="replace", check=False)
    try:
        why, free = json.loads(asked.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return f"a program that tried the GPU ended with status {asked.returncode}", 0
    return why, free


def answer() -> None:
    """The program of `ask`."""
    why = problem()
    print(json.dumps([why, 0 if why else torch.cuda.mem_get_info()[0]]))


def check_device(device: object) -> None:
    """Raises ValueError unless `device` is the name of one that this machine has and PyTorch serves, or `auto`."""
    why = unserved()
    here = DEVICES if torch.cuda.is_available() else DEVICES[:2]
    if device not in here:
        because = f" ({why})" if device == "cuda" and why != NONE else ""
        must = f"must be auto, cpu, or cuda where PyTorch finds a GPU; here: {', '.join(here)}{because}"
        raise ValueError(f"device={device!r}: {must}")
    if device == "cuda" and why:
        raise ValueError(f"device='cuda': must be a GPU that PyTorch can use: {why}")


def training_device(device: str = "auto") -> torch.device:
    """The device called `device`; `auto` is a GPU if there is one that PyTorch can use. Its convolutions add in a fixed order.

    Raises ValueError for `cuda` that cannot be used; `auto` is the CPU then, and a line says why.
    """
    check_device(device)
    torch.backends.cudnn.deterministic = True
    if device == "cpu" or not (why := problem()):
        return torch.device("cpu" if device == "cpu" else "cuda")
    if device == "cuda":
        raise ValueError(f"device='cuda': must be a GPU that PyTorch can use: {why}")
    tell_cpu(why)
    return torch.device("cpu")


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Runs PyTorch with `n` threads on the processor: another number changes the last digits of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def tell_cpu(why: str) -> None:
    """Says once a process why `auto` is the CPU, unless there is simply no GPU."""
    if why != NONE:
        print(f"device='auto': the CPU is used: {why}", flush=True)


@cache
def computes_bfloat16() -> bool:
    """Whether a processor, or a GPU, of this machine multiplies in bfloat16 faster than in float32.

    Of processors those with AMX: measured with the report's network, a step takes 0.5 to 0.6 of its time in float32 there. With
    AVX-512's instructions for bfloat16 alone it takes as long as in float32, without any three times as long.
    """
    return best_precision() == PRECISIONS[1] or (not unserved() and torch.cuda.is_bf16_supported(False))


@cache
def best_precision() -> str:
    """The precision of `auto`: bfloat16 on a processor with AMX. With a GPU float32, as nobody has measured it there."""
    return PRECISIONS[torch.cpu.get_capabilities().get("amx_bf16", False) and unserved() != ""]


def _sentence(error: object) -> str:
    """The first line of a message of PyTorch, which may have many."""
    return f"{error}".strip().splitlines()[0][:200] if f"{error}".strip() else type(error).__name__


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
