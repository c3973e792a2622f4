"""``python -m skfactors``: the steps of a batch job."""

import sys

from skfactors.commands import main

sys.exit(main())
