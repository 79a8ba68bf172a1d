"""Running experiments and reading their results: runs → studies → page → tools. It imports the science, never the reverse."""
