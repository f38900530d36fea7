"""What a user does with an experiment: train it, score it, and take its trained family up again."""

from __future__ import annotations

import json
import signal
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import distributed

from gan_lab import data as datasets
from gan_lab import device, launch, report, runs
from gan_lab.callbacks.checkpoint import PREEMPTED, branch_off
from gan_lab.callbacks.guard import DivergedError
from gan_lab.callbacks.health import Flag
from gan_lab.config import Loaded, expand_homes, parse
from gan_lab.data.base import LabData
from gan_lab.experiment import Experiment, build, build_family, rank
from gan_lab.families.base import Family
from gan_lab.images import Batch, save_grid
from gan_lab.metrics.evaluate import Evaluator
from gan_lab.metrics.features import Features
from gan_lab.metrics.neighbours import neighbours
from gan_lab.metrics.offered import inception_measures, measurable, measures_of
from gan_lab.schema import Config, with_values
from gan_lab.seeding import Stream

ROLLBACKS = 3  # of one run
PLACES = ("data.root", "data.cache_gb", "data.workers")  # what evaluate and its like may be told of a run's data


def train(loaded: Loaded, words: Sequence[str], say: Any = print) -> int:
    """Train, or go on training, and score; the exit code: 0, or 128 + the signal that ended it.

    Raises ValueError or OSError for what the user can mend; a training that diverged is such a thing.
    """
    folder, launched = runs.folder_of(loaded), launch.of(loaded.config.run)
    launch.number(launched)
    leader, anew = rank() == 0, loaded.config.run.overwrite and not launched.again
    config = with_values(loaded.config, {"run.overwrite": anew})
    finished = None if anew else runs.finished(folder, config)
    if finished:
        if leader:
            say(f"{folder} is finished: {finished['images']:,} images. On: run.images=<more>, run.id=<another>, "
                "run.overwrite=true")  # fmt: skip
        return 0
    if (folder / "config.yaml").is_file() and config.data.source == "auto" and not anew:
        config = with_values(config, {"data.source": runs.read_config(folder).data.source})
    built = build(config, folder, loaded.experiment, launched=launched)  # before anything is written or deleted
    if leader:
        say(built.data.decoded.about)
        if built.note:
            say(built.note)
        lock = runs.locked(folder)
        runs.prepare(folder, built.config, ["train", loaded.experiment, *words], built.data.decoded.fingerprint)
    path = None if anew else runs.newest(folder)
    if path:
        checkpoint = runs.read(path)
        with runs.fitting(path):
            built.family.load_state_dict(checkpoint["state_dict"])  # says now, in one line, if it is of another network
            if built.tracker:
                built.tracker.id = checkpoint["callbacks"]["Record"]["tracker"]
        if leader:
            say(f"continues {folder} after iteration {checkpoint['iteration']:,}")
    if built.tracker:
        built.tracker.start()
    started = time.time()
    built, diverged = fit(built, loaded.experiment, path)
    code = 128 + built.checkpoint.signal if built.checkpoint.signal else 2 if diverged else 0
    if leader:
        if code == 0:
            conclude(built, loaded.experiment, time.time() - started, say)
        elif not diverged:
            say(f"stopped by signal {code - 128} with a checkpoint; the same command continues {folder}")
        if built.tracker:
            if built.checkpoint.signal == signal.SIGTERM:
                built.tracker.preempted()
            built.tracker.finish(code)
        lock.release()
        if diverged:
            draw_page(folder, say)
            raise ValueError(given_up(built, diverged))
    if code > 128:
        launch.together()  # torchrun and srun end the leader for another rank's code
    return code if leader or code > 128 else 0


def fit(built: Experiment, experiment: str, path: Path | None) -> tuple[Experiment, DivergedError | None]:
    """Train from a checkpoint, or from the start, to the end: the experiment that got there, and what broke it off."""
    while True:
        built.checkpoint.listen(*PREEMPTED)
        try:
            built.trainer.fit(built.family, datamodule=built.data, ckpt_path=path, weights_only=True)
            return built, None
        except DivergedError as diverged:
            if built.config.health.on_nan == "stop" or built.family.branch >= ROLLBACKS:
                return built, diverged
            built, path = rolled_back(built, experiment, diverged)
        except Exception as error:
            if launch.is_broken(error):
                raise launch.lost(launch.of(built.config.run), error, built.config.run.timeout) from None
            raise
        except SystemExit as ended:  # what Lightning makes of a Ctrl-C that comes before the first iteration
            if isinstance(ended.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


def rolled_back(built: Experiment, experiment: str, diverged: DivergedError) -> tuple[Experiment, Path]:
    """A run at its last good checkpoint, in its next branch; a run that is killed from now on continues there too."""
    path, branch = runs.newest(built.folder), built.family.branch + 1
    assert path is not None  # on_nan=rollback writes one before the first iteration
    if rank() == 0:
        iteration = runs.read(path)["iteration"]
        sentence = f"back to iteration {iteration:,}, and on with other random numbers ({branch} of {ROLLBACKS} times)"
        built.health.report(Flag("rollback", diverged.iteration, diverged.images, sentence), leader=True)
        branch_off(path, branch, [asdict(flag) for flag in built.health.flags[-2:]])
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
    return build(built.config, built.folder, experiment, tracker=built.tracker), path


def given_up(built: Experiment, diverged: DivergedError) -> str:
    """What a user is told of a training that diverged, in one line."""
    path, branch = runs.newest(built.folder), built.family.branch
    last = f"the last good checkpoint is {path}" if path else "there was no checkpoint yet"
    tried = f" after {branch} rollbacks" if branch else ""
    again = "" if branch else ", or health.on_nan=rollback, which goes on from there with other random numbers"
    return f"{diverged}{tried}; {last}. Try lower learning rates, a gradient penalty or run.precision=32-true{again}"


def conclude(built: Experiment, experiment: str, seconds: float, say: Any) -> None:
    """Score the best generator by all measures at hand; write summary.json and the page of the run."""
    iteration = built.family.iteration
    state = {
        "experiment": experiment,
        "run_id": built.folder.name,
        "iteration": iteration,
        "images": iteration * built.config.data.batch_size,
        "headline": built.quality.headline,
        "data": built.data.decoded.about,
        "last": built.quality.scores,
        "best_iteration": built.quality.best_at,
        "seconds_of_last_start": round(seconds, 1),
        "peak_memory_mb": round(device.peak_memory()),
        "health": [asdict(flag) for flag in built.health.flags],
    }
    runs.write(built.folder / "summary.json", json.dumps(state, indent=1))
    try:
        evaluate(built.folder, "best", say)
    finally:  # a page of what there is
        draw_page(built.folder, say)


def draw_page(folder: Path, say: Any) -> None:
    """Write the page of a run; a page that cannot be drawn is a warning, for the training is what counts."""
    try:
        say(f"report: {report.write([folder])}")
    except Exception as error:
        warnings.warn(f"no report was drawn: {error}", stacklevel=2)


def restore(folder: Path, weights: str, words: Sequence[str] = ()) -> tuple[Config, LabData, Family, int]:
    """A run's config, data, and family with the averaged networks of a checkpoint; and the checkpoint's iteration.

    ``words`` say where the data are now. Raises ValueError if they are other data.
    """
    config = _placed(runs.read_config(folder), words)
    checkpoint = runs.read(folder / "checkpoints" / f"{weights}.ckpt")
    data = datasets.load(config.data, config.run.seed)
    runs.check_data(folder, data.decoded.fingerprint)
    family = build_family(config, data)
    with runs.fitting(folder):
        family.load_state_dict(checkpoint["state_dict"])
        for name, state in checkpoint["ema"].items():
            getattr(family, name).load_state_dict(state)
    family.eval().requires_grad_(False)
    return config, data, family.to(device.here()), checkpoint["iteration"]


def _placed(config: Config, words: Sequence[str]) -> Config:
    """A run's config with other places. Raises ValueError for words about anything else."""
    for word in words:
        if word.partition("=")[0] not in PLACES:
            raise ValueError(f"{word}: of a run that is there, only {', '.join(PLACES)} can be given")
    return expand_homes(parse([runs.plain(config), OmegaConf.from_dotlist(list(words))]))


def evaluate(folder: Path, weights: str, say: Any = print, words: Sequence[str] = ()) -> dict[str, Any]:
    """Score a checkpoint of a run by all measures at hand; each value with its protocol, into summary.json.

    Beside it ``neighbours.png``: samples and the training images nearest to them.
    """
    config, data, family, iteration = restore(folder, weights, words)
    cfg, available = config.metrics, data.available(config.metrics.split)
    every, _ = measurable(measures_of(family, data.spec, cfg, full=True), available, cfg)
    more, why_not = inception_measures(cfg, data.spec, min(cfg.n, available))
    every += more
    if why_not:
        say(why_not)
    evaluator = Evaluator(data, every, cfg, config.run.seed, shared=False)
    values, which = evaluator(family), f"ema {weights}, iteration {iteration}"
    scores: dict[str, Any] = {}
    for name, higher in evaluator.higher_is_better.items():
        if name in values:
            spread = {"spread": values[f"{name}_sd"]} if f"{name}_sd" in values else {}
            entry = {"value": values[name], **spread, "higher_is_better": higher}
            scores[name] = entry | {"protocol": evaluator.protocol(name, which)}
    compared = [measure for measure in every if isinstance(measure, Features)]
    if compared and not data.spec.source_channels and data.spec.content != "points" and len(data.train) > 1:
        ratio, protocol, pairs = neighbours(family, data, compared[0], cfg, config.run.seed)
        name = f"nearest_ratio_{compared[0].extractor.name}"
        said = evaluator.protocol(compared[0].names[0], which) | protocol
        if ratio is not None:
            said |= {"split": "train and held_out"}
            scores[name] = {"value": ratio, "higher_is_better": None, "protocol": said}
        save_grid(pairs, 8, folder / "neighbours.png")
    state: dict[str, Any] = {"experiment": folder.resolve().parent.name, "iteration": iteration}
    state |= {"images": iteration * config.data.batch_size} | runs.summary(folder)
    state["scores"] = state.get("scores", {}) | {weights: scores}
    runs.write(folder / "summary.json", json.dumps(state, indent=1))
    return state


def reconstruct(folder: Path, n: int, out: Path, words: Sequence[str] = ()) -> None:
    """Draw n held-out images, each beside its reconstruction. Raises ValueError for a family that has no encoder."""
    family, batch = _held_out(folder, n, words)
    with torch.no_grad():
        made = family.outputs(batch, Stream(0, "reconstruct"))["reconstructed"]
    save_grid(torch.stack([batch.images, made], dim=1).flatten(0, 1), 8, out)


def interpolate(folder: Path, n: int, steps: int, out: Path, words: Sequence[str] = ()) -> None:
    """Draw the straight ways between the latents of held-out images 1 and 2, 2 and 3 ..., one in a row."""
    family, batch = _held_out(folder, n + 1, words)
    if len(batch.images) < 2:
        raise ValueError(f"{folder} has one held-out image: a way needs two")
    with torch.no_grad():
        z, _ = family.encoder(batch.images)
        share = torch.linspace(0, 1, steps, device=z.device).view(1, -1, 1)
        ways = z[:-1].unsqueeze(1) * (1 - share) + z[1:].unsqueeze(1) * share
        save_grid(family.generator(ways.flatten(0, 1)), steps, out)


def _held_out(folder: Path, n: int, words: Sequence[str]) -> tuple[Any, Batch]:
    _, data, family, _ = restore(folder, "best", words)
    if "reconstructed" not in family.offers:
        raise ValueError(f"{folder} has no encoder, as the runs of family vaegan have")
    (batch,) = data.reference(n, size=n)
    return family, batch.on(family.device, family.dtype)
