"""The GPU: whether this PyTorch can train on it, and how much of its memory is free."""

import json
import subprocess
import sys
import warnings

import torch

from ssl_core.model import init_net

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
    program = "from ssl_core.lab.runs.gpu import answer; answer()"
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


def _sentence(error: object) -> str:
    """The first line of a message of PyTorch, which may have many."""
    return f"{error}".strip().splitlines()[0][:200] if f"{error}".strip() else type(error).__name__


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
