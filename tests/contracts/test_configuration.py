"""The page of all keys is what its script writes, and says something of every key."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from gan_lab.config import loading
from gan_lab.config.schema import Config, list_leaves

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "configuration.py"))


def test_the_page_of_all_keys_is_up_to_date() -> None:
    assert SCRIPT["PAGE"].read_text(encoding="utf-8") == SCRIPT["page"](), "run make configuration"


def test_configuration_page_explains_every_key_and_default() -> None:
    text = SCRIPT["page"]()
    for key, _ in list_leaves(Config()):
        if "." in key:
            (row,) = re.findall(
                rf"^\| `{re.escape(key)}` \| (.*) \| (.*) \| (.*) \|$", text, re.MULTILINE
            )
            assert row[2].strip(), f"{key}: add a comment above it in schema.py"
    for family in loading.families():
        for key, _ in list_leaves(loading.family_class(family).Config()):
            assert f"| `model.{key}` |" in text.partition(f"### {family}\n")[2]


def test_a_comment_is_that_of_its_own_field() -> None:
    found = SCRIPT["read_comments"](loading.family_class("gan").Config)
    assert found["betas"] == ""
    assert found["decay_from"] == "images after which the decay begins"
    assert found["lr_d"] == ""
    assert found["label_smoothing"].endswith("the target of reals is 1 minus this")
    assert found["weight_decay"] == "decoupled weight decay of the discriminator (AdamW)"
