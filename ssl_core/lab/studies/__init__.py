"""Questions about many runs, one file each; registry.py finds them."""
