"""Puts the fleets' folders on the path, as the runtime does."""

from __future__ import annotations

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "priv" / "python" / "examples"
sys.path[:0] = [str(EXAMPLES / name) for name in ("watch", "hello", "support_desk")]
