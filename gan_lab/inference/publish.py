"""Publish a run as a folder or on the Hugging Face Hub: its export, page, script and model card.

The folder is a web site as it is, for GitHub Pages or a static Space.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from gan_lab.inference.export import export
from gan_lab.inference.model_card import PAGE_NAME
from gan_lab.report import embedding, live, pictures, run_page
from gan_lab.runs import hub
from gan_lab.runs.addresses import HUB_PREFIX
from gan_lab.runs.ema_networks import EMANetworks
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError, first_line, import_extra
from gan_lab.utils.files import write_text
from gan_lab.utils.output import list_visible

logger = logging.getLogger("gan_lab")
PICTURE_NAME = "samples.png"


def publish(
    run: Path,
    to: str,
    also: str = "safetensors",
    weights: str = "best",
    page: bool = True,
    overwrite: bool = True,
    reals: bool = False,
) -> str:
    """Write an export with its page into a folder, or upload it; return the address.

    Args:
        run: A run folder.
        to: A folder, or ``hf:owner/name``, a model on the Hugging Face hub, which is created if
            needed. Its files remain in the folder ``publish`` of the run.
        also: A format in addition to safetensors: torch or onnx.
        weights: best, last, raw or a number of training images.
        page: Include the page, ``index.html``, and a script that brings the generator into other
            pages, ``generator.js``.
        overwrite: Replace an earlier export in this folder.
        reals: Show real images in the page and the sample grid: training images, inputs, targets.

    Raises:
        UserError: There is no checkpoint, the folder contains other files, or the upload failed:
            then the folder is complete.
    """
    name = hub.parse_name(to) if to.startswith(HUB_PREFIX) else None
    folder = Path(to).expanduser() if name is None else run / "publish"
    # nobody names the folder in the run: what it contains is output
    write(run, folder, also, weights, page, overwrite or name is not None, reals)
    return str(folder) if name is None else _send(folder, name)


def write(
    run: Path,
    folder: Path,
    also: str,
    weights: str,
    page: bool,
    overwrite: bool = True,
    reals: bool = False,
) -> None:
    """Write the export of a run with its last grid, its page, and a card that shows them."""

    def attach(unfinished: Path, networks: EMANetworks) -> list[str]:
        opened = Run(run).published()
        attachments = []
        if attach_grid(opened, unfinished / PICTURE_NAME, reals):
            attachments.append(PICTURE_NAME)
        if page:
            text, model = run_page.render_site(opened, reals, networks)
            write_text(unfinished / PAGE_NAME, text, errors="replace")
            attachments.append(PAGE_NAME)
            if model:
                write_text(unfinished / embedding.SCRIPT_NAME, embedding.render_script(model))
                attachments.append(embedding.SCRIPT_NAME)
        return attachments

    export(run, folder, also, weights, overwrite, attach)


def attach_grid(run: Run, path: Path, reals: bool) -> bool:
    """Copy the last sample grid of a run; return whether there is one."""
    grids = run.grids[-1:]
    with tempfile.TemporaryDirectory() as folder:
        if not reals:
            only_generated = live.draws_only_generated(run)
            grids = pictures.write_generated(grids, Path(folder), only_generated)
        if grids:
            shutil.copyfile(grids[0][1], path)
    return bool(grids)


def _send(folder: Path, name: str) -> str:
    """Upload a folder to the hub; return the URL of the model."""
    there = f"{folder} is complete, but was not uploaded"
    huggingface_hub = import_extra("huggingface_hub", "hub", f"hf:{name} ({there})")
    if huggingface_hub.get_token() is None:
        raise UserError(
            f"No Hugging Face token: hf:{name}. Set HF_TOKEN or call `hf auth login`; {there}"
        )
    # no hidden files, such as .DS_Store
    files = sorted(list_visible(folder))
    size = sum((folder / file).stat().st_size for file in files)
    logger.info(f"Uploading {size / 1e6:,.1f} MB to {name}")
    api = huggingface_hub.HfApi(library_name="gan-lab")
    try:
        address = str(api.create_repo(name, exist_ok=True))
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=files,
            commit_message="GAN lab: generator, page and card",
        )
    # Errors of the network, the server and the token have no common class.
    except Exception as error:
        raise UserError(
            f"Upload failed: hf:{name}: {first_line(error).rstrip('.')}. Repeat the command; "
            f"{folder} is complete"
        ) from None
    return address
