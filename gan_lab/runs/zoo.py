"""The trained models that ship with the package, named ``zoo:name``.

Each model is an export (``gan-lab export``) in ``gan_lab/zoo``. Needs no torch.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_lab.config.extensions import explain_unknown_name
from gan_lab.runs.addresses import ZOO_PREFIX
from gan_lab.utils.errors import UserError
from gan_lab.utils.output import EXPORT_CONFIG

ZOO_FOLDER = Path(__file__).parents[1] / "zoo"
# of the library, and so of its weights; the owner chooses it, see CONTRIBUTING.md
LICENSE_LINE = "none chosen, all rights reserved"


@dataclass(frozen=True)
class ZooModel:
    """A trained model of the package.

    Attributes:
        name: Its name after ``zoo:``.
        path: The folder of its export.
        config: Content of its ``config.json``.
    """

    name: str
    path: Path
    config: dict[str, Any]

    @property
    def address(self) -> str:
        """The argument of commands, ``zoo:name``."""
        return f"{ZOO_PREFIX}{self.name}"

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the generator's architecture, such as ``z_dim`` and ``shape``."""
        arguments: dict[str, Any] = self.config["networks"]["generator"]["recipe"]["arguments"]
        return arguments

    @property
    def translates(self) -> bool:
        """True if it is an image-to-image model."""
        return "source_channels" in self.arguments

    @property
    def summary(self) -> str:
        """A few words on what the model makes."""
        if self.translates:
            return "image-to-image, any size"
        channels, height, width = self.arguments["shape"]
        kind = "gray" if channels == 1 else "color"
        classes = self.arguments.get("classes", 0)
        of_classes = f" of {classes} classes" if classes else ""
        return f"{kind} images{of_classes}, {width} x {height} pixels"

    @property
    def size_bytes(self) -> int:
        """Size of the weights in bytes."""
        return sum(path.stat().st_size for path in self.path.glob("*.safetensors"))

    @property
    def headline(self) -> str:
        """The score that selected the weights, with its value."""
        name = self.config["headline"]
        score = self.config["scores"].get(name)
        return f"{name} {score['value']:.4g}" if score else "not scored"

    @property
    def usage(self) -> str:
        """A command that uses the model."""
        if self.translates:
            return f"gan-lab translate {self.address} photos out"
        label = ""
        if classes := self.config["classes"]:
            label = f" --label {shlex.quote(classes[min(7, len(classes) - 1)])}"
        return f"gan-lab sample {self.address}{label}"


def list_models() -> list[ZooModel]:
    """List the models, by name."""
    return [read_model(path.parent) for path in sorted(ZOO_FOLDER.glob(f"*/{EXPORT_CONFIG}"))]


def read_model(folder: Path) -> ZooModel:
    """Read the config of the model in a folder."""
    text = (folder / EXPORT_CONFIG).read_text(encoding="utf-8")
    return ZooModel(folder.name, folder, json.loads(text))


def find_model(address: str) -> Path:
    """Return the folder of a model.

    Args:
        address: ``zoo:name``.

    Raises:
        UserError: There is no such model.
    """
    name = address.removeprefix(ZOO_PREFIX)
    names = sorted(path.parent.name for path in ZOO_FOLDER.glob(f"*/{EXPORT_CONFIG}"))
    if name not in names:
        raise UserError(explain_unknown_name("model of the zoo", name, names))
    return ZOO_FOLDER / name
