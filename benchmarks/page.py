"""What an image costs in the page of a run: `make bench-page`, where Chromium is installed.

The generators of the digits' experiments at their shipped sizes, untrained, each makes one image at a time by the page's
own script; what is told is the median of so many.
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

NAMES = ("gan", "dcgan", "cgan", "acgan", "sgan", "infogan", "wgan_gp", "vaegan", "sngan", "r3gan")
IMAGES = 25
TIMED = """([network, inputs]) => {
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
        sys.exit("no Chromium is installed")
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
            described = live.describe(
                family.generator, *graph.trace(family.generator, inputs, dynamic)
            )  # type: ignore[arg-type]
            one = {
                side: {"shape": [1, *value.shape[1:]], "data": value[0].flatten().tolist()}
                for side, value in inputs.items()
            }
            milliseconds = tab.evaluate(TIMED, [json.loads(json.dumps(described)), one])
            weights = sum(weight.numel() for weight in family.generator.parameters())  # type: ignore[union-attr]
            print(f"{name:<8} {weights:>9,} weights  {milliseconds:6.1f} ms an image")


if __name__ == "__main__":
    main()
