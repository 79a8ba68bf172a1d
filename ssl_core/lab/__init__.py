"""Running experiments and reading their results: runs → studies → page → tools. It imports the science, never the reverse."""


class LabError(RuntimeError):
    """Work that could not be completed, for a reason that one line can say; it is no bug."""
