"""The progress of a run: a line for people, and the same event as a line of JSON for the sweep that waits for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssl_core.train import takes_snapshot

EVENTS = "progress.jsonl"  # in the folder of a run that is on its way
Event = dict[str, Any]  # `stage`, and what belongs to it: see `text`
Tell = Callable[[Event], None]


def text(event: Event) -> str:
    """An event as a line for people."""
    match event["stage"]:
        case "epoch":
            at = f"epoch {event['epoch']:2}/{event['epochs']} · step {event['step']} · loss {event['loss']:.4f}"
            return f"{at} · {event['seconds']:.0f} s, {to_go(event['epoch'], event['epochs'], event['seconds'])}"
        case "graph":
            at = f"graph · step {event['step']}/{event['steps']} · loss {event['loss']:.3f}"
            return f"{at} · {event['seconds']:.0f} s, {to_go(event['step'], event['steps'], event['seconds'])}"
        case "search":
            return "graph · searching the nearest neighbours"
        case "index":
            at = f"graph · {event['step'] / event['steps']:.0%} of the search"
            return f"{at} · {event['seconds']:.0f} s, {to_go(event['step'], event['steps'], event['seconds'])}"
        case "wait":
            return "graph · another run is making it; waiting"
        case "graph ready":
            return f"graph · {event['k']} neighbours of each of {event['images']} images, made in {event['seconds']:.0f} s"
        case stage:
            return str(stage)


def to_go(done: float, total: float, seconds: float) -> str:
    """`about 12 s to go`, if `done` of `total` took `seconds`."""
    return f"about {duration(seconds * (total - done) / done)} to go"


def duration(seconds: float) -> str:
    """`89 s`, or from 90 seconds on `2 min`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class Progress:
    """Prints the events of a run, each after the run's name, and appends them to the file EVENTS of `folder`, if it is given.

    Call it with an event. `on_epoch` is for `fit`: it tells of each epoch that leaves a snapshot.
    """

    def __init__(self, name: object, folder: Path | None = None):
        self.name, self.path = name, folder and folder / EVENTS

    def __call__(self, event: Event) -> None:
        if self.path:  # first, since the printed line is what makes a sweep look
            with self.path.open("a") as file:
                file.write(json.dumps(event) + "\n")
        print(f"{self.name} · {text(event)}", flush=True)

    def on_epoch(self, row: dict[str, float], epochs: int) -> None:
        epoch, step = int(row["epoch"]), int(row["step"])
        if takes_snapshot(epoch, epochs):
            event = {"stage": "epoch", "epoch": epoch, "epochs": epochs, "step": step}
            self(event | {"loss": row["total"], "seconds": row["seconds"]})


def new_events(path: Path, start: int = 0) -> tuple[list[Event], int]:
    """The events in the file `path` from byte `start` on, and where the next one will begin; none if it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            whole, _, _ = file.read().rpartition(b"\n")  # the last line may be half written
    except OSError:
        return [], start
    lines = whole.splitlines()
    return [json.loads(line) for line in lines], start + len(whole) + bool(lines)
