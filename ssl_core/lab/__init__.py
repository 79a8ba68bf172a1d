"""Running and reading experiments. It imports the science; the science knows nothing of it."""
