"""Publish a run as a folder or on the Hugging Face Hub: its export, report page and model card."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from gan_lab import report
from gan_lab.inference.export import export
from gan_lab.runs import hub
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError, first_line, import_extra
from gan_lab.utils.files import write_text
from gan_lab.utils.output import list_visible

logger = logging.getLogger("gan_lab")
PAGE, PICTURE = "report.html", "samples.png"


def publish(
    run: Path,
    to: str,
    also: str = "safetensors",
    weights: str = "best",
    page: bool = True,
    overwrite: bool = True,
) -> str:
    """Write an export with the report page into a folder, or upload it; return the address.

    Args:
        run: A run folder.
        to: A folder, or ``hf:owner/name``, a model on the Hugging Face hub, which is created if
            needed. Its files remain in the folder ``publish`` of the run.
        also: A format in addition to safetensors: torch or onnx.
        weights: best, last, raw or a number of training images.
        page: Include the report page, which shows training images.
        overwrite: Replace an earlier export in this folder.

    Raises:
        UserError: There is no checkpoint, the folder contains other files, or the upload failed:
            then the folder is complete.
    """
    name = hub.parse_name(to) if to.startswith(hub.PREFIX) else None
    folder = Path(to).expanduser() if name is None else run / "publish"
    # nobody names the folder in the run: what it contains is output
    write(run, folder, also, weights, page, overwrite or name is not None)
    return str(folder) if name is None else _send(folder, name)


def write(
    run: Path, folder: Path, also: str, weights: str, page: bool, overwrite: bool = True
) -> None:
    """Write the export of a run with its last grid, its page, and a card that shows them."""

    def attach(unfinished: Path) -> list[str]:
        attachments = []
        if grids := sorted((run / "samples").glob("*.png")):
            shutil.copyfile(grids[-1], unfinished / PICTURE)
            attachments.append(PICTURE)
        if page:
            page_text = report.render_runs([Run(run).published()])
            write_text(unfinished / PAGE, page_text, errors="replace")
            attachments.append(PAGE)
        return attachments

    export(run, folder, also, weights, overwrite, attach)


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
            f"Upload failed: hf:{name}: {first_line(error).rstrip('.')}. Repeat the command; {folder} "
            "is complete"
        ) from None
    return address
