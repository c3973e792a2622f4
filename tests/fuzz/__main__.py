"""``python -m tests.fuzz``."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
# As pytest does, for what tests share.
sys.path.insert(0, str(Path(__file__).parents[1]))

from .command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
