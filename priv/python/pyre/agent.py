"""What people subclass: the agent, and the decorators that mark its handlers and the worker's resources."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, overload

from pyre import _schedule
from pyre._activations import Activation
from pyre._topics import check_pattern
from pyre.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyre._schedule import Missed

__all__ = ["Address", "Agent", "HandlerOptions", "cron", "every", "handler", "on", "resource"]

F = TypeVar("F", bound="Callable[..., Any]")


class Address(str):
    """The id of an agent: whoever holds it can call it."""

    __slots__ = ()


class Agent(Activation):
    """A long-lived, stateful actor.

    Its durable state is `self.state`, an instance of the nested class `State`; it is committed with each reply, and
    rolled back when a handler raises. Other attributes live as long as the activation does.

        class Counter(Agent):
            autostart = True

            class State:
                total: int = 0

            @handler
            async def add(self, ctx: Context, n: int = 1) -> int:
                self.state.total += n
                return self.state.total

    What a class may say of itself:

    * `autostart`: True runs an agent named after the class from the instance's start on, a text one with that id, a
      mapping of ids to start arguments one for each.
    * `version`: of its `State`, an integer from 1 on. Where it differs from the one that wrote a committed state,
      `migrate(state: dict, from_version: int) -> dict`, a static or class method, makes the one into the other.
    * `rate_limit`: how many messages may come to each of its agents, "20/s" or (20, 1.0); beyond it `RateLimited`.
    * `concurrency`: how many of its agents run a message at once; the others wait in their turn.

    Hooks, each optional, `async def` or `def`, with `ctx` where they name it:

    * `on_start(self, ctx)`: at each start and restart, before the first message.
    * `on_stop(self, ctx)`: when the agent is stopped, or its instance ends without a snapshot.
    * `on_error(self, ctx, exc)`: when a handler has raised, to clean up outside; the state is rolled back all the same.
    * `on_down(self, ctx, id, reason)`: when an agent that it monitors is stopped or terminated.

    `self.id` is its address.
    """

    __slots__ = ()

    autostart: ClassVar[bool | str | Mapping[str, Mapping[str, Any]]] = False
    version: ClassVar[int] = 1
    rate_limit: ClassVar[str | tuple[int, float] | None] = None
    concurrency: ClassVar[int | None] = None
    idle_timeout: ClassVar[float | None] = None
    pool: ClassVar[str | None] = None

    id: Address
    state: Any

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401
        """Turn a plain `State` into a slotted dataclass, so that a misspelt field is an error and not a lost one."""
        super().__init_subclass__(**options)
        state = cls.__dict__.get("State")
        if isinstance(state, type) and _is_plain(state):
            cls.State = _slotted(state)  # type: ignore[attr-defined]


class HandlerOptions(NamedTuple):
    """What `@handler(...)` said."""

    readonly: bool = False
    interleave: bool = False
    idempotent: bool = False
    raises: tuple[type[BaseException], ...] = ()
    name: str | None = None
    retry: Retry | None = None
    tool: bool = False


@overload
def handler(function: F, /) -> F: ...


@overload
def handler(
    *,
    readonly: bool = False,
    interleave: bool = False,
    idempotent: bool = False,
    raises: type[BaseException] | tuple[type[BaseException], ...] = (),
    name: str | None = None,
    retry: Retry | None = None,
    tool: bool = False,
) -> Callable[[F], F]: ...


def handler(function: F | None = None, /, **options: Any) -> F | Callable[[F], F]:
    """Mark a method as a handler: what callers may name.

    `readonly` promises that the state stays as it is, `interleave` lets it run beside others on a read-only copy of
    what was committed last, `idempotent` allows a second run after a crash, `raises` lists expected refusals,
    `retry` says which failures are worth another attempt, `tool` offers it to language models: `Pyre.schema/2` then
    describes it, with its arguments as JSON Schema.
    """
    if function is not None:
        return _marked(function, HandlerOptions())
    raises = options.pop("raises", ())
    retry = options.get("retry")
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"expected retry to be a Retry, got {retry!r:.100}")
    chosen = HandlerOptions(raises=raises if isinstance(raises, tuple) else (raises,), **options)
    return lambda function: _marked(function, chosen)


def _marked(function: F, options: HandlerOptions) -> F:
    function.__pyre_handler__ = options  # type: ignore[attr-defined]
    return function


def every(
    period: float, /, *, key: str | None = None, missed: Missed = "run_once", jitter: float = 0, overlap: bool = False
) -> Callable[[F], F]:
    """Run a handler each `period` seconds in each agent of the class, from its start on; as `ctx.every` does.

    It makes the method a handler. The key is the handler's name, so `ctx.cancel_timer` stops it for good.
    """
    schedule = _schedule.every(period, missed, jitter, overlap=overlap)
    return lambda function: _scheduled(function, key, schedule)


def cron(  # noqa: PLR0913  # as many as a schedule has
    expression: str,
    /,
    *,
    tz: str = "UTC",
    key: str | None = None,
    missed: Missed = "run_once",
    jitter: float = 0,
    overlap: bool = False,
) -> Callable[[F], F]:
    """Run a handler when a cron expression says so, in each agent of the class; as `ctx.cron`, and else as `@every`."""
    schedule = _schedule.cron(expression, tz, missed, jitter, overlap=overlap)
    return lambda function: _scheduled(function, key, schedule)


def on(pattern: str, /) -> Callable[[F], F]:
    """Run a handler with each event of a topic that matches, in each agent of the class, from its start on.

    It makes the method a handler, which gets as many of `topic` and `event` as it names. In a pattern `*` stands for
    one word, and `**`, at its end, for any further ones. `ctx.unsubscribe` gives it up.
    """
    check_pattern(pattern)

    def marked(function: F) -> F:
        patterns = (*getattr(function, "__pyre_topics__", ()), pattern)
        function.__pyre_topics__ = patterns  # type: ignore[attr-defined]
        return function if hasattr(function, "__pyre_handler__") else _marked(function, HandlerOptions())

    return marked


def _scheduled(function: F, key: str | None, schedule: _schedule.Schedule) -> F:
    _schedule.declare(function, key, schedule)
    return function if hasattr(function, "__pyre_handler__") else _marked(function, HandlerOptions())


def resource(function: F) -> F:
    """Mark a function whose yielded value all agents of a worker share; it is opened once, at its first use."""
    function.__pyre_resource__ = function.__name__  # type: ignore[attr-defined]
    return function


def _is_plain(state: type) -> bool:
    """Tell a class that only lists annotated fields from one that already knows how to be built."""
    return "__dataclass_fields__" not in state.__dict__ and type(state) is type and "__init__" not in state.__dict__


def _slotted(state: type) -> type:
    for name in inspect.get_annotations(state):
        default = state.__dict__.get(name)
        if isinstance(default, list | dict | set):
            setattr(state, name, dataclasses.field(default_factory=_copies(default)))
    slotted: type = dataclasses.dataclass(slots=True, kw_only=True)(state)
    return slotted


def _copies(default: Any) -> Callable[[], Any]:  # noqa: ANN401
    return lambda: copy.deepcopy(default)
