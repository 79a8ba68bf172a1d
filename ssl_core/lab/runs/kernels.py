"""The kernel of the project's notebooks: this Python, whatever kernels are installed."""

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager


class OwnKernel(KernelSpecManager):
    """Knows one kernel, `python3`: the Python that asks. Folders of Jupyter, which can hold another, are not searched.

    For JupyterLab as `make lab` starts it, and for papermill by `OwnKernelManager`.
    """

    def _kernel_dirs_default(self) -> list[str]:
        return []


class OwnKernelManager(AsyncKernelManager):
    """Starts OwnKernel's."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return OwnKernel()
