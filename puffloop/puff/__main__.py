"""`python -m puff` is `puff`."""

import sys

from puff.cli import main

sys.exit(main())
