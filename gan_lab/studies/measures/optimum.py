"""A discriminator that learns to tell the ring from a Gaussian that stays as it is: both densities are known."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gan_lab import losses, networks
from gan_lab.data import toy
from gan_lab.seeding import Stream
from gan_lab.studies.measures import Arm, Results, Values

BATCH, CHECK = 256, 50_000
SHAPE = (2, 1, 1)


def log_ring(x: Tensor) -> Tensor:
    """The logarithm of the density of ``data.name=toy`` at points [N, 2]."""
    centers = torch.from_numpy(toy.centers()).double()
    return torch.logsumexp(_log_gaussian(x[:, None] - centers, toy.SPREAD), dim=1) - math.log(
        len(centers)
    )


def _log_gaussian(x: Tensor, spread: float) -> Tensor:
    return -x.double().square().sum(dim=-1) / (2 * spread**2) - math.log(2 * math.pi * spread**2)


def _draw(stream: Stream, n: int, spread: float) -> tuple[Tensor, Tensor]:
    """Points of the ring and of the Gaussian, [n, 2] each."""
    like = torch.zeros(0)
    modes = torch.from_numpy(toy.centers())[(stream.uniform(n, like=like) * toy.MODES).long()]
    noise = stream.normal(n, 4, like=like)
    return modes + toy.SPREAD * noise[:, :2], spread * noise[:, 2:]


def measure(arm: Arm) -> Values:
    """The mean distance of D from p/(p + q), and of the value from -log 4 + 2 JSD, after ``steps`` steps.

    The words of an arm: ``spread=`` of the Gaussian, ``steps=``. Distances are over half of each density; the Jensen-
    Shannon divergence is that of the densities, by 100,000 points.
    """
    spread, steps = arm.number("spread"), int(arm.number("steps"))
    torch.manual_seed(arm.seed)
    D = networks.discriminator("mlp", shape=SHAPE, width=16, norm="none", dropout=0.0)
    optimizer = torch.optim.Adam(D.parameters(), 1e-3, (0.5, 0.999))
    curve: Values = {"step": [], "distance": [], "value": []}
    for step in range(steps + 1):
        if step in {0, *(10**k for k in range(1, 6)), steps}:
            for name, x in zip(
                ("step", "distance", "value"),
                (step, *_compare(D, spread, arm.seed)[:2]),
                strict=True,
            ):
                curve[name].append(x)
        real, fake = _draw(Stream(arm.seed, "optimum", step), BATCH, spread)
        loss = losses.minimax_d(D(real.view(-1, *SHAPE)), D(fake.view(-1, *SHAPE)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / (steps + 1))
    distance, value, expected = _compare(D, spread, arm.seed)
    return {"mean_distance": distance, "value_gap": abs(value - expected), "expected": expected} | {
        f"curve_{name}": points for name, points in curve.items()
    }


@torch.no_grad()
def _compare(D: torch.nn.Module, spread: float, seed: int) -> tuple[float, float, float]:
    """The mean of |D - p/(p+q)|, the value that D reaches, and the one of the best D."""
    real, fake = _draw(Stream(seed, "optimum check", 0), CHECK, spread)
    points = torch.cat([real, fake])
    log_p, log_q = log_ring(points), _log_gaussian(points, spread)
    logits = D(points.view(-1, *SHAPE)).double().flatten()
    best = log_p - log_q  # the logit of p / (p + q)
    distance = (logits.sigmoid() - best.sigmoid()).abs().mean()
    values = [-float(losses.minimax_d(x[:CHECK], x[CHECK:])) for x in (logits, best)]
    return float(distance), values[0], values[1]  # the second is -log 4 + 2 JSD, by its definition


def draw(figure: Figure, results: Results) -> None:
    """The distance and the value over the steps, and the value of the best D as a line."""
    figure.set_figheight(5.2)
    upper, lower = figure.subplots(2, 1)
    for number, (arm, seeds) in enumerate(results.items()):
        for values in seeds:
            steps = [max(1, step) for step in values["curve_step"]]
            upper.plot(
                steps,
                values["curve_distance"],
                color=f"C{number}",
                label=arm if values is seeds[0] else None,
            )
            lower.plot(steps, values["curve_value"], color=f"C{number}")
        lower.axhline(seeds[0]["expected"], color=f"C{number}", linestyle="--")
    upper.set(xscale="log", xlabel="steps of D", ylabel="mean |D - p/(p+q)|", ylim=(0, None))
    lower.set(xscale="log", xlabel="steps of D", ylabel="value; dashed: -log 4 + 2 JSD")
    upper.legend(frameon=False)
