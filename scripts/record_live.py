"""Record terminal and page of a training, from the command on: docs/live_training.gif, times.

    .venv/bin/python scripts/record_live.py cgan data.source=sample
    .venv/bin/python scripts/record_live.py sngan_faces data.source=sample --no-gif

Prints when the first line, the first grid of a trained generator and the page exist, in seconds
since the command, and in CPU seconds of the training, which hardly depend on other programs. For a
conditional generator of digits, also when the first grid exists of which the digit classifier
recognizes half of the digits, and its training images. ``--out`` adds them to a JSON file. The
training is stopped after ``--seconds``.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Error, sync_playwright

from gan_lab.config import loading
from gan_lab.metrics import extractors
from gan_lab.runs.run_folder import RunFolder

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE_SIZE = {"width": 800, "height": 900}
TERMINAL_WIDTH = 520
# a terminal as HTML; the clock is that of the command
TERMINAL = """<body style="margin: 0; background: #1b1b1b; color: #e6e6e6">
<pre style="margin: 12px; font: 15px monospace; white-space: pre-wrap">{text}</pre></body>"""
COLORS = 64
FRAME_MS = 700
POLL_S = 0.05
# share of the digits that the classifier recognizes
RECOGNIZED = 0.5


class Training:
    """``gan-lab train`` in a process of its own, with its times."""

    def __init__(self, experiment: str, overrides: list[str], folder: Path) -> None:
        self.folder = folder
        # without the overrides of this script
        self.command = shlex.join(["gan-lab", "train", experiment, *overrides[:-2]])
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gan_lab", "train", experiment, *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.times: dict[str, dict[str, float]] = {}
        # when each grid was first seen, by its training images
        self.grid_times: dict[int, dict[str, float]] = {}
        self.lines: list[str] = []
        threading.Thread(target=self._read_lines, daemon=True).start()

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.note("first line")
            self.lines.append(line)

    def show_terminal(self) -> str:
        """Return command, output and clock as HTML."""
        root = str(self.folder.parent.parent)
        output = [line.rstrip().replace(root, "runs") for line in self.lines]
        lines = [f"$ {self.command}", "", *output]
        clock = f"{time.monotonic() - self.started:.0f} seconds"
        return TERMINAL.format(text=html.escape("\n".join([*lines, "", clock])))

    def note(self, event: str) -> None:
        """Record the time of an event, unless it has happened before."""
        if event not in self.times:
            self.times[event] = self.read_clocks()

    def note_grids(self) -> None:
        """Record the time of each new grid."""
        for path in self.list_grids():
            if int(path.stem) not in self.grid_times:
                self.grid_times[int(path.stem)] = self.read_clocks()

    def read_clocks(self) -> dict[str, float]:
        """Return the seconds since the command, and the CPU seconds of the training."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        seconds = time.monotonic() - self.started
        return {"seconds": round(seconds, 1), "cpu_seconds": round(cpu_s, 1)}

    def list_grids(self) -> list[Path]:
        """List the grids of a trained generator; the one before the first iteration is noise."""
        return [path for path in sorted(self.folder.glob("samples/0*.png")) if int(path.stem)]

    def stop(self) -> None:
        """Stop as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def recognize(grid: Path, size: int) -> float:
    """Return the share of the digits of a grid that show the class of their row."""
    with Image.open(grid) as image:
        pixels = np.asarray(image.convert("L"))
    step = size + 2
    rows = [pixels[2 + i * step :][:size] for i in range(10)]
    tiles = np.stack([row[:, 2 + j * step :][:, :size] for row in rows for j in range(10)])
    _, logits = extractors.load("digits")(torch.from_numpy(tiles.copy())[:, None])
    assert logits is not None
    return float((logits.argmax(1) == torch.arange(10).repeat_interleave(10)).float().mean())


def main() -> None:
    """Train, record, and print the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("arguments", nargs="+", help="an experiment and key=value overrides")
    parser.add_argument("--seconds", type=float, default=60.0, help="when to stop the training")
    parser.add_argument("--no-gif", action="store_true", help="only measure")
    parser.add_argument("--out", type=Path, help="JSON file that gets the times")
    options = parser.parse_intermixed_args()
    experiment, *overrides = options.arguments
    with TemporaryDirectory() as root:
        overrides = [*overrides, f"run.root={root}", "log.wandb=off"]
        loaded = loading.load(experiment, overrides)
        training = Training(experiment, overrides, RunFolder.of(loaded).path)
        try:
            frames = [] if options.no_gif else record(training, options.seconds)
            watch(training, options.seconds)
        finally:
            training.stop()
        if loaded.config.data.name == "mnist" and loaded.config.family == "cgan":
            size = loaded.config.data.size
            shares = {int(path.stem): recognize(path, size) for path in training.list_grids()}
            found = [images for images, share in shares.items() if share >= RECOGNIZED]
            if found:
                # the last grid can be written while the training stops, which nobody watches
                seen = training.grid_times.get(found[0], {})
                training.times["recognized"] = {"images": found[0], **seen}
            print({images: round(share, 2) for images, share in shares.items()})
    print(json.dumps(training.times, indent=1))
    if frames:
        palette = frames[0].quantize(COLORS)
        first, *others = [
            frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
        ]
        path = DOCS / "live_training.gif"
        first.save(path, save_all=True, append_images=others, duration=FRAME_MS, loop=0)
    if options.out is not None:
        found = json.loads(options.out.read_text()) if options.out.is_file() else {}
        found[experiment] = training.times
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def watch(training: Training, seconds: float) -> None:
    """Note the times of files until a time after the command."""
    while time.monotonic() - training.started < seconds and training.process.poll() is None:
        note_files(training)
        time.sleep(POLL_S)


def note_files(training: Training) -> None:
    """Note which files exist now."""
    if training.process.poll() is not None:
        raise RuntimeError("".join(training.lines))
    if training.list_grids():
        training.note("first grid")
        training.note_grids()
    if (training.folder / "report.html").exists():
        training.note("page")


def record(training: Training, seconds: float) -> list[Any]:
    """Record the page in Chromium, a screenshot for each grid."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        raise SystemExit("Chromium is not installed. Install it, for example: apt install chromium")
    frames = []
    page_path = training.folder / "report.html"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport=PAGE_SIZE, color_scheme="light")
        terminal = browser.new_page()
        shown = ""
        while time.monotonic() - training.started < seconds:
            note_files(training)
            if page_path.exists():
                if not shown:
                    page.goto(page_path.resolve().as_uri())
                try:
                    seen = page.evaluate("document.getElementById('seen')?.textContent ?? ''")
                    if seen != shown:
                        page.wait_for_selector("#live[aria-busy=false]", state="attached")
                        grids = take_screenshot(page.locator("#grids"))
                        terminal.set_viewport_size(
                            {"width": TERMINAL_WIDTH, "height": grids.height}
                        )
                        terminal.set_content(training.show_terminal())
                        frames.append(join(take_screenshot(terminal), grids))
                        shown = seen
                except Error:
                    # the page has just reloaded itself
                    continue
            time.sleep(POLL_S)
    return frames


def take_screenshot(shown: Any) -> Image.Image:
    """Take a screenshot of a page, or of a part of it."""
    return Image.open(io.BytesIO(shown.screenshot())).convert("RGB")


def join(left: Image.Image, right: Image.Image) -> Image.Image:
    """Join two pictures side by side."""
    picture = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), "white")
    picture.paste(left, (0, 0))
    picture.paste(right, (left.width, 0))
    return picture


if __name__ == "__main__":
    main()
