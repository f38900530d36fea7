"""The commands that use a trained run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lab.cli.paths import Overwrite, parse_file, parse_path, parse_png, parse_target
from gan_lab.runs.addresses import is_address
from gan_lab.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from gan_lab.inference.sampling import TrainedGenerator
    from gan_lab.utils.output import OutputFiles

app = typer.Typer()
DataOverrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value overrides, such as data.root=photos if the data was moved."),
]
Run = Annotated[
    Path, typer.Argument(help="A run folder, runs/<experiment>/<run id>.", parser=parse_path)
]
Model = Annotated[
    Path,
    typer.Argument(
        help="A run folder, a checkpoint, an export, zoo:name or hf:owner/name[@revision].",
        parser=parse_path,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]
Png = Annotated[
    Path | None, typer.Option(help="PNG file. Default: in the run folder.", parser=parse_png)
]
Weights = Annotated[
    str,
    typer.Option(
        help="best, last, raw (last without EMA), or the training images of a checkpoint. Without "
        "a best checkpoint, best is the newest one.",
    ),
]
ExportFormat = Annotated[
    str, typer.Option(help="safetensors; or torch or onnx, in addition to safetensors.")
]


@app.command()
def sample(
    run: Model,
    n: Annotated[
        int | None,
        typer.Option("--n", "-n", min=1, help="Number of images. Default: 64, or 16 in a video."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", "--class", help="Class name, or index from 0 if no name is a number."
        ),
    ] = None,
    seed: Seed = 0,
    interpolate: Annotated[
        int, typer.Option(help="Draw latent interpolations of this many steps, one per row.")
    ] = 0,
    code: Annotated[
        int | None, typer.Option(help="Vary this latent code along each row (InfoGAN).")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Write one PNG per sample into a new folder.", parser=parse_path),
    ] = None,
    truncation: Annotated[
        float,
        typer.Option(
            help="Truncation trick: scales the latents (StyleGAN2: w), for typical images."
        ),
    ] = 1.0,
    cutoff: Annotated[
        int | None, typer.Option(min=1, help="Number of layers with truncation (StyleGAN2).")
    ] = None,
    noise: Annotated[str, typer.Option(help="const, random or none (StyleGAN2).")] = "const",
    mix: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Draw mixtures of the styles of two seeds, one per row and column."),
    ] = None,
    move: Annotated[
        list[str] | None,
        typer.Option(
            help="Move along a latent direction (gan-lab directions), such as pc1=2; repeatable."
        ),
    ] = None,
    directions: Annotated[
        Path | None,
        typer.Option(
            help="File of the directions of --move. Default: directions.json in the run folder.",
            parser=parse_path,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="With --mix: layers of the second seed, such as 0-3, by default 4-. With --move: "
            "layers that are moved (StyleGAN2)."
        ),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="Write a video of latent walks, .gif or .mp4.", parser=parse_file),
    ] = None,
    weights: Weights = "best",
    out: Png = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw samples or latent walks: a PNG, a folder or a video."""
    from gan_lab import load_generator
    from gan_lab.images import check_video_path, save_each, save_grid, save_video
    from gan_lab.runs.directions import read_directions
    from gan_lab.utils.track import track

    outputs = {
        "--folder": folder,
        "--video": video,
        "--code": code,
        "--interpolate": interpolate or None,
        "--mix": mix,
    }
    requested = [option for option, value in outputs.items() if value is not None]
    if len(requested) > 1:
        raise UserError(f"{' and '.join(requested)} exclude each other. Use one of them")
    if truncation != 1 and requested in (["--code"], ["--interpolate"]):
        raise UserError(f"--truncation does not apply to {requested[0]}. Use one of them")
    if (noise != "const" or cutoff is not None) and requested not in ([], ["--folder"]):
        raise UserError(f"--noise and --cutoff do not apply to {requested[0]}. Omit them")
    if move and requested not in ([], ["--folder"]):
        raise UserError(f"--move does not apply to {requested[0]}. Use one of them")
    if layers is not None and not (mix or move):
        raise UserError(f"--layers {layers} applies to --mix and --move. Omit it")
    moves = _parse_moves(move or [])
    if out is not None and (folder or video):
        raise UserError(f"--out and {requested[0]} exclude each other. Use one of them")
    from gan_lab.utils.output import OutputFiles

    # before the samples are generated
    files = OutputFiles(overwrite)
    if folder is not None:
        files.check_folder(folder)
    elif video is not None:
        check_video_path(video)
        files.check(video)
    elif out is not None:
        files.check(out)
    generator = load_generator(run, weights, exact=video is None)
    if directions is not None:
        generator.set_directions(read_directions(directions))
    if n is None:
        n = 16 if video is not None else 6 if mix else 64
    record = {**generator.record, "seed": seed}
    if truncation != 1:
        record["truncation"] = truncation
    if cutoff is not None:
        record["cutoff"] = cutoff
    if noise != "const":
        record["noise"] = noise
    moved = None
    if moves:
        record["move"] = moves
        # another search stores other directions under the same names
        if generator.directions is not None:
            record["directions"] = generator.directions.compute_digests(moves)
        if directions is not None:
            record["directions_file"] = directions.name
        if layers is not None:
            record["layers"] = layers
            moved = _parse_layers(layers, generator)

    def draw() -> Tensor:
        images: Tensor = generator(
            n,
            label,
            seed,
            truncation=truncation,
            noise=noise,
            cutoff=cutoff,
            move=moves,
            layers=moved,
            progress=True,
        )
        return images

    if folder is not None:
        save_each(
            draw(),
            folder,
            seed,
            generator.names_of(n, label),
            overwrite,
            record,
        )
        typer.echo(folder)
        return
    if video is not None:
        legs, steps = 4, 24
        film = generator.film(n, legs, steps, label, seed, truncation)
        frames = track(film, "drawing frames", legs * steps)
        columns = generator.columns if n > 16 else max(1, round(n**0.5))
        with files.write(video) as unfinished:
            save_video(frames, min(n, columns), unfinished)
        typer.echo(video)
        return
    record["n"] = n
    if label is not None:
        record["class"] = label
    if code is not None:
        kind = f"code{code}"
        record |= {"output": "code", "code": code}
        images, columns = generator.vary_code(code, max(1, n // 10), seed)
    elif interpolate:
        kind = f"walk{interpolate}"
        record |= {"output": "interpolation", "steps": interpolate}
        images = generator.walk(max(1, n // interpolate), interpolate, label, seed)
        columns = interpolate
    elif mix:
        layers = "4-" if layers is None else layers
        kind = f"mix{mix[0]}-{mix[1]}-layers{layers}"
        images = generator.mix(*mix, n, _parse_layers(layers, generator), label, truncation)
        columns = n + 1
        record |= {"output": "style mixing", "first": mix[0], "second": mix[1], "layers": layers}
    else:
        kind = "sample"
        record["output"] = "samples"
        images = draw()
        columns = min(n, generator.columns)
    name = f"{kind}-n{n}-seed{seed}"
    if truncation != 1:
        name += f"-truncation{truncation}"
    if cutoff is not None:
        name += f"-cutoff{cutoff}"
    if noise != "const":
        name += f"-noise-{noise}"
    for direction, amount in moves.items():
        name += f"-{direction}={amount:g}"
    if moves and layers is not None:
        name += f"-layers{layers}"
    if label is not None:
        name += f"-class{label}"
    with _write_png(run, _name(name, weights), out, overwrite) as unfinished:
        save_grid(images, columns, unfinished, record=record)


@app.command()
def identify(
    images: Annotated[
        list[Path],
        typer.Argument(help="PNG files written by gan-lab.", metavar="PNG...", parser=parse_path),
    ],
    root: Annotated[
        Path, typer.Option(help="Parent folder of the runs (run.root).", parser=parse_path)
    ] = Path("runs"),
) -> None:
    """Identify PNG files of the lab: run, weights, seed, class.

    Prints the command that draws each of them again.
    """
    from gan_lab.inference import identification

    for path in images:
        for line in identification.identify(path, root):
            typer.echo(line)


def _parse_moves(texts: list[str]) -> dict[str, float]:
    """Parse moves such as ``pc1=2``; the name of a class may contain an equals sign."""
    moves: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            moves[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise UserError(f"--move {text} is invalid. Write a direction and steps, such as pc1=2")
    return moves


def _parse_layers(text: str, generator: TrainedGenerator) -> range:
    """Parse layers such as 4-, 0-3 or 2; an open end is the last layer of the generator."""
    found = re.fullmatch(r"(\d+)(-)?(\d*)", text)
    if found is None or (found[3] and not found[2]):
        raise UserError(f"--layers {text} is invalid. Write 4-, 0-3 or 2")
    first = int(found[1])
    if not found[2]:
        return range(first, first + 1)
    last = int(found[3]) if found[3] else getattr(generator.network, "num_ws", 0) - 1
    return range(first, last + 1)


@app.command()
def reconstruct(
    run: Run,
    overrides: DataOverrides = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Number of images.")] = 32,
    weights: Weights = "best",
    out: Png = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw test images next to their reconstructions."""
    from gan_lab.inference import autoencoding

    with _write_png(run, _name(f"reconstruct-n{n}", weights), out, overwrite) as unfinished:
        autoencoding.reconstruct(run, n, unfinished, overrides or [], weights)


@app.command()
def interpolate(
    run: Run,
    overrides: DataOverrides = None,
    steps: Annotated[
        int, typer.Option(min=2, help="Images per interpolation, including both ends.")
    ] = 8,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Number of image pairs.")] = 8,
    weights: Weights = "best",
    out: Png = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw latent interpolations between test images.

    Interpolates linearly in the latent space of the encoder, one pair per row.
    """
    from gan_lab.inference import autoencoding

    with _write_png(
        run, _name(f"interpolate-n{n}-steps{steps}", weights), out, overwrite
    ) as unfinished:
        autoencoding.interpolate(run, n, steps, unfinished, overrides or [], weights)


@app.command()
def translate(
    run: Model,
    source: Annotated[
        Path,
        typer.Argument(help="An image, or a folder of images.", metavar="IN", parser=parse_path),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="Folder for the translated images, PNG files of the same size; of a "
            "super-resolution run they are larger.",
            metavar="OUT",
            parser=parse_path,
        ),
    ],
    direction: Annotated[
        str, typer.Option(help="AtoB, the direction of training, or BtoA.")
    ] = "AtoB",
    weights: Weights = "best",
    overwrite: Overwrite = False,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="For inpainting: an image that is white where pixels are to be filled.",
            parser=parse_path,
        ),
    ] = None,
) -> None:
    """Translate images of any size (image-to-image models)."""
    from gan_lab.inference import translation

    count, skipped = translation.translate(run, source, out, direction, overwrite, weights, mask)
    note = f", {skipped} skipped" if skipped else ""
    typer.echo(f"{count} images translated into {out}{note}")


@app.command()
def project(
    run: Model,
    source: Annotated[
        Path | None,
        typer.Argument(
            help="An image, or a folder of images. Default: test images.",
            metavar="IN",
            parser=parse_path,
        ),
    ] = None,
    overrides: DataOverrides = None,
    label: Annotated[
        str | None,
        typer.Option("--label", "--class", help="Class. Default: the class with the lowest error."),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Number of test images.")] = 8,
    space: Annotated[
        str | None,
        typer.Option(help="Latent space: z; for StyleGAN2 also w, its default, or w+ (per layer)."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Number of optimization steps. Default: 400 in z, else 1000."),
    ] = None,
    weights: Weights = "best",
    out: Png = None,
    overwrite: Overwrite = False,
) -> None:
    """GAN inversion: find the latents closest to images.

    Writes a PNG with the optimization steps and the remaining error, and a JSON file of the
    latents; for w and w+ also a safetensors file of styles and noise.
    """
    from gan_lab.inference import projection

    kind = "project" if space is None else f"project-{space.replace('+', 'plus')}"
    files, out = _choose_png(run, _name(kind, weights), out, overwrite)
    overrides = overrides or []
    # IN is optional: an argument such as data.root=photos in its position is an override
    if source is not None and "=" in str(source) and not source.exists():
        overrides = [str(source), *overrides]
        source = None
    found = projection.project_files(
        run, source, out, label, n, overrides, files, weights, space, steps
    )
    for name, each in found:
        note = "" if each.label is None else f", class {each.label}"
        typer.echo(f"{name}: RMSE {each.errors[-1]:.1f} of 255 levels{note}")
    typer.echo(f"median RMSE {projection.typical_error(found):.1f}; {out}")


@app.command()
def directions(
    run: Model,
    count: Annotated[int, typer.Option(min=1, help="Number of principal components.")] = 8,
    n: Annotated[int, typer.Option("--n", "-n", min=100, help="Number of latents.")] = 10_000,
    labels: Annotated[
        str,
        typer.Option(
            help="Directions of classes: digits (by the digit classifier), classifier (by that of "
            "an sgan run), none; or auto: the classes of a StyleGAN2, digits of an unconditional "
            "run on MNIST, and classifier of others that have one."
        ),
    ] = "auto",
    label: Annotated[
        str | None, typer.Option("--label", "--class", help="Class of the drawn sample.")
    ] = None,
    seed: Seed = 0,
    steps: Annotated[int, typer.Option(min=2, help="Images in a row.")] = 7,
    span: Annotated[
        float, typer.Option(help="Largest move in the picture, in standard deviations.")
    ] = 3.0,
    layers: Annotated[
        str | None,
        typer.Option(help="Layers that are moved in the picture, such as 0-3 (StyleGAN2)."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of the files. Default: the run folder.", parser=parse_path),
    ] = None,
    weights: Weights = "best",
    overwrite: Overwrite = False,
) -> None:
    """Find latent directions: principal components, and classes.

    Writes directions.png, one direction per row, and directions.json, which sample --move, export
    and load_generator read from the run folder.
    """
    from gan_lab.images import save_grid
    from gan_lab.inference import direction_search
    from gan_lab.inference.sampling import TrainedGenerator
    from gan_lab.runs.directions import FILE_NAME as DIRECTIONS_FILE
    from gan_lab.runs.ema_networks import load_ema_networks
    from gan_lab.utils.output import OutputFiles

    if folder is None:
        files, png = _choose_png(run, "directions", None, overwrite)
    else:
        files, png = OutputFiles(overwrite), folder / "directions.png"
    files.check(png, png.with_name(DIRECTIONS_FILE))
    loaded = load_ema_networks(run, weights)
    generator = TrainedGenerator(loaded)
    moved = None if layers is None else _parse_layers(layers, generator)
    chosen = direction_search.choose_labels(loaded, labels)
    # before the search
    generator.labels_of(1, label)
    classifier = direction_search.find_classifier(loaded)
    found = direction_search.search(generator, chosen, count, n, seed, classifier)
    images, captions = direction_search.draw_directions(
        generator, found, seed, label, steps, span, moved
    )
    with files.write(png) as unfinished:
        record = {"output": "directions", "seed": seed, **generator.record}
        record |= {"count": count, "n": n, "labels": labels, "steps": steps, "span": span}
        if label is not None:
            record["class"] = label
        if layers is not None:
            record["layers"] = layers
        save_grid(images, steps, unfinished, captions, record)
    with files.write(png.with_name(DIRECTIONS_FILE)) as unfinished:
        found.save(unfinished)
    for each in found.directions:
        if each.explained_variance is not None:
            typer.echo(f"{each.name}: {each.explained_variance:.1%} of the variance")
        else:
            typer.echo(f"{each.name}: balanced accuracy {each.accuracy:.3f}")
    typer.echo(png)


@app.command()
def export(
    run: Model,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder. Default: export in the run folder.", parser=parse_path),
    ] = None,
    format: ExportFormat = "safetensors",
    weights: Weights = "best",
    directions: Annotated[
        Path | None,
        typer.Option(
            help="Latent directions to include. Default: directions.json of the run folder.",
            parser=parse_path,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Export the networks for use without the lab.

    Writes safetensors weights, a config that lists the torch operations, and a model card.
    """
    from gan_lab.inference import export as exporting

    if out is None and is_address(run):
        # the folder of a model with an address is not one of the user
        out = Path(re.split("[:/]", str(run).partition("@")[0])[-1])
    overwrite = overwrite or out is None
    out = out or run / "export"
    typer.echo(exporting.export(run, out, format, weights, overwrite, directions_file=directions))


@app.command("import")
def import_snapshot(
    snapshot: Annotated[
        Path,
        typer.Argument(
            help="A snapshot of StyleGAN2-ADA, such as ffhq.pkl.",
            metavar="SNAPSHOT",
            parser=parse_path,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder. Default: the name of the snapshot.", parser=parse_path),
    ] = None,
    format: ExportFormat = "safetensors",
    overwrite: Overwrite = False,
) -> None:
    """Import a StyleGAN2 snapshot without running its code.

    Reads weights and sizes only, refuses everything else, and writes an export of the generator.
    The weights stay under the license of their authors.
    """
    from gan_lab.inference import export as exporting
    from gan_lab.runs.snapshots import SUFFIX, is_snapshot

    if not is_snapshot(snapshot):
        raise UserError(f"{snapshot} is not a snapshot. Name a {SUFFIX} file of StyleGAN2-ADA")
    out = out or Path(snapshot.stem)
    typer.echo(exporting.export(snapshot, out, format, overwrite=overwrite))


@app.command()
def publish(
    run: Run,
    to: Annotated[
        str,
        typer.Option(
            help="A folder, or hf:owner/name, a model on the Hugging Face Hub.",
            parser=parse_target,
            metavar="<str>",
        ),
    ],
    format: ExportFormat = "safetensors",
    weights: Weights = "best",
    page: Annotated[
        bool,
        typer.Option(help="Include index.html, and generator.js for other pages."),
    ] = True,
    reals: Annotated[
        bool,
        typer.Option("--reals", help="Show real images too: training images, inputs, targets."),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Publish a run as a web site: export, page and model card.

    Uploading to the Hugging Face Hub needs a token (HF_TOKEN, or `hf auth login`).
    """
    from gan_lab.inference import publish as publishing

    typer.echo(publishing.publish(run, to, format, weights, page, overwrite, reals))


@app.command()
def probe(
    run: Run,
    overrides: DataOverrides = None,
    labels: Annotated[int, typer.Option(min=1, help="Number of labeled training images.")] = 100,
    weights: Weights = "last",
    seed: Seed = 0,
) -> None:
    """Evaluate the learned features by a linear probe.

    Fits logistic regression on discriminator or encoder features, and on raw pixels. Writes
    probe.json.
    """
    from gan_lab.cli import console
    from gan_lab.inference import linear_probe

    console.print_probe(linear_probe.probe(run, labels, weights, seed, overrides or []), run)


def _name(name: str, weights: str) -> str:
    """Name a file; the name includes the weights unless they are the best ones."""
    return name if weights == "best" else f"{name}-{weights}"


@contextmanager
def _write_png(run: Path, name: str, out: Path | None, overwrite: bool) -> Iterator[Path]:
    """Write a PNG file, in the run folder by default, and print its path."""
    files, out = _choose_png(run, name, out, overwrite)
    with files.write(out) as unfinished:
        yield unfinished
    typer.echo(out)


def _choose_png(
    run: Path, name: str, out: Path | None, overwrite: bool
) -> tuple[OutputFiles, Path]:
    """Return ``out``, or a path in the run folder, with what may be replaced there."""
    from gan_lab.utils.files import make_file_name
    from gan_lab.utils.output import OutputFiles

    if out is not None:
        return OutputFiles(overwrite), out
    name = f"{make_file_name(name)}.png"
    if run.is_dir():
        return OutputFiles(default_path=True), run / name
    # of a checkpoint file, the folder may be one of the user, as is the current folder for a model
    # with an address. A default name says what the file contains, so the same file is written again
    folder = Path() if is_address(run) else run.parent
    return OutputFiles(overwrite=True), folder / name
