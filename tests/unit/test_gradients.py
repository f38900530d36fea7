from __future__ import annotations

import pytest
import torch
from torch import Tensor, distributed

from gan_lab.distributed.gradients import average_gradients


def test_average_gradients_of_two_ranks_are_their_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other rank's gradients arrive in one message; each tensor receives its mean."""
    own = [
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor(5.0),
        torch.tensor([6.0, 7.0]).expand(3, 2).clone().t(),
    ]
    other = [gradient * 3 for gradient in own]
    expected = [gradient * 2 for gradient in own]
    messages: list[Tensor] = []

    def all_reduce(flat: Tensor) -> None:
        messages.append(flat)
        flat += torch.cat([gradient.reshape(-1) for gradient in other])

    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    average_gradients(own)
    assert len(messages) == 1
    for gradient, mean in zip(own, expected, strict=True):
        torch.testing.assert_close(gradient, mean, rtol=0, atol=0)
    average_gradients([])
    assert len(messages) == 1
