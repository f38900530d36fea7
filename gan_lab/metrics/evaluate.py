"""Scores of a family on held-out reals: the same in training and after, with one process and with several."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
import torchmetrics
from torch import Tensor, distributed

from gan_lab.data.base import LabData
from gan_lab.data.cache import reachable
from gan_lab.families.base import Family
from gan_lab.images import Batch, to_uint8
from gan_lab.metrics.measures import Inception, Measure, Statistics
from gan_lab.schema import MetricsConfig
from gan_lab.seeding import Stream

Protocol = dict[str, Any]
Outputs = Callable[[int, Batch], dict[str, Tensor] | None]  # None: of the reals


class Evaluator:
    """Generates one fake for each of the first ``n`` held-out reals and scores them by every measure.

    The statistics of the reals are computed once. Fake i is the same whatever the number of processes: each batch has
    a stream of its own, batches are dealt to the ranks in turn, and their statistics are put back in order. With
    ``shared`` false this process does all of them, whatever others there are.
    """

    def __init__(self, data: LabData, measures: Sequence[Measure], n: int, seed: int, shared: bool = True) -> None:
        self.data, self.measures, self.seed, self.shared = data, measures, seed, shared
        self.points = data.spec.content == "points"
        self.batches = data.reference(n) if measures else []
        self.n = sum(len(batch.images) for batch in self.batches)
        self._real: list[Statistics] | None = None

    @torch.no_grad()
    def __call__(self, family: Family) -> dict[str, float]:
        """All scores of the family's generator as it is now, in evaluation mode and float32."""
        if not self.measures:
            return {}
        device, dtype = family.device, family.dtype
        with torch.autocast(device.type, enabled=False):
            if self._real is None:
                self._real = self._over_batches(device, dtype, lambda i, batch: None)
            fake = self._over_batches(
                device, dtype, lambda i, batch: family.outputs(batch, Stream(self.seed, "evaluate", i))
            )
        values: dict[str, float] = {}
        for measure, reals, fakes in zip(self.measures, self._real, fake, strict=True):
            values |= measure.scores(reals, fakes)
        return values

    def _over_batches(self, device: torch.device, dtype: Any, make: Outputs) -> list[Statistics]:
        parallel = self.shared and distributed.is_available() and distributed.is_initialized()
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if parallel else (0, 1)
        mine: dict[int, list[Statistics]] = {}
        for i, batch in enumerate(self.batches):
            if i % world == rank:
                on_device = batch.on(device, dtype)
                outputs, reals = make(i, on_device), on_device.map(self._pixels)
                if outputs is None:
                    mine[i] = [measure.reference(reals) for measure in self.measures]
                else:
                    pixels = {name: self._pixels(output) for name, output in outputs.items()}
                    mine[i] = [measure.observe(pixels, reals) for measure in self.measures]
        shares: list[Any] = [mine]
        if parallel:
            shares = [None] * world
            distributed.all_gather_object(shares, mine)
        every = {i: statistics for share in shares for i, statistics in share.items()}
        ordered = [every[i] for i in sorted(every)]
        return [_joined([statistics[m] for statistics in ordered]) for m in range(len(self.measures))]

    def _pixels(self, output: Tensor) -> Tensor:
        return output if self.points or output.dim() < 4 else to_uint8(output)

    def protocol(self, score: str, weights: str) -> Protocol:
        """All that a value of this score depends on besides the generator's weights."""
        measure = next(measure for measure in self.measures if score in measure.names)
        decoded = self.data.decoded
        return {
            **measure.extractor,
            "reals": self.n,
            "fakes": self.n,
            "data": f"{self.data.cfg.name}-{decoded.source}",
            "fingerprint": decoded.fingerprint,
            "split": "held out",
            "shape": list(self.data.spec.shape),
            "weights": weights,
            "seed": self.seed,
            "versions": {
                "torch": torch.__version__,
                "torchmetrics": torchmetrics.__version__,
                "numpy": numpy.__version__,
            },
        }


def _joined(parts: Sequence[Statistics]) -> Statistics:
    if not parts:
        return {}
    joined: dict[str, Tensor] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return joined


def inception(cfg: MetricsConfig, n: int) -> tuple[Inception | None, str]:
    """FID and IS if their weights are at hand, else None; and one line that says why not.

    Raises ValueError if ``metrics.inception_weights`` names a file that is not there or does not hold the weights.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    skipped = "fid and is skipped: "
    if cfg.inception_weights == "off":
        return None, skipped + "metrics.inception_weights=off"
    if n < 2048 and not cfg.allow_small_n:
        remedy = "metrics.allow_small_n=true computes them all the same"
        return None, f"{skipped}{n} images are fewer than the 2048 features, which makes a FID meaningless; {remedy}"
    if cfg.inception_weights != "auto":
        if not Path(cfg.inception_weights).is_file():
            raise ValueError(f"metrics.inception_weights={cfg.inception_weights}: there is no such file")
        try:
            torch.load(cfg.inception_weights, weights_only=True)  # torch-fidelity's own reader runs the code in a file
            return Inception(cfg.inception_weights), ""
        except Exception as error:  # whatever reading a foreign file can raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"metrics.inception_weights={cfg.inception_weights} does not hold torch-fidelity's weights: {reason}"
            ) from None
    name = os.path.basename(urllib.parse.urlparse(URL_INCEPTION_V3).path)
    if (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file() or reachable(URL_INCEPTION_V3):
        try:
            return Inception(None), ""
        except Exception as error:  # a proxy that refuses, a download that breaks off
            return None, f"{skipped}the Inception weights cannot be downloaded ({type(error).__name__})"
    return None, f"{skipped}the Inception weights are not on this machine and cannot be downloaded"
