"""Self-contained HTML pages of one run, or of several runs side by side."""

from __future__ import annotations

from gan_lab.report.run_page import render_runs as render_runs
from gan_lab.report.run_page import write as write
from gan_lab.report.run_page import write_live as write_live
from gan_lab.report.run_page import write_or_warn as write_or_warn

__all__ = ["render_runs", "write", "write_live", "write_or_warn"]
