"""Samples of a trained generator without its family; needs torch, not Lightning or W&B."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_lab.config.extensions import explain_unknown_name
from gan_lab.device import exact_arithmetic
from gan_lab.networks.stylegan import StyleGANGenerator
from gan_lab.runs.directions import Directions, find_stored_directions, read_directions
from gan_lab.runs.ema_networks import EMANetworks, load_ema_networks
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError
from gan_lab.utils.track import track


class TrainedGenerator(nn.Module):
    """The EMA generator of a run in eval mode, as a module whose weights take no gradient.

    ``exact`` is to compute in float64, so that an image does not depend on the other images of its
    batch; the much faster float32 lets an image differ in its last bits.
    """

    def __init__(
        self, loaded: EMANetworks, device: str | torch.device = "cpu", exact: bool = False
    ) -> None:
        super().__init__()
        self.network = loaded.networks["generator"]
        arguments = self.network.recipe["arguments"]
        if "z_dim" not in arguments:
            raise UserError(
                f"Not a latent-to-image generator: {loaded.checkpoint}. Use `gan-lab translate`"
            )
        self.z_dim: int = arguments["z_dim"]
        self.classes: int = arguments.get("classes", 0)
        self.class_names = loaded.class_names
        # of the images, see ``utils/provenance.py``
        self.record = loaded.describe_source()
        self.directions: Directions | None = None
        self.network.to(device, torch.float64 if exact else torch.float32).requires_grad_(False)
        self.eval()

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """float32, or float64 if ``exact``."""
        return next(self.network.parameters()).dtype

    @property
    def columns(self) -> int:
        """Images in a row of a grid of samples."""
        return 10 if self.classes else 8

    def forward(
        self,
        n: int = 1,
        label: int | str | Sequence[int | str] | None = None,
        seed: int = 0,
        batch_size: int = 64,
        truncation: float = 1.0,
        *,
        latents: Tensor | None = None,
        noise: str = "const",
        cutoff: int | None = None,
        move: Mapping[str, float] | None = None,
        layers: range | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Generate images [n, C, H, W], float32 in [-1, 1].

        Image i depends on (seed, i, its label) alone: but for its last bits, unless ``exact``.
        Images of stylegan2 can exceed [-1, 1] somewhat.

        ``label`` is a class for all images, or one class for each: text is a name, an integer is an
        index from 0. Without it a conditional generator cycles through its classes. ``truncation``
        in (0, 1] shortens the latents to this share of their length, towards the mean of their
        prior: likelier images, and less different ones. Of stylegan2 it moves w towards the mean of
        w instead, in the first ``cutoff`` layers. Raises UserError for a label that the generator
        does not have, and for latents with codes, whose prior has no middle that is likelier.

        ``latents`` [n, z_dim] replaces ``n`` and the latents of the seed. ``noise`` of stylegan2 is
        const (the same for all images), random (by ``seed``, other noise for each image) or none.

        ``move`` moves the latents along ``directions``: ``{"pc1": 2}`` by two standard deviations.
        In W of stylegan2 it follows the truncation, and ``layers`` are the ones that are moved, by
        default all. ``progress`` shows the time left of many images.

        Source: the truncation trick of Karras et al. 2019 (arXiv 1812.04948), which shortens w;
        generators without w have z alone.
        """
        if latents is not None:
            if latents.dim() != 2 or latents.shape[1] != self.z_dim:
                raise UserError(
                    f"latents have the shape {tuple(latents.shape)}: pass [n, {self.z_dim}]"
                )
            n = len(latents)
        if n < 1 or batch_size < 1:
            raise UserError(
                f"Out of range: n={n}, batch_size={batch_size}. Both must be at least 1"
            )
        z = self.latents(n, seed, truncation)
        if latents is not None:
            z = latents.detach().cpu().to(self.dtype) * self._scale_of(truncation)
        shift = self._shift_of(move, layers)
        if shift is not None and not isinstance(self.network, StyleGANGenerator):
            z, shift = z + shift, None
        return self.images_of(
            z,
            self.labels_of(n, label),
            batch_size,
            truncation,
            cutoff,
            self._noise_of(noise, n, seed),
            shift,
            progress,
        )

    def set_directions(self, directions: Directions) -> None:
        """Set the directions of ``move``.

        Raises:
            UserError: They are those of another generator.
        """
        if directions.source.get("digest") != self.record["digest"]:
            raise UserError(
                f"The directions are those of other weights: {directions.source.get('run')}. Find "
                "those of this generator with `gan-lab directions`"
            )
        network = self.network
        has_mapping = isinstance(network, StyleGANGenerator)
        size = len(network.mapping.w_avg) if isinstance(network, StyleGANGenerator) else self.z_dim
        space = "w" if has_mapping else "z"
        if (directions.space, len(directions.directions[0].vector)) != (space, size):
            raise UserError(f"The directions do not have the {size} dimensions of {space}")
        self.directions = directions

    def _shift_of(self, move: Mapping[str, float] | None, layers: range | None) -> Tensor | None:
        """The shift of z [Z] or of one w per layer [num_ws, w_dim]; None without a ``move``."""
        network = self.network
        if layers is not None and not (move and isinstance(network, StyleGANGenerator)):
            raise UserError("Layers apply to a move or mixture of stylegan2. Omit them")
        if not move:
            return None
        if self.directions is None:
            raise UserError(
                f"No directions of these weights to move along: {', '.join(move)}. Find them with "
                "`gan-lab directions`"
            )
        shift = self.directions.compute_shift(move).to(self.dtype)
        if not isinstance(network, StyleGANGenerator):
            return shift
        chosen = range(network.num_ws) if layers is None else layers
        _check_layers(chosen, network)
        each = torch.zeros(network.num_ws, len(shift), dtype=self.dtype)
        each[chosen.start : chosen.stop] = shift
        return each

    def names_of(
        self, n: int = 1, label: int | str | Sequence[int | str] | None = None
    ) -> list[str]:
        """The class name of each image of a call with these arguments; empty without classes."""
        labels = self.labels_of(n, label)
        return [] if labels is None else [self.class_names[int(number)] for number in labels]

    def walk(
        self, walks: int = 8, steps: int = 8, label: int | str | None = None, seed: int = 0
    ) -> Tensor:
        """Walk through the latent space: ``walks`` paths of ``steps`` images.

        Returns images [walks * steps, C, H, W], path by path. A path follows the great circle from
        one latent to the next and keeps its class. Without ``label``, every second path of a
        conditional generator keeps its latent instead and moves from its class to the next one.

        Source: White 2016 (arXiv 1609.04468), section 2.1, for the great circle.
        """
        if walks < 1 or steps < 2:
            raise UserError(
                f"Out of range: walks={walks}, steps={steps}. Use at least 1 walk and 2 steps"
            )
        z = self.latents(walks + 1, seed)
        share = torch.linspace(0, 1, steps, dtype=z.dtype)
        paths = self._between(z[:-1], z[1:], share)
        if self.classes == 0:
            return self.images_of(paths.flatten(0, 1), self.labels_of(walks * steps, label), 64)
        starts = self.labels_of(walks, label)
        assert starts is not None
        classes = torch.eye(self.classes, dtype=z.dtype)
        rows = classes[starts].unsqueeze(1).repeat(1, steps, 1)
        if label is None:
            ends = classes[(starts[1::2] + 1) % self.classes].unsqueeze(1)
            rows[1::2] += share.view(1, -1, 1) * (ends - rows[1::2])
            paths[1::2] = z[1:-1:2].unsqueeze(1)
        return self.images_of(paths.flatten(0, 1), rows.flatten(0, 1), 64)

    def film(
        self,
        n: int = 16,
        legs: int = 4,
        steps: int = 24,
        label: int | str | Sequence[int | str] | None = None,
        seed: int = 0,
        truncation: float = 1.0,
    ) -> Iterator[Tensor]:
        """Generate the legs * steps frames of a walk that ends where it began.

        Each frame has ``n`` images [n, C, H, W]. Image i keeps its class and goes from latent to
        latent, ``legs`` of its own, along great circles. The first frame is what a call makes of
        the same arguments, which are those of a call.
        """
        if legs < 1 or steps < 1:
            raise UserError(f"Out of range: legs={legs}, steps={steps}. Both must be at least 1")
        z, labels = (
            self.latents(n * legs, seed, truncation).unflatten(0, (legs, n)),
            self.labels_of(n, label),
        )
        share = torch.arange(steps, dtype=z.dtype) / steps
        for leg in range(legs):
            paths = self._between(z[leg], z[(leg + 1) % legs], share)
            for step in range(steps):
                yield self.images_of(paths[:, step], labels, 64, truncation)

    def vary_code(self, code: int = 0, rows: int = 8, seed: int = 0) -> tuple[Tensor, int]:
        """Generate rows of images that differ in one code alone.

        Returns the images [rows * columns, C, H, W] and the number of columns. Code 0 is the
        category. Raises UserError for a generator that has no such code.
        """
        if not self.network.codes:
            raise UserError(f"No latent codes: code={code}. Use a run of family infogan")
        varied = self.network.vary_code(self.latents(rows, seed), code)  # type: ignore[operator]
        return self.images_of(varied.flatten(0, 1), None, 64), varied.shape[1]

    def latents(self, n: int, seed: int, truncation: float = 1.0) -> Tensor:
        """The latents [n, Z] of a call with these arguments."""
        if not 0 < truncation <= 1:
            raise UserError(
                f"truncation={truncation} is out of range: it must be more than 0 and at most 1"
            )
        if truncation < 1 and self.network.codes:
            raise UserError(
                f"Truncation does not apply to latent codes (infogan): truncation={truncation}. "
                "Omit it"
            )
        return self._scale_of(truncation) * self.network.sample_latents(
            Stream(seed, "sample"), n, torch.empty(0, dtype=self.dtype)
        )

    def _scale_of(self, truncation: float) -> float:
        """The factor on latents; 1 if the truncation applies to w: the network normalizes z."""
        return 1.0 if self.network.normalizes_latents else truncation

    def _noise_of(self, noise: str, n: int, seed: int) -> str | list[Tensor]:
        """The noise of a call: const, none, or noise images [n, 1, h, w] of each layer."""
        if noise not in ("const", "random", "none"):
            raise UserError(f"noise={noise!r}: pass const, random or none")
        if not isinstance(self.network, StyleGANGenerator):
            if noise != "const":
                raise UserError(
                    f"noise={noise}: only generators of stylegan2 have noise inputs. Omit it"
                )
            return noise
        if noise != "random":
            return noise
        return self.network.sample_noise(Stream(seed, "noise"), n, torch.empty(0, dtype=self.dtype))

    def mix(
        self,
        first: int = 0,
        second: int = 1000,
        n: int = 6,
        layers: range | None = None,
        label: int | str | Sequence[int | str] | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Mix the styles of n latents with those of n others, [(n + 1)², C, H, W] in rows of n + 1.

        Row i starts with image i of seed ``first``, column j with image j of seed ``second``;
        between them are images with the styles of column j in ``layers``, by default from 4, and
        those of row i in all others. The image in the corner is black.

        Source: Karras et al. 2019 (arXiv 1812.04948), section 3.1, figure 3.
        """
        network = self.network
        if not isinstance(network, StyleGANGenerator):
            raise UserError("Style mixing needs a generator of stylegan2")
        layers = range(4, network.num_ws) if layers is None else layers
        _check_layers(layers, network)
        labels = self.labels_of(n, label)
        with torch.no_grad(), exact_arithmetic(self.device):
            rows, columns = (
                network.repeat_w(
                    network.map_latents(
                        self.latents(n, seed, truncation).to(self.device),
                        None if labels is None else labels.to(self.device),
                    ),
                    truncation,
                )
                for seed in (first, second)
            )
            mixed = rows.unsqueeze(1).repeat(1, n, 1, 1)
            mixed[:, :, layers.start : layers.stop] = columns[:, layers.start : layers.stop]
            made = [network.synthesis(columns)]
            for row, styles in zip(rows, mixed, strict=True):
                made += [network.synthesis(row.unsqueeze(0)), network.synthesis(styles)]
        corner = torch.full_like(made[0][:1], -1.0)
        return torch.cat([corner, *made]).cpu().float()

    def _between(self, start: Tensor, end: Tensor, share: Tensor) -> Tensor:
        """Paths [N, S, D]; straight for latents with codes, whose prior is a cube, not a ball."""
        if self.network.codes:
            return torch.lerp(start.unsqueeze(1), end.unsqueeze(1), share.view(1, -1, 1))
        return great_circle(start, end, share)

    def images_of(
        self,
        z: Tensor,
        labels: Tensor | None,
        batch_size: int = 64,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: str | list[Tensor] = "const",
        shift: Tensor | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Generate the images [B, C, H, W], float32 on the CPU, of latents [B, Z].

        ``labels`` are classes [B] or weights of the classes [B, classes]. ``truncation`` to
        ``shift`` apply to generators with w alone: ``latents`` shortens those of others. ``shift``
        [num_ws, w_dim] is added to each w.
        """
        network, parts = self.network, []
        for i in track(range(0, len(z), batch_size), "drawing samples", shown=progress):
            inputs = [z] if labels is None else [z, labels]
            inputs = [rows[i : i + batch_size].to(self.device) for rows in inputs]
            with exact_arithmetic(self.device):
                if isinstance(network, StyleGANGenerator):
                    own = noise
                    if not isinstance(noise, str):
                        own = [each[i : i + batch_size].to(self.device) for each in noise]
                    ws = network.repeat_w(network.map_latents(*inputs), truncation, cutoff)
                    if shift is not None:
                        ws = ws + shift.to(self.device)
                    parts.append(network.synthesis(ws, own).cpu())
                else:
                    parts.append(network(*inputs).cpu())
        return torch.cat(parts).float()

    def synthesize(
        self, ws: Tensor, noise: str | Sequence[Tensor] = "const", batch_size: int = 64
    ) -> Tensor:
        """Generate images [n, C, H, W] of stylegan2 from one w per layer, such as by ``project``.

        Args:
            ws: [n, num_ws, w_dim].
            noise: const, none, or noise images [n, 1, h, w] of each layer.
            batch_size: Images that are computed at once.

        Raises:
            UserError: The generator has no w, or ``ws`` has another shape.
        """
        network = self.network
        if not isinstance(network, StyleGANGenerator):
            raise UserError("synthesize needs a generator of stylegan2. Pass latents instead")
        shape = (network.num_ws, len(network.mapping.w_avg))
        if ws.dim() != 3 or ws.shape[1:] != shape:
            raise UserError(f"ws has the shape {tuple(ws.shape)}: pass [n, {shape[0]}, {shape[1]}]")
        parts = []
        for i in range(0, len(ws), batch_size):
            own = noise
            if not isinstance(noise, str):
                own = [each[i : i + batch_size].to(self.device, self.dtype) for each in noise]
            with torch.no_grad(), exact_arithmetic(self.device):
                rows = ws[i : i + batch_size].to(self.device, self.dtype)
                parts.append(network.synthesis(rows, own).cpu())
        return torch.cat(parts).float()

    def labels_of(self, n: int, label: int | str | Sequence[int | str] | None) -> Tensor | None:
        """The labels [n] of a call with these arguments; None without classes."""
        if self.classes == 0:
            if label is not None:
                raise UserError(f"Unconditional generator: label={label}. Omit the label")
            return None
        if label is None:
            return torch.arange(n) % self.classes
        classes = [label] * n if isinstance(label, int | str) else [*label]
        for entry in {entry for entry in classes if isinstance(entry, int | str)}:
            self._warn_of_number(entry)
        labels = torch.as_tensor(
            [self._class_number(entry) if isinstance(entry, str) else entry for entry in classes]
        )
        if labels.shape != (n,) or labels.min() < 0 or labels.max() >= self.classes:
            raise UserError(
                f"Invalid label: {label}. Use a number from 0 to {self.classes - 1}, or {n} of them"
            )
        return labels

    def _warn_of_number(self, label: int | str) -> None:
        """Warn if a number is the name of one class and the index of another."""
        name = str(label)
        if name not in self.class_names or not name.isdecimal():
            return
        index = self.class_names.index(name)
        if index == int(name):
            return
        chosen, other = f"the class named {name} (index {index})", ""
        if isinstance(label, int):
            if label >= self.classes:
                return
            chosen = f"the class with index {label} (named {self.class_names[label]})"
            other = f". For the class named {name} pass label='{name}'"
        # the caller of the module, past its __call__
        warnings.warn(f"label={label!r} is {chosen}{other}", stacklevel=6)

    def _class_number(self, label: str) -> int:
        """Return the index of a class name; other text is an index if no name is a number."""
        if label in self.class_names:
            return self.class_names.index(label)
        has_numbers = any(name.isdecimal() for name in self.class_names)
        if has_numbers or not label.removeprefix("-").isdecimal():
            raise UserError(explain_unknown_name("class", label, self.class_names))
        return int(label)


def _check_layers(layers: range, network: StyleGANGenerator) -> None:
    """Raise UserError if layers are not among those of a generator."""
    if not layers or layers.start < 0 or layers.stop > network.num_ws:
        raise UserError(f"Layers out of range: use some of 0 to {network.num_ws - 1}")


def load_generator(
    run: str | Path, weights: str = "best", device: str | torch.device = "cpu", exact: bool = False
) -> TrainedGenerator:
    """Load a trained generator; its images come to the CPU.

    Its ``directions`` are those stored in the run folder or export, if they are of these weights.

    Args:
        run: A run folder, a checkpoint file, an export, a StyleGAN2 snapshot (``.pkl``),
            ``zoo:name`` for a model of the package (``gan-lab zoo``), or ``hf:owner/name`` for an
            export on the Hugging Face Hub, or ``hf:owner/name@revision`` for one branch, tag or
            commit of it.
        weights: Of a run folder: best, last, raw (without EMA) or a number of training images.
            Without a best checkpoint, best is the newest one.
        device: Where to compute.
        exact: Compute in float64, as ``gan-lab sample`` does.

    Raises:
        UserError: There is no such run, or its checkpoint cannot be used.
    """
    loaded = load_ema_networks(run, weights)
    generator = TrainedGenerator(loaded, device, exact)
    if stored := find_stored_directions(loaded.folder):
        try:
            directions = read_directions(stored)
        except UserError as error:
            # they are optional
            warnings.warn(f"Ignoring directions: {error}", stacklevel=2)
            return generator
        # those of other weights are not of this checkpoint
        if directions.source.get("digest") == generator.record["digest"]:
            generator.set_directions(directions)
    return generator


def great_circle(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Compute points [N, S, D] on the great circles from ``start`` to ``end`` [N, D].

    ``share`` [S] has their shares of the angle. The points are
    sin((1 - t) θ) / sin θ · start + sin(t θ) / sin θ · end, with θ the angle between them; a
    straight line if θ is 0.
    """
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1).clamp(-1, 1)
    angle, t = cosine.acos().view(-1, 1, 1), share.view(1, -1, 1)
    straight = angle.sin() < 1e-6
    sine = torch.where(straight, 1.0, angle.sin())
    start_weight = torch.where(straight, 1 - t, ((1 - t) * angle).sin() / sine)
    end_weight = torch.where(straight, t, (t * angle).sin() / sine)
    return start_weight * start.unsqueeze(1) + end_weight * end.unsqueeze(1)
