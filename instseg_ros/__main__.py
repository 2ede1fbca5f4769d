"""``python -m instseg_ros`` is ``instseg``."""

import sys

from .cli import main

sys.exit(main())
