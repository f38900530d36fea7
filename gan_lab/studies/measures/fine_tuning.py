"""Scores of a training that starts with the weights of another one.

The arguments of an arm include ``source=<experiment>`` and ``source_images=<number>``: the first
training, which has the image size, and the overrides of ``model`` and ``metrics``, of the second,
and overrides of its own: ``source_overrides=data.channels=1,data.labels=false``. All seeds share
it, as downloaded weights are shared. Without ``source`` the second starts from scratch.
"""

from __future__ import annotations

from gan_lab.config import loading
from gan_lab.studies.measures import Arm, Values
from gan_lab.studies.measures.scores import collect_scores

ARGUMENTS = ("source", "source_images", "source_overrides")
SOURCE_SEED = 0


def measure(arm: Arm) -> Values:
    """Return the scores of the second training."""
    source, arguments = arm.split_arguments(*ARGUMENTS)
    if "source" in source:
        size = loading.load(arguments[0], arguments[1:]).config.data.size
        first = [
            arm.text("source"),
            *filter(None, source.get("source_overrides", "").split(",")),
            *(each for each in arguments if each.startswith(("model.", "metrics."))),
        ]
        images = arm.text("source_images")
        first += [f"data.size={size}", f"run.images={images}", f"run.seed={SOURCE_SEED}"]
        first += [f"run.evaluate_every_images={images}"]
        arguments += [f"run.start_from={arm.train(first)}"]
    return collect_scores(arm.train(arguments))
