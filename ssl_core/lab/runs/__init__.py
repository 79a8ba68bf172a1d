"""Running experiments: what a run is, its fingerprint and record, executors, the sweep, the graph's cache, certification."""
