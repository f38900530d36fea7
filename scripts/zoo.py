"""Train and export the models of ``gan_lab/zoo``, and write the table in docs/zoo.md.

``python scripts/zoo.py`` trains what is missing below runs/zoo, by the lab's own commands; finished
trainings are only exported again.
"""

from __future__ import annotations

import re
from pathlib import Path

import gan_lab
from gan_lab.images import save_grid
from gan_lab.inference.export import export
from gan_lab.runs import zoo
from gan_lab.runs.addresses import ZOO_PREFIX

# experiment and overrides, by the name of the model
MODELS = {
    "digits": ("r3gan", ["data.source=sample"]),
    "emoji": ("sngan_emoji", ["run.images=80_000"]),
    "line_drawings": ("pix2pix_emoji", ["model.width=8"]),
}
DOCS = Path(__file__).parents[1] / "docs"
TABLE = re.compile(r"(?<=<!-- table -->\n\n).*?(?=\n\n<!-- end -->)", re.DOTALL)
PICTURE_IMAGES = 40


def main() -> None:
    """Train, export, and write pictures and table."""
    for name, (experiment, overrides) in MODELS.items():
        run = gan_lab.train(experiment, overrides=[*overrides, "run.root=runs/zoo"])
        export(run.path, zoo.ZOO_FOLDER / name)
        if not zoo.read_model(zoo.ZOO_FOLDER / name).translates:
            generator = gan_lab.load_generator(f"{ZOO_PREFIX}{name}", exact=True)
            images = generator(PICTURE_IMAGES)
            save_grid(images, 20, DOCS / f"zoo_{name}.png", record=generator.record)
    page = DOCS / "zoo.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(TABLE.sub(lambda _: render_table(), text), encoding="utf-8")


def render_table() -> str:
    """Return the table of the models in Markdown."""
    rows = [
        ["model", "makes", "trained by", "score of its test images", "MB"],
        ["---"] * 5,
    ]
    for model in zoo.list_models():
        rows.append(
            [
                f"`{model.address}`",
                model.summary,
                f"`{model.config['command']}`",
                model.headline,
                f"{model.size_bytes / 1e6:.1f}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    main()
