"""When a failure is worth another attempt, and after how long.

    @handler(retry=Retry(attempts=5, on=(TimeoutError, ConnectionError)))
    async def fetch(self, ctx: Context, url: str) -> str: ...

The BEAM holds the wait between two attempts: neither the end of the interpreter nor that of the agent's process ends
it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pyre import errors

if TYPE_CHECKING:
    Exceptions = type[BaseException] | tuple[type[BaseException], ...]

__all__ = ["Retry"]

ANY = (Exception, BaseException)
MAX_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How a message that failed is run again: with the same id, the next `ctx.attempt`, and the committed state.

    `attempts` counts the first one too. The wait before attempt n + 1 is `base` seconds; where `backoff` is
    "exponential", doubled n - 1 times, and `max` at most. `jitter` takes up to a half of it away. `on` and `unless`
    say which exceptions are worth it; an expected refusal (`Reject`, or one of `raises=`) is so only where `on` names
    it. Other messages run meanwhile, unless `hold` keeps them waiting, and in order.

    With `on_exhausted="escalate"` a message whose attempts are used up waits for a person, who says "retry" (all
    attempts anew) or "discard"; its caller gets the error at once.
    """

    attempts: int = 5
    backoff: Literal["exponential", "constant"] = "exponential"
    base: float = 0.2
    max: float = 30.0
    jitter: bool = True
    on: Exceptions = (Exception,)
    unless: Exceptions = ()
    hold: bool = False
    on_exhausted: Literal["fail", "escalate"] = "fail"

    def __post_init__(self) -> None:
        """Refuse what makes no sense where it is written, not when it is needed."""
        for name in ("on", "unless"):
            kinds = getattr(self, name)
            object.__setattr__(self, name, _exceptions(name, kinds if isinstance(kinds, tuple) else (kinds,)))
        if self.attempts < 1:
            raise ValueError(f"expected attempts to be at least 1, got {self.attempts!r}")
        if self.backoff not in {"exponential", "constant"}:
            raise ValueError(f"expected backoff to be 'exponential' or 'constant', got {self.backoff!r}")
        if self.on_exhausted not in {"fail", "escalate"}:
            raise ValueError(f"expected on_exhausted to be 'fail' or 'escalate', got {self.on_exhausted!r}")
        for name in ("base", "max"):
            seconds = getattr(self, name)
            if not (isinstance(seconds, int | float) and math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
                raise ValueError(
                    f"expected {name} to be more than 0 and at most {MAX_SECONDS:.0f} seconds, got {seconds!r}"
                )
        if self.backoff == "exponential" and self.max < self.base:
            raise ValueError(f"expected max to be at least base, got max={self.max!r} and base={self.base!r}")

    def wants(self, exc: BaseException, attempt: int, refusals: tuple[type[BaseException], ...] = ()) -> bool:
        """Tell whether an attempt that ended with this exception is followed by another."""
        return attempt < self.attempts and self._means(exc, refusals)

    def escalates(self, exc: BaseException, attempt: int, refusals: tuple[type[BaseException], ...] = ()) -> bool:
        """Tell whether a person is to say what becomes of a message whose last attempt ended with this exception."""
        return self.on_exhausted == "escalate" and attempt >= self.attempts and self._means(exc, refusals)

    def _means(self, exc: BaseException, refusals: tuple[type[BaseException], ...]) -> bool:
        if isinstance(exc, self.unless):
            return False
        on: tuple[type[BaseException], ...] = self.on  # type: ignore[assignment]
        if isinstance(exc, (errors.Reject, *refusals)):
            on = tuple(kind for kind in on if kind not in ANY)
        return isinstance(exc, on)

    def delay(self, attempt: int) -> float:
        """Choose the seconds between the end of an attempt and the beginning of the next."""
        doublings = min(attempt - 1, 64) if self.backoff == "exponential" else 0
        seconds = min(self.base * 2.0**doublings, max(self.max, self.base))
        return seconds * random.uniform(0.5, 1.0) if self.jitter else seconds  # noqa: S311  # no secret


def _exceptions(name: str, kinds: tuple[object, ...]) -> tuple[type[BaseException], ...]:
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"expected {name} to be exceptions, got {kind!r:.100}")
    return kinds  # type: ignore[return-value]
