"""Self-contained HTML pages of one run, of several runs side by side, and of all runs.

The functions are imported on first use: tables of runs and studies use modules of this package
without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lab.report.run_page import is_live as is_live
    from gan_lab.report.run_page import is_outdated as is_outdated
    from gan_lab.report.run_page import render_runs as render_runs
    from gan_lab.report.run_page import write as write
    from gan_lab.report.run_page import write_live as write_live
    from gan_lab.report.run_page import write_or_warn as write_or_warn

__all__ = ["is_live", "is_outdated", "render_runs", "write", "write_live", "write_or_warn"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("gan_lab.report.run_page"), name)
