"""Publish a run: its export, the page in which its generator lives and the card, in a folder or on the Hugging Face hub."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from gan_lab import report
from gan_lab.inference import model_card
from gan_lab.inference.export import PAGE, PICTURE, export
from gan_lab.runs import hub
from gan_lab.runs.exports import CARD, CONFIG
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError, first_line, import_extra
from gan_lab.utils.files import read_json, write_text

logger = logging.getLogger("gan_lab")


def publish(
    run: Path, to: str, also: str = "safetensors", weights: str = "best", page: bool = True
) -> str:
    """Write all of a run that others need into a folder, and send it where ``to`` says; the address.

    ``to`` is a folder, or ``hf:owner/name``, a model of the hub, which is made if it is not there;
    then the folder is ``publish`` in the run, and stays. ``page``: with the page of the run, which
    shows training images too. Raises ValueError for a run without a checkpoint, a folder that holds
    something else, and where there is no token, no answer or no permission; the folder is complete
    then.
    """
    name = hub.parse_name(to) if to.startswith(hub.PREFIX) else None
    folder = Path(to) if name is None else run / "publish"
    write(run, folder, also, weights, page)
    return str(folder) if name is None else _send(folder, name)


def write(run: Path, folder: Path, also: str, weights: str, page: bool) -> None:
    """Write the export of a run with its last grid, its page, and a card that shows them."""
    export(run, folder, also, weights)
    attachments = []
    if grids := sorted((run / "samples").glob("*.png")):
        shutil.copyfile(grids[-1], folder / PICTURE)
        attachments.append(PICTURE)
    if page:
        report.write([Run(run).published()], folder / PAGE)
        attachments.append(PAGE)
    config = read_json(folder / CONFIG)
    write_text(folder / CARD, model_card.text(config, also, attachments))


def _send(folder: Path, name: str) -> str:
    """Upload a folder to the hub; the address of the model there."""
    there = f"{folder} is ready, and nothing was sent"
    huggingface_hub = import_extra("huggingface_hub", "hub", f"hf:{name} ({there})")
    if huggingface_hub.get_token() is None:
        raise UserError(
            f"hf:{name}: no token of the hub is here: set HF_TOKEN, or call `hf auth login`; "
            f"{there}"
        )
    logger.info(
        f"sending {sum(path.stat().st_size for path in folder.iterdir()) / 1e6:,.1f} MB to {name}"
    )
    api = huggingface_hub.HfApi(library_name="gan-lab")
    try:
        address = str(api.create_repo(name, exist_ok=True))
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="GAN lab: generator, page and card"
        )
    except Exception as error:  # of the network, of the hub, of the token
        raise UserError(
            f"hf:{name}: the hub did not take it: {first_line(error)}; {folder} is ready"
        ) from None
    return address
