"""The GAN lab: train, compare and understand GANs with PyTorch and Lightning.

Train a published method in your own Trainer, or with the lab's loop (docs/api.md)::

    import gan_lab, lightning

    model = gan_lab.WGANGP(image_shape=(1, 28, 28))
    lightning.Trainer(max_steps=1000).fit(model, my_dataloader)

    run = gan_lab.train("cgan", overrides=["run.images=20000"])
    run.sample_grid()

Everything is imported on first use, so that ``import gan_lab`` and the command line start without
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lab import metrics as metrics
    from gan_lab.api import train as train
    from gan_lab.data.modules import CelebADataModule as CelebADataModule
    from gan_lab.data.modules import Horse2ZebraDataModule as Horse2ZebraDataModule
    from gan_lab.data.modules import ImageFolderDataModule as ImageFolderDataModule
    from gan_lab.data.modules import MNISTDataModule as MNISTDataModule
    from gan_lab.families.acgan import ACGAN as ACGAN
    from gan_lab.families.cgan import CGAN as CGAN
    from gan_lab.families.cut import CUT as CUT
    from gan_lab.families.cyclegan import CycleGAN as CycleGAN
    from gan_lab.families.gan import GAN as GAN
    from gan_lab.families.infogan import InfoGAN as InfoGAN
    from gan_lab.families.pix2pix import Pix2Pix as Pix2Pix
    from gan_lab.families.r3gan import R3GAN as R3GAN
    from gan_lab.families.sgan import SGAN as SGAN
    from gan_lab.families.sngan import SNGAN as SNGAN
    from gan_lab.families.stylegan2 import StyleGAN2 as StyleGAN2
    from gan_lab.families.vaegan import VAEGAN as VAEGAN
    from gan_lab.families.wgan import WGAN as WGAN
    from gan_lab.families.wgan_gp import WGANGP as WGANGP
    from gan_lab.inference.direction_search import find_directions as find_directions
    from gan_lab.inference.sampling import load_generator as load_generator
    from gan_lab.runs.run import Run as Run
    from gan_lab.runs.run import open_run as open_run
    from gan_lab.scoring import score as score
    from gan_lab.utils.errors import UserError as UserError

__version__ = "0.1.0"

_EXPORTS = {
    # families, as LightningModules
    "ACGAN": "gan_lab.families.acgan",
    "CGAN": "gan_lab.families.cgan",
    "CUT": "gan_lab.families.cut",
    "CycleGAN": "gan_lab.families.cyclegan",
    "GAN": "gan_lab.families.gan",
    "InfoGAN": "gan_lab.families.infogan",
    "Pix2Pix": "gan_lab.families.pix2pix",
    "R3GAN": "gan_lab.families.r3gan",
    "SGAN": "gan_lab.families.sgan",
    "SNGAN": "gan_lab.families.sngan",
    "StyleGAN2": "gan_lab.families.stylegan2",
    "VAEGAN": "gan_lab.families.vaegan",
    "WGAN": "gan_lab.families.wgan",
    "WGANGP": "gan_lab.families.wgan_gp",
    # data modules
    "CelebADataModule": "gan_lab.data.modules",
    "Horse2ZebraDataModule": "gan_lab.data.modules",
    "ImageFolderDataModule": "gan_lab.data.modules",
    "MNISTDataModule": "gan_lab.data.modules",
    # the lab's loop, its runs, scores and generators
    "Run": "gan_lab.runs.run",
    "UserError": "gan_lab.utils.errors",
    "find_directions": "gan_lab.inference.direction_search",
    "load_generator": "gan_lab.inference.sampling",
    "open_run": "gan_lab.runs.run",
    "score": "gan_lab.scoring",
    "train": "gan_lab.api",
}
# The subpackage metrics is not in _EXPORTS, because it is a module.
__all__ = [*_EXPORTS, "metrics"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    if name == "metrics":
        return import_module("gan_lab.metrics")
    raise AttributeError(f"module 'gan_lab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
