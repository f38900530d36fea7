"""Measure the time per image of the generators in a report page (make bench-page).

It needs Chromium. The untrained generators of the digit experiments, in their default sizes,
generate one image at a time with the script of the page. The result is the median over the images.
"""

from __future__ import annotations

import json
import shutil
import sys

from playwright.sync_api import sync_playwright

from gan_lab import data as datasets
from gan_lab.config import loading
from gan_lab.networks import graph
from gan_lab.report import live, run_page
from gan_lab.training import builder

NAMES = (
    "gan",
    "dcgan",
    "cgan",
    "acgan",
    "sgan",
    "infogan",
    "wgan_gp",
    "vaegan",
    "sngan",
    "r3gan",
    "stylegan2",
)
IMAGES = 25
TIMING_SCRIPT = """([network, inputs]) => {
  const opened = engine.open(network), times = [];
  for (const side of Object.values(inputs)) side.data = Float32Array.from(side.data);
  for (let i = 0; i < IMAGES; i++) {
    const started = performance.now();
    engine.run(opened, inputs);
    times.push(performance.now() - started);
  }
  return times.sort((a, b) => a - b)[IMAGES >> 1];
}""".replace("IMAGES", str(IMAGES))


def main() -> None:
    names = sys.argv[1:]
    browser = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if browser is None:
        sys.exit("Chromium is not installed. Install it, or run this on another machine.")
    engine = (
        (run_page.ASSETS / "engine.js")
        .read_text("utf-8")
        .replace("const engine =", "globalThis.engine =")
    )
    with sync_playwright() as driver:
        tab = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page()
        tab.add_script_tag(content=engine)
        for name in names or NAMES:
            config = loading.load(name, ["data.source=sample"]).config
            family = (
                builder.build_family(config, datasets.load(config.data, 0))
                .eval()
                .requires_grad_(False)
            )
            inputs, dynamic = graph.make_example_inputs(family.generator)  # type: ignore[arg-type]
            traced = graph.trace(family.generator, inputs, dynamic)  # type: ignore[arg-type]
            described = live.describe_network(family.generator, *traced)  # type: ignore[arg-type]
            latent = {
                side: {"shape": [1, *value.shape[1:]], "data": value[0].flatten().tolist()}
                for side, value in inputs.items()
            }
            milliseconds = tab.evaluate(TIMING_SCRIPT, [json.loads(json.dumps(described)), latent])
            weights = sum(weight.numel() for weight in family.generator.parameters())  # type: ignore[union-attr]
            print(f"{name:<9} {weights:>9,} weights  {milliseconds:6.1f} ms an image")


if __name__ == "__main__":
    main()
