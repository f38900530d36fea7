"""``gan-lab``, one of whose processes is killed in its first start: what a launcher runs in a test.

``DYING="RANK COUNT" python -m tests.helpers.dying WORD...``: of that rank, in its COUNT-th step.
"""

from __future__ import annotations

import os

from gan_lab.cli import main
from tests.helpers.processes import Kill

if __name__ == "__main__":
    rank, count = os.environ["DYING"].split()
    if (
        os.environ.get("LOCAL_RANK") == rank
        and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    ):
        Kill("step", int(count)).install()
    main()
