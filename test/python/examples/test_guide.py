"""The code of the first steps, as the guide prints it, runs, and passes its own tests."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "first-agent.md"


def test_the_guides_agents_pass_the_guides_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock, shop, timer, watch, tests = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "stock.py").write_text(stock + timer + "\n\n" + shop + watch)
    (tmp_path / "guide_tests.py").write_text(tests)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = vars(importlib.import_module("guide_tests"))
    names = [name for name in found if name.startswith("test_")]
    assert len(names) == 3
    for name in names:
        found[name]()
