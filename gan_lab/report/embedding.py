"""A script that brings the networks of a run into other pages, and lines that use it."""

from __future__ import annotations

import json
from typing import Any

from gan_lab.report.run_page import ASSETS

SCRIPT_NAME = "generator.js"
LATENTS_SNIPPET = """<canvas id="gan" style="width: 14rem; image-rendering: pixelated"></canvas>
<button id="next">Another</button>
<script src="generator.js"></script>
<script>
  const canvas = document.getElementById("gan");
  let seed = 0;
  const draw = () => ganLab.draw(canvas, { seed: seed % ganLab.seeds, label: 0 });
  document.getElementById("next").addEventListener("click", () => { seed += 1; draw(); });
  draw();
</script>
"""
TRANSLATOR_SNIPPET = """<input type="file" id="photo" accept="image/*" aria-label="Photo">
<canvas id="gan" style="width: 14rem"></canvas>
<script src="generator.js"></script>
<script>
  document.getElementById("photo").addEventListener("change", async (event) => {
    const photo = await createImageBitmap(event.target.files[0]);
    ganLab.translate(photo, document.getElementById("gan"));
  });
</script>
"""
INPAINTING_SNIPPET = """<input type="file" id="photo" accept="image/*" aria-label="Photo">
<canvas id="gan" style="width: 14rem"></canvas>
<script src="generator.js"></script>
<script>
  document.getElementById("photo").addEventListener("change", async (event) => {
    const photo = await createImageBitmap(event.target.files[0]);
    const { width, height } = photo, mask = new OffscreenCanvas(width, height), \
pen = mask.getContext("2d");
    pen.fillStyle = "white";  // what is to be filled: the middle
    pen.fillRect(width / 4, height / 4, width / 2, height / 2);
    ganLab.translate(photo, document.getElementById("gan"), "AtoB", mask);
  });
</script>
"""


def render_script(model: dict[str, Any]) -> str:
    """Render ``generator.js``, which defines ``ganLab``.

    Args:
        model: A description of ``live.describe_run``.
    """
    engine, embed = ((ASSETS / f"{name}.js").read_text("utf-8") for name in ("engine", "embed"))
    described = json.dumps(
        {
            key: value
            for key, value in model.items()
            if key not in ("name", "grid", "images", "code", "others", "omitted")
        }
    )
    return f"const ganLab = (() => {{\n{engine}\nconst model = {described};\n{embed}}})();\n"


def choose_snippet(arguments: dict[str, Any]) -> str:
    """Return ten lines of HTML that draw an image, or translate one.

    Args:
        arguments: The arguments of the generator's recipe.
    """
    if "z_dim" in arguments:
        return LATENTS_SNIPPET
    is_filling = arguments["source_channels"] == arguments["shape"][0] + 1
    return INPAINTING_SNIPPET if is_filling else TRANSLATOR_SNIPPET
