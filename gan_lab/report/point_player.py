"""The player of a run on 2-D points: generated points over the discriminator's output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gan_lab.losses import LOSSES
from gan_lab.report import live
from gan_lab.runs.ema_networks import EMANetworks, load_ema_networks
from gan_lab.runs.point_frames import LATTICE_SIDE, SUFFIX, PointFrame, read_frame
from gan_lab.runs.run import Run
from gan_lab.seeding import Stream

# losses whose D(x) is a probability, the sigmoid of the logit
CLASSIFYING_LOSSES = ("minimax", "nonsaturating")
# of all frames together: outputs beyond have the color of this quantile
COLORED_QUANTILE = 0.95
# points of each seed of the generator in the page, those of ``gan-lab sample --n``
NUM_POINTS = 500
MAX_SEEDS = 16


def describe_player(
    run: Run, seen: Sequence[int], networks: EMANetworks | None = None, with_generator: bool = True
) -> dict[str, Any] | None:
    """Describe the frames of a run on 2-D points for the script of the page.

    Args:
        run: The run.
        seen: Training images seen at each position of the page's slider.
        networks: The networks that the page shows; by default those of the best checkpoint.
        with_generator: Whether the page includes the generator.

    Returns:
        The description, with one frame or None for each of ``seen``; None for a run without frames.
    """
    paths = [run.path / "samples" / f"{images:09d}{SUFFIX}" for images in seen]
    frames = [read_frame(path) for path in paths]
    present = [frame for frame in frames if frame is not None]
    if not present:
        return None
    loss = present[-1].loss
    is_probability = loss in CLASSIFYING_LOSSES
    outputs = [None if frame is None else _center_outputs(frame) for frame in frames]
    rated = [np.abs(output).ravel() for output in outputs if output is not None]
    scale = float(np.quantile(np.concatenate(rated), COLORED_QUANTILE)) if rated else 0.0
    encoded = [
        None if frame is None else _encode_frame(frame, output)
        for frame, output in zip(frames, outputs, strict=True)
    ]
    player = {
        "side": LATTICE_SIDE,
        "isProbability": is_probability,
        "isRated": bool(rated),
        # the sigmoid of a logit needs no scale
        "scale": scale or 1.0,
        "frames": encoded,
    }
    if with_generator and (generator := _describe_generator(run, networks)):
        player["generator"] = generator
    return player


def _center_outputs(frame: PointFrame) -> np.ndarray | None:
    """Return the logits minus the decision threshold.

    A loss that depends on differences of logits alone has no threshold: the median over the plane
    takes its place.
    """
    if frame.logits is None:
        return None
    threshold = LOSSES[frame.loss].threshold if frame.loss in LOSSES else None
    return frame.logits - (np.median(frame.logits) if threshold is None else threshold)


def _encode_frame(frame: PointFrame, output: np.ndarray | None) -> dict[str, str]:
    encoded = {"points": live.encode(frame.points, np.float16)}
    if output is not None:
        limit = np.finfo(np.float16).max
        encoded["outputs"] = live.encode(output.clip(-limit, limit), np.float16)
    return encoded


def _describe_generator(run: Run, networks: EMANetworks | None) -> dict[str, Any] | None:
    """Describe the generator, and latents of some seeds; None if the page cannot run it."""
    if networks is None and not run.checkpoints:
        return None
    try:
        loaded = networks or load_ema_networks(run.path)
        network = loaded.networks["generator"]
        arguments = network.recipe["arguments"]
        size = sum(weight.numel() for weight in network.parameters())
        if "z_dim" not in arguments or size > live.MAX_WEIGHTS:
            return None
        described = live.describe_network(network, *live.trace(network))
    except ValueError:
        return None
    seeds = max(1, min(MAX_SEEDS, live.MAX_LATENT_NUMBERS // (NUM_POINTS * arguments["z_dim"])))
    z = [
        network.sample_latents(Stream(seed, "sample"), NUM_POINTS, like=torch.empty(0))
        for seed in range(seeds)
    ]
    return {
        "network": described,
        "z": live.encode(torch.cat(z).numpy(), np.float32),
        "seeds": seeds,
        "count": NUM_POINTS,
        "classes": arguments.get("classes", 0),
        "iteration": loaded.iteration,
        "images": loaded.iteration * int(run.values.get("data.batch_size") or 0),
    }
