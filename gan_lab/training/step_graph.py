"""Capture of a family's ``step`` as a graph, whose replay launches all its kernels at once.

On a GPU a small network waits for Python, which launches hundreds of kernels per step. A CUDA graph
needs no Python, but repeats exactly what was captured. So what differs between two iterations is
kept outside of the graph:

- The batch and all random numbers are copied into static tensors before each replay. The numbers
  are those that the step would draw, so a replay computes what the step computes.
- Numbers of the host that follow a schedule (``Family.scheduled``) and decaying learning rates are
  tensors, which are filled before each replay.
- Branches of the step (``Family.phase``), such as updates of the generator in every fifth
  iteration, have a graph each.
- Scalars are read after a replay, as one vector.

Each phase runs ``WARM_UP`` iterations as usual, so that the optimizers' states exist, is captured
in the next one and replayed from then on. A phase that cannot be captured runs as usual. Nothing of
this is stored: a resumed run starts again, with the same results.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from gan_lab import seeding
from gan_lab.config.schema import Config
from gan_lab.families.base import Family, Step
from gan_lab.images import Batch
from gan_lab.seeding import Stream
from gan_lab.utils.errors import first_line

WARM_UP = 3
logger = logging.getLogger("gan_lab")

Action = Callable[[], None]


class GraphRecorder(Protocol):
    """Captures a function that works on static tensors."""

    def warm_up(self, run: Action) -> None:
        """Run a function as usual before a capture."""

    def capture(self, run: Action) -> Action:
        """Capture a function without computing anything; return a function that computes it."""


class CUDAGraphRecorder:
    """Captures CUDA graphs."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def warm_up(self, run: Action) -> None:
        """Run on the stream of the captures, as CUDA graphs require."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            run()
        current.wait_stream(self.stream)

    def capture(self, run: Action) -> Action:
        """Capture a CUDA graph."""
        # the family and its graphs refer to each other; those before a rollback must be freed
        gc.collect()
        graph = torch.cuda.CUDAGraph()
        # other threads may use the device meanwhile
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            run()
        replay: Action = graph.replay
        return replay


class Draws:
    """The random numbers of one phase, in the order in which its step draws them.

    Attributes:
        tensors: Static tensors of the numbers.
    """

    def __init__(self, family: Family) -> None:
        self.family = family
        self.tensors: list[Tensor] = []
        self._drawn: list[tuple[Stream, str, tuple[int, ...]]] = []
        # the position of the next draw during a capture; None while recording
        self._next: int | None = None

    def restart(self) -> None:
        """Forget the draws, to record those of an iteration."""
        self.tensors, self._drawn, self._next = [], [], None

    def take(self, stream: Stream, kind: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Record a draw and return its numbers, or return the static tensor of a recorded one.

        Args:
            stream: The stream that draws.
            kind: ``normal`` or ``uniform``.
            shape: Number of rows, and shape of a row.
            like: Has the device and dtype of the numbers.
        """
        drawn = (replace(stream, index=0), kind, shape)
        if self._next is None:
            assert stream.index == self.family.iteration, f"{stream.purpose}: another index"
            self._drawn.append(drawn)
            self.tensors.append(stream.sample(kind, shape, like))
            return self.tensors[-1]
        assert drawn == self._drawn[self._next], f"{stream.purpose}: drawn in another order"
        self._next += 1
        return self.tensors[self._next - 1]

    def fill(self) -> None:
        """Draw the numbers of the present iteration into the static tensors."""
        for (stream, kind, shape), numbers in zip(self._drawn, self.tensors, strict=True):
            present = replace(stream, index=self.family.iteration)
            numbers.copy_(present.sample(kind, shape, numbers))
        self._next = 0


class Schedule:
    """Numbers of the host that change between the iterations of a phase, as static tensors."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._numbers: dict[str, tuple[Callable[[], float], Tensor]] = {}

    def take(self, name: str, compute: Callable[[], float]) -> Tensor:
        """Return the static tensor of a number, []."""
        if name not in self._numbers:
            # of the weights' dtype: another one would change that of a loss, which is [] too
            weight = next(self.family.parameters())
            number = torch.tensor(compute(), dtype=weight.dtype, device=weight.device)
            self._numbers[name] = (compute, number)
        return self._numbers[name][1]

    def fill(self) -> None:
        """Compute the numbers of the present iteration."""
        for compute, number in self._numbers.values():
            number.fill_(compute())


class Phase:
    """One phase of a step: its warm-up, capture and replays."""

    def __init__(self, family: Family, step: Step, recorder: GraphRecorder) -> None:
        self.family, self.step, self.recorder = family, step, recorder
        self.draws = Draws(family)
        self.schedule = Schedule(family)
        self._iterations = 0
        self._replay: Action | None = None
        self._has_failed = False
        self._batch: Batch | None = None
        self._names: list[str] = []
        self._scalars = torch.empty(0)

    def run(self, batch: Batch) -> None:
        """Run one iteration."""
        if self._iterations < WARM_UP or self._has_failed:
            self._iterations += 1
            self._run_eagerly(batch)
            return
        if self._replay is None:
            self._batch = _copy(batch)
        assert self._batch is not None
        _copy_into(self._batch, batch)
        self.draws.fill()
        self.schedule.fill()
        if self._replay is None:
            self._replay = self._capture()
        if self._replay is None:
            self._run_eagerly(batch)
            return
        self._replay()
        # a copy: means over several iterations are taken later
        values = self._scalars.clone().unbind()
        self.family.logged_scalars = dict(zip(self._names, values, strict=True))

    @property
    def is_captured(self) -> bool:
        """Return True if iterations of this phase are replayed."""
        return self._replay is not None

    def _capture(self) -> Action | None:
        """Capture the step; None if that is impossible."""
        try:
            with seeding.recording(self.draws), self.family.scheduling(self.schedule):
                return self.recorder.capture(self._step_and_collect)
        except RuntimeError as error:
            logger.warning(f"Not capturing training steps: {first_line(error)}")
        self._has_failed = True
        self._batch = None
        self.family.logged_scalars = {}
        for weight in self.family.parameters():
            # in the memory of the capture
            weight.grad = None
        return None

    def _run_eagerly(self, batch: Batch) -> None:
        self.draws.restart()
        self.schedule.fill()
        with seeding.recording(self.draws), self.family.scheduling(self.schedule):
            self.recorder.warm_up(lambda: self.step(batch))

    def _step_and_collect(self) -> None:
        assert self._batch is not None
        self.family.logged_scalars = {}
        self.step(self._batch)
        scalars = self.family.logged_scalars
        self._names = list(scalars)
        self._scalars = torch.stack([value.double() for value in scalars.values()])


class StepGraph:
    """Replaces ``family.step`` by replays of graphs of it.

    Args:
        family: The family, before it is moved to its device.
        step: Its step.
        make_recorder: Builds the recorder of a device.

    Attributes:
        phases: The phases so far, by what distinguishes them.
    """

    def __init__(
        self,
        family: Family,
        step: Step,
        make_recorder: Callable[[torch.device], GraphRecorder] = CUDAGraphRecorder,
    ) -> None:
        self.family, self.step, self.make_recorder = family, step, make_recorder
        self._recorder: GraphRecorder | None = None
        self.phases: dict[Hashable, Phase] = {}

    def __call__(self, batch: Batch) -> None:
        """Run one iteration."""
        if self._recorder is None:
            self._recorder = self.make_recorder(self.family.device)
            for optimizer in self.family.optimizer_list():
                prepare_optimizer(optimizer, self.family)
        shapes = tuple(None if each is None else each.shape for each in batch[:3])
        key = (self.family.phase(), shapes, batch.alternating_labels)
        if key not in self.phases:
            self.phases[key] = Phase(self.family, self.step, self._recorder)
        self.phases[key].run(batch)


def count_captured_phases(family: Family) -> int:
    """Count the phases of a family's step that are replayed."""
    graph = vars(family).get("step")
    if not isinstance(graph, StepGraph):
        return 0
    return sum(phase.is_captured for phase in graph.phases.values())


def prepare_optimizer(optimizer: Optimizer, family: Family) -> None:
    """Let an optimizer step in a graph: move its state and a decaying learning rate to the device.

    Checkpoints contain neither (``Family.on_save_checkpoint``).
    """
    if family.device.type == "cuda":
        for state in optimizer.state.values():
            if "step" in state:
                # a checkpoint without capturable has brought it to the host
                state["step"] = state["step"].to(family.device)
    for group in optimizer.param_groups:
        if family.device.type == "cuda":
            group["capturable"] = True
        if family.decays_learning_rates:
            # ``Family.decay_learning_rates`` has kept the initial value
            lr = torch.tensor(float(group["lr"]), dtype=torch.float32, device=family.device)
            group["lr"] = lr


def find_obstacle(
    family: Family, config: Config, processes: int = 1, has_callbacks: bool = False
) -> str:
    """Return why the steps of a training cannot be captured; empty if they can.

    Args:
        family: The family.
        config: The config.
        processes: Number of processes of the training.
        has_callbacks: Whether there are callbacks of a user, which may change learning rates or
            freeze layers.
    """
    if not torch.cuda.is_available():
        return "no CUDA device"
    if processes > 1:
        return f"{processes} processes"
    if has_callbacks or config.run.callbacks:
        return "callbacks of your own may change the step"
    if config.run.micro_batches > 1:
        return f"run.micro_batches={config.run.micro_batches}"
    if config.run.compile:
        return "run.compile=true"
    if config.run.precision == "bf16-mixed":
        return "run.precision=bf16-mixed"
    return family.describe_obstacle_to_capture()


def capture_steps(
    family: Family, config: Config, processes: int, has_callbacks: bool = False
) -> None:
    """Replay the steps of a family as CUDA graphs, if possible and ``run.graph`` is auto."""
    if config.run.graph == "off":
        return
    if obstacle := find_obstacle(family, config, processes, has_callbacks):
        logger.info(f"Not capturing training steps: {obstacle}")
        return
    logger.info(f"Capturing training steps as CUDA graphs after {WARM_UP} iterations")
    family.wrap_step(lambda step: StepGraph(family, step))


def _copy(batch: Batch) -> Batch:
    labels = None if batch.labels is None else batch.labels.clone()
    return batch.map(torch.clone)._replace(labels=labels)


def _copy_into(static: Batch, batch: Batch) -> None:
    for target, source in zip(static[:3], batch[:3], strict=True):
        if isinstance(target, Tensor):
            assert isinstance(source, Tensor)
            target.copy_(source)
