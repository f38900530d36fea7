"""Self-contained HTML pages of one run, or of several runs side by side.

The functions are imported on first use: tables of runs and studies use modules of this package
without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lab.report.run_page import render_runs as render_runs
    from gan_lab.report.run_page import write as write
    from gan_lab.report.run_page import write_or_warn as write_or_warn

__all__ = ["render_runs", "write", "write_or_warn"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from gan_lab.report import run_page

        return getattr(run_page, name)
    raise AttributeError(f"module 'gan_lab.report' has no attribute {name!r}")
