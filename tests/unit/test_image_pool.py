from __future__ import annotations

import torch
from torch import Tensor

from gan_lab.networks.image_pool import ImagePool


def numbered(*numbers: float) -> Tensor:
    """Images [B, 1, 2, 2], each of one number."""
    return torch.tensor(numbers).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def read_values(images: Tensor) -> list[float]:
    assert torch.equal(images, images[:, :1, :1, :1].expand_as(images))
    return images[:, 0, 0, 0].tolist()


SWAP, KEEP = 0.49, 0.5  # the coin: below a half is a swap


def test_a_pool_that_is_not_full_stores_every_image_and_gives_it_back() -> None:
    pool = ImagePool(4, (1, 2, 2))
    for number in (1.0, 2.0, 3.0):
        assert read_values(pool(numbered(number), torch.tensor([[0.0, 0.0]]))) == [number]
    assert read_values(pool.images) == [1, 2, 3, 0]
    assert int(pool.count) == 3


def test_a_full_pool_swaps_or_passes_as_the_draws_say() -> None:
    pool = ImagePool(2, (1, 2, 2))
    pool(numbered(1, 2), torch.zeros(2, 2))
    assert read_values(pool(numbered(3), torch.tensor([[KEEP, 0.0]]))) == [3]
    assert read_values(pool.images) == [1, 2]
    assert read_values(pool(numbered(4), torch.tensor([[SWAP, 0.5]]))) == [
        2
    ]  # the second half of [0, 1) is the second place
    assert read_values(pool.images) == [1, 4]
    assert read_values(pool(numbered(5), torch.tensor([[SWAP, 0.499]]))) == [1]
    assert read_values(pool.images) == [5, 4]
    assert int(pool.count) == 2


def test_a_batch_is_worked_off_image_by_image_so_that_one_may_swap_out_the_one_before() -> None:
    pool = ImagePool(2, (1, 2, 2))
    given = pool(
        numbered(1, 2, 3, 4, 5), torch.tensor([[SWAP, 0.9]] * 2 + [[SWAP, 0.0]] * 2 + [[KEEP, 0.0]])
    )
    assert read_values(given) == [1, 2, 1, 3, 5]
    assert read_values(pool.images) == [4, 2]


def test_a_batch_gives_what_its_images_give_one_by_one() -> None:
    images, draws = torch.rand(40, 1, 2, 2), torch.rand(40, 2)
    whole, single = ImagePool(5, (1, 2, 2)), ImagePool(5, (1, 2, 2))
    at_once = torch.cat([whole(images[:7], draws[:7]), whole(images[7:], draws[7:])])
    assert torch.equal(
        at_once, torch.cat([single(images[i : i + 1], draws[i : i + 1]) for i in range(40)])
    )
    assert torch.equal(whole.images, single.images)
    assert not torch.equal(at_once, images)


def test_half_of_what_a_full_pool_gives_is_old_and_every_place_is_chosen_alike() -> None:
    pool = ImagePool(8, (1, 1, 1))
    pool(torch.arange(8.0).view(-1, 1, 1, 1), torch.zeros(8, 2))
    n = 4000
    fakes, draws = (
        8 + torch.arange(n).float().view(-1, 1, 1, 1),
        torch.rand(n, 2, generator=torch.manual_seed(0)),
    )
    given = pool(fakes, draws)
    swapped = given != fakes
    assert abs(float(swapped.float().mean()) - 0.5) < 5 * 0.5 / n**0.5  # five standard errors
    age = (fakes - given)[swapped][200:]  # a stored image waits 2 x 8 images on average
    assert abs(float(age.mean()) - 16) < 2
    assert (
        len({*given.flatten().tolist()}) == n
    )  # no image is given twice, for what is given has left the pool


def test_a_pool_of_none_passes_images_through() -> None:
    images = numbered(1, 2)
    assert ImagePool(0, (1, 2, 2))(images, torch.zeros(2, 2)) is images


def test_what_comes_out_of_a_pool_carries_no_gradient_and_its_own_type() -> None:
    pool = ImagePool(1, (1, 2, 2))
    given = pool(numbered(1.5).bfloat16().requires_grad_(), torch.zeros(1, 2))
    assert not given.requires_grad
    assert (given.dtype, pool.images.dtype) == (torch.bfloat16, torch.float32)


def test_a_pool_is_restored_from_its_state() -> None:
    pool, again = ImagePool(3, (1, 2, 2)), ImagePool(3, (1, 2, 2))
    pool(numbered(1, 2), torch.zeros(2, 2))
    again.load_state_dict(pool.state_dict())
    draws = torch.tensor([[SWAP, 0.0]] * 2)
    assert (
        read_values(again(numbered(3, 4), draws))
        == read_values(pool(numbered(3, 4), draws))
        == [3, 1]
    )
    assert not list(pool.parameters())
