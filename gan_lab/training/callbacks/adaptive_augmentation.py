"""ADA's probability follows what the discriminator says of reals (Karras et al. 2020, arXiv 2006.06676, section 3)."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback


class AdaptiveAugmentation(FamilyCallback):
    """Moves the probability of ``augment.policy=ada``, and logs it as ``augment_p``; after ``Progress``."""

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        if family.augmentation is None or family.augmentation.cfg.policy != "ada":
            return
        accuracy = family.mean_of_shares(family.logged_scalars["accuracy_real"])
        family.log_scalars(augment_p=family.augmentation.p.clone())
        family.augmentation.follow(accuracy, family.iteration - 1)
