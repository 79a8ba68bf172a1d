"""Tools for people: explore, watch, label next, predict, bench."""
