"""``gan-lab`` as a launcher runs it, without final scores; a rank may die in its first start.

``DYING="RANK COUNT" python -m tests.helpers.dying WORD...``: of that rank, in its COUNT-th step.
"""

from __future__ import annotations

import os

from gan_lab.cli import main
from gan_lab.utils.postponed_imports import postpone_imports

# before torch is imported, as the command line does
postpone_imports()

from tests.helpers.processes import Kill, leave_scores_out  # noqa: E402

if __name__ == "__main__":
    rank, count = os.environ.get("DYING", "none 0").split()
    if (
        os.environ.get("LOCAL_RANK") == rank
        and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    ):
        Kill("step", int(count)).install()
    leave_scores_out()
    main()
