"""What the BEAM starts: `python .../pyre/__main__.py`, with the folder above it in PYTHONPATH.

This file alone must be readable for Pythons that are too old, so that they can say so.
"""

import gc
import os
import sys

WANTED = (3, 11)
EXIT_BY_HAND = 64
EXIT_UNUSABLE = 69
EXIT_BUG = 70
REQUIRED = ("msgpack", "structlog")
EXAMINE = "--examine"


def main() -> int:
    """Check the interpreter, then set up, run, tear down."""
    reason = _too_old() or _missing_package()
    if _by_hand():
        sys.stderr.write("usage: this is a worker of Pyre; the BEAM starts it, see `mix pyre.run`\n")
        return EXIT_BY_HAND
    if reason:
        sys.stderr.write(f"pyre: {reason}\n")
        return EXIT_UNUSABLE
    return _examine(*sys.argv[2:]) if EXAMINE in sys.argv[1:2] else _work()


def _work() -> int:
    # Until everything is imported: a collection finds nothing then, and there would be dozens.
    gc.disable()
    from pyre._worker import Worker  # noqa: PLC0415  # not before the checks

    worker = Worker()
    worker.set_up()
    worker.run()
    return worker.tear_down()


def _examine(file: str, *directories: str) -> int:
    from pyre import _examine as examination  # noqa: PLC0415  # not before the checks

    return examination.main(file, *directories)


def _use_bundled_packages() -> str:
    """Find the packages that came with a release, where they were made for this Python; else tell what they are for.

    Others would be found, and then not work, or be slow: an extension module is for one version of CPython.
    """
    site = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "site")  # noqa: PTH100, PTH118, PTH120
    try:
        with open(os.path.join(site, "made_for.txt"), encoding="utf-8") as made_for:  # noqa: PTH118, PTH123
            tag = made_for.read().strip()
    except OSError:
        return ""
    if tag != sys.implementation.cache_tag:
        return tag
    sys.path.insert(1, site)
    return ""


def _too_old() -> str:
    if sys.version_info >= WANTED:
        return ""
    found = ".".join(map(str, sys.version_info[:3]))
    return f"{sys.executable} is Python {found}, but Pyre needs {WANTED[0]}.{WANTED[1]} or newer"


def _missing_package() -> str:
    if _too_old():
        return ""
    made_for = _use_bundled_packages()
    for name in REQUIRED:
        try:
            __import__(name)
        except ImportError as exc:
            remedy = f"{sys.executable} -m pip install {name}"
            if made_for:
                remedy += f"; those in the release are for {made_for}, and this is {sys.implementation.cache_tag}"
            return f"the package {name} can't be imported ({exc}); install it with: {remedy}"
    return ""


def _by_hand() -> bool:
    if EXAMINE in sys.argv[1:2]:
        return len(sys.argv) < 3  # noqa: PLR2004  # without a file to write to
    return len(sys.argv) > 1 or "PYRE_RECORDER" not in os.environ or os.isatty(0)


def _leave_package_folder() -> None:
    # Without PYTHONSAFEPATH the folder of this file comes first, and its modules would shadow others.
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    if sys.path and os.path.abspath(sys.path[0]) == here:  # noqa: PTH100
        del sys.path[0]


if __name__ == "__main__":
    _leave_package_folder()
    try:
        STATUS = main()
    except BaseException:  # noqa: BLE001  # a bug of the runtime: told, with its own exit status
        import traceback

        traceback.print_exc()
        STATUS = EXIT_BUG
    sys.stderr.flush()
    # Not sys.exit: threads that are stuck in a handler would hold the process up.
    os._exit(STATUS)
