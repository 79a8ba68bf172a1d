"""The kernel of the project's notebooks: this Python, whatever kernels are installed."""

from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

from . import warm


class OwnKernel(KernelSpecManager):
    """Knows one kernel, `python3`: the Python that asks. Folders of Jupyter, which can hold another, are not searched.

    For JupyterLab as `make lab` starts it, and for papermill by `OwnKernelManager`.
    """

    def _kernel_dirs_default(self) -> list[str]:
        return []


class OwnKernelManager(AsyncKernelManager):
    """Starts OwnKernel's; where a kernel waits in this process, that one."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return OwnKernel()

    async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
        if self.provisioner is None and (waiting := warm.waiting_kernel()):
            self.provisioner = Forked(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
            self.provisioner.waiting = waiting
        return await super()._async_pre_start_kernel(**kwargs)


class Forked(LocalProvisioner):
    """A kernel that waits is told to begin."""

    waiting: warm.Waiting

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Begins the kernel; `cmd`, that of a new process, is not used."""
        assert self.parent is not None  # the manager
        process = self.waiting.begin(self.parent.connection_file, kwargs["env"])
        self.process, self.pid, self.pgid = process, process.pid, process.pid  # type: ignore[assignment]  # not Popen's
        return self.connection_info
