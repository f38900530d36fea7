"""The Dirac-GAN: the generator is a point θ, real data are at 0, the discriminator's logit is ψ x.

Source: Mescheder et al. 2018 (arXiv 1801.04406), definition 2.1, with the library's minimax loss
and R1 penalty.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gan_lab import losses, penalties
from gan_lab.seeding import Stream
from gan_lab.studies.measures import Arm, Results, Values

STEP_SIZE = 0.1
STEPS = 1000
# Distance from the equilibrium at the start. So close to it the dynamics are nearly linear.
START_DISTANCE = 0.05


def compute_gradients(psi: Tensor, theta: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return the gradient of the discriminator's loss in ψ, and of the generator's in θ."""
    psi, theta = psi.detach().requires_grad_(), theta.detach().requires_grad_()
    real = torch.zeros(1, 1, dtype=torch.float64)
    loss_d = losses.minimax_d(psi * real[0], psi * theta)
    loss_g = losses.minimax_g(psi * theta)
    (theta_gradient,) = torch.autograd.grad(loss_g, theta, retain_graph=True)
    r1 = penalties.zero_centered_penalty(lambda x: (psi * x).flatten(), real) if gamma else 0.0
    (psi_gradient,) = torch.autograd.grad(loss_d + 0.5 * gamma * r1, psi)
    return psi_gradient, theta_gradient


def compute_eigenvalue(order: str, gamma: float) -> float:
    """Compute the largest modulus of the eigenvalues of a step's Jacobian at (ψ, θ) = 0.

    At this equilibrium the logit's slopes are -f'(0) = ½: ψ moves by -h(½ θ + γ ψ), θ by +h ½ ψ.
    """
    h = STEP_SIZE
    d_step = np.array([[1 - h * gamma, -h / 2], [0, 1]])
    g_step = np.array([[1, 0], [h / 2, 1]])
    both = np.array([[1 - h * gamma, -h / 2], [h / 2, 1]])
    return float(
        np.abs(np.linalg.eigvals(both if order == "simultaneous" else g_step @ d_step)).max()
    )


def measure(arm: Arm) -> Values:
    """Return the growth of the distance from the equilibrium, and the trajectory.

    ``growth`` is that of the distance's logarithm per step, ``error`` its difference from the
    largest eigenvalue's.
    """
    order = arm.text("order")
    gamma = arm.number("r1")
    angle = 2 * math.pi * float(Stream(arm.seed, "dirac", 0).uniform(1, like=torch.zeros(0)))
    psi = torch.tensor([START_DISTANCE * math.cos(angle)], dtype=torch.float64)
    theta = torch.tensor([START_DISTANCE * math.sin(angle)], dtype=torch.float64)
    trajectory = [(float(psi), float(theta))]
    for _ in range(STEPS):
        psi_gradient, theta_gradient = compute_gradients(psi, theta, gamma)
        psi = psi - STEP_SIZE * psi_gradient
        if order == "alternating":
            _, theta_gradient = compute_gradients(psi, theta, gamma)
        theta = theta - STEP_SIZE * theta_gradient
        trajectory.append((float(psi), float(theta)))
    distance = [math.hypot(*point) for point in trajectory]
    growth = math.log(distance[-1] / distance[0]) / STEPS
    return {
        "growth": growth,
        "error": abs(growth - math.log(compute_eigenvalue(order, gamma))),
        "psi": [point[0] for point in trajectory[::10]],
        "theta": [point[1] for point in trajectory[::10]],
    }


def draw(figure: Figure, results: Results) -> None:
    """Plot the trajectory of the first seed in the plane of both players."""
    figure.set_figheight(5.2)
    panels = figure.subplots(2, 2).flatten()
    for axes, (arm, seeds) in zip(panels, results.items(), strict=True):
        psi, theta = seeds[0]["psi"], seeds[0]["theta"]
        axes.plot(psi, theta, linewidth=0.7)
        axes.plot(psi[0], theta[0], "o", markersize=4)
        axes.plot(0, 0, "+", color="black")
        axes.set(
            title=arm.replace("_r1", ", R1"), xlabel="ψ, of D", ylabel="θ, of G", aspect="equal"
        )
        limit = 1.1 * max(map(abs, [*psi, *theta]))
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        axes.locator_params(nbins=2)
        axes.tick_params(labelsize=8)
