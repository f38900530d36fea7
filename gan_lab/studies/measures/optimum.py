"""A discriminator of the ring and a fixed Gaussian, whose optimum follows from both densities."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gan_lab import losses, networks
from gan_lab.data import toy
from gan_lab.seeding import Stream
from gan_lab.studies.measures import Arm, Results, Values

BATCH_SIZE = 256
# Points of each density on which D is compared with the optimum.
CHECK_POINTS = 50_000
SHAPE = (2, 1, 1)


def compute_log_density(x: Tensor) -> Tensor:
    """Compute the log density [N] of ``data.name=toy`` at points [N, 2]."""
    centers = torch.from_numpy(toy.centers()).double()
    return torch.logsumexp(
        _compute_log_gaussian(x[:, None] - centers, toy.SPREAD), dim=1
    ) - math.log(len(centers))


def _compute_log_gaussian(x: Tensor, spread: float) -> Tensor:
    return -x.double().square().sum(dim=-1) / (2 * spread**2) - math.log(2 * math.pi * spread**2)


def _sample_points(stream: Stream, n: int, spread: float) -> tuple[Tensor, Tensor]:
    """Sample points of the ring and of the Gaussian, [n, 2] each."""
    like = torch.zeros(0)
    modes = torch.from_numpy(toy.centers())[(stream.uniform(n, like=like) * toy.MODES).long()]
    noise = stream.normal(n, 4, like=like)
    return modes + toy.SPREAD * noise[:, :2], spread * noise[:, 2:]


def measure(arm: Arm) -> Values:
    """Return the mean distance of D from p/(p + q), and of the value from -log 4 + 2 JSD.

    The arguments of an arm are ``spread=``, the standard deviation of the Gaussian, and ``steps=``,
    after which D is compared. The comparison uses equally many points of both densities, 100,000
    in total, for the distance and the Jensen-Shannon divergence.
    """
    spread = arm.number("spread")
    steps = int(arm.number("steps"))
    torch.manual_seed(arm.seed)
    D = networks.discriminator("mlp", shape=SHAPE, width=16, norm="none", dropout=0.0)
    optimizer = torch.optim.Adam(D.parameters(), 1e-3, (0.5, 0.999))
    curve: Values = {"step": [], "distance": [], "value": []}
    for step in range(steps + 1):
        if step in {0, *(10**k for k in range(1, 6)), steps}:
            distance, value, _ = _compare_with_optimum(D, spread, arm.seed)
            curve["step"].append(step)
            curve["distance"].append(distance)
            curve["value"].append(value)
        real, fake = _sample_points(Stream(arm.seed, "optimum", step), BATCH_SIZE, spread)
        loss = losses.minimax_d(D(real.view(-1, *SHAPE)), D(fake.view(-1, *SHAPE)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / (steps + 1))
    distance, value, expected = _compare_with_optimum(D, spread, arm.seed)
    return {"mean_distance": distance, "value_gap": abs(value - expected), "expected": expected} | {
        f"curve_{name}": points for name, points in curve.items()
    }


@torch.no_grad()
def _compare_with_optimum(
    D: torch.nn.Module, spread: float, seed: int
) -> tuple[float, float, float]:
    """Return the mean of |D - p/(p+q)|, the value of D, and the value of the optimal D."""
    real, fake = _sample_points(Stream(seed, "optimum check", 0), CHECK_POINTS, spread)
    points = torch.cat([real, fake])
    log_p = compute_log_density(points)
    log_q = _compute_log_gaussian(points, spread)
    logits = D(points.view(-1, *SHAPE)).double().flatten()
    # The logit of p / (p + q).
    best = log_p - log_q
    distance = (logits.sigmoid() - best.sigmoid()).abs().mean()
    values = [-float(losses.minimax_d(x[:CHECK_POINTS], x[CHECK_POINTS:])) for x in (logits, best)]
    # The value of the optimal D is -log 4 + 2 JSD by definition.
    return float(distance), values[0], values[1]


def draw(figure: Figure, results: Results) -> None:
    """Plot distance and value over the steps, with the value of the optimal D as a dashed line."""
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
