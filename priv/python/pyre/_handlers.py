"""Agent classes, compiled: what a message needs of its class, found once at discovery.

For each handler there are two closures. `bind` checks and converts the arguments; `start` makes the awaitable that runs
the user's code. Whatever a handler doesn't use (a context, resources, `on_error`, a thread) is not in its closures, so
that the plain async handler pays for none of it.
"""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pyre import errors
from pyre._convert import Loader, Mismatch, loader
from pyre._limits import concurrency, idle_timeout, rate_limit
from pyre._migration import check_version
from pyre._schema import describe
from pyre._state import StateKind
from pyre.agent import Address, Agent, HandlerOptions
from pyre.context import Context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from pyre._message import Message

    Bind = Callable[[dict[str, Any]], dict[str, Any]]
    Start = Callable[[Any, Message, dict[str, Any]], Coroutine[Any, Any, Any]]

T = TypeVar("T")

__all__ = ["AgentClass", "HandlerError", "HandlerSpec", "compile_agent", "compile_function"]


class HandlerError(TypeError):
    """A handler that can't be offered; found at discovery, and worded for its author."""


class _Param(NamedTuple):
    """One argument of a handler."""

    name: str
    loader: Loader
    required: bool

    def outline(self) -> dict[str, Any]:
        """Tell the BEAM what it may check by itself."""
        return {"type": self.loader.name, "required": self.required, "scalar": self.loader.scalar}


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """One handler of one class."""

    name: str
    function: Callable[..., Any]
    options: HandlerOptions
    is_async: bool
    is_stream: bool
    params: tuple[_Param, ...]
    is_open: bool
    bind: Bind
    start: Start
    write_state: Callable[[Any], bytes] | None
    tool: dict[str, Any] | None = None

    def takes(self, name: str) -> bool:
        """Tell whether it takes an argument of that name."""
        return self.is_open or any(param.name == name for param in self.params)

    def outline(self) -> dict[str, Any]:
        """Describe it for READY."""
        outline: dict[str, Any] = {
            "kind": "async" if self.is_async else "sync",
            "stream": self.is_stream,
            "interleave": self.options.interleave,
            "readonly": self.options.readonly,
            "idempotent": self.options.idempotent,
            "params": {param.name: param.outline() for param in self.params},
            "open": self.is_open,
        }
        return outline if self.tool is None else {**outline, "tool": self.tool}


@dataclass(frozen=True, slots=True)
class AgentClass:
    """One agent class."""

    name: str
    kind: type[Agent]
    file: str
    handlers: dict[bytes, HandlerSpec]
    streams: dict[bytes, HandlerSpec]
    on_start: HandlerSpec | None
    on_stop: HandlerSpec | None
    on_down: HandlerSpec | None
    no_hook: HandlerSpec
    state: StateKind
    autostart: list[list[Any]]
    timers: list[list[Any]]
    subscriptions: list[list[str]]
    snapshot_kind: type[Agent]
    interleaves: bool
    version: int
    rate_limit: list[int] | None
    concurrency: int | None
    idle_timeout: int | None

    def outline(self) -> dict[str, Any]:
        """Describe it for READY."""
        fields = self.state.fields.items()
        return {
            "name": self.name,
            "module": self.kind.__module__,
            "file": self.file,
            "version": self.version,
            "rate_limit": self.rate_limit,
            "concurrency": self.concurrency,
            "idle_timeout": self.idle_timeout,
            "doc": inspect.cleandoc(self.kind.__doc__ or ""),
            "autostart": self.autostart,
            "timers": self.timers,
            "subscriptions": self.subscriptions,
            "on_start": self.on_start is not None,
            "on_stop": self.on_stop is not None,
            "handlers": {spec.name: spec.outline() for spec in (*self.handlers.values(), *self.streams.values())},
            "state": {name: _Param(name, field, required).outline() for name, (field, required) in fields},
        }


def compile_agent(kind: type[Agent], file: str, resource_types: Mapping[Any, str]) -> AgentClass:
    """Compile one agent class; raises HandlerError or TypeError that names what can't be offered."""
    state = _state_kind(kind)
    handlers = [
        _compile(kind, function, options, state, resource_types) for function, options in _marked_functions(kind)
    ]
    compiled = AgentClass(
        name=kind.__name__,
        kind=kind,
        file=file,
        handlers={spec.name.encode(): spec for spec in handlers if not spec.is_stream},
        streams={spec.name.encode(): spec for spec in handlers if spec.is_stream},
        on_start=_hook(kind, "on_start", state, resource_types),
        on_stop=_hook(kind, "on_stop", state, resource_types),
        on_down=_on_down(kind, state),
        no_hook=_compile(kind, _nothing, HandlerOptions(), state, {}),
        state=state,
        autostart=_autostart(kind),
        timers=_timers(kind, handlers),
        subscriptions=_subscriptions(kind, handlers),
        snapshot_kind=_snapshot_kind(kind),
        interleaves=any(spec.options.interleave for spec in handlers),
        version=_declared(kind, check_version),
        rate_limit=_declared(kind, rate_limit),
        concurrency=_declared(kind, concurrency),
        idle_timeout=_declared(kind, idle_timeout),
    )
    kind.__pyre_class__ = compiled
    return compiled


def _state_kind(kind: type[Agent]) -> StateKind:
    try:
        return StateKind(getattr(kind, "State", None))
    except (NameError, TypeError) as exc:
        raise HandlerError(f"{kind.__name__}.State: {exc}") from exc


def _declared(kind: type[Agent], read: Callable[[type[Agent]], T]) -> T:
    try:
        return read(kind)
    except TypeError as exc:
        raise HandlerError(f"{kind.__name__}: {exc}") from exc


def _marked_functions(kind: type[Agent]) -> Iterator[tuple[Callable[..., Any], HandlerOptions]]:
    # An override without the decorator stays a handler: its address was promised by the base.
    marks: dict[str, HandlerOptions] = {}
    for base in reversed(kind.__mro__):
        for name, value in vars(base).items():
            mark = getattr(value, "__pyre_handler__", None)
            if mark is not None:
                marks[name] = mark
    for name, options in marks.items():
        function = getattr(kind, name)
        if callable(function):
            yield function, options


def _hook(kind: type[Agent], name: str, state: StateKind, resource_types: Mapping[Any, str]) -> HandlerSpec | None:
    function = getattr(kind, name, None)
    return _compile(kind, function, HandlerOptions(name=name), state, resource_types) if function else None


def _on_down(kind: type[Agent], state: StateKind) -> HandlerSpec | None:
    """Compile `on_down(self, ctx, id, reason)`: by position, and with an exception that no argument could be."""
    function = getattr(kind, "on_down", None)
    if function is None:
        return None
    is_async = inspect.iscoroutinefunction(function)

    async def start(agent: Any, message: Message, args: dict[str, Any]) -> Any:  # noqa: ANN401
        given = (agent, Context(message), Address(args["id"]), errors.from_body(args["reason"]))
        return await (function(*given) if is_async else message.in_thread(function, *given))

    on_error = getattr(kind, "on_error", None)
    return HandlerSpec(
        name="on_down",
        function=function,
        options=HandlerOptions(name="on_down"),
        is_async=is_async,
        is_stream=False,
        params=(),
        is_open=True,
        bind=lambda args: args,
        start=start if on_error is None else _with_on_error(start, on_error),
        write_state=state.write,
    )


async def _nothing(_agent: Agent) -> None:
    """Stand in for a hook that a class doesn't have: its state is made and committed all the same."""


def _autostart(kind: type[Agent]) -> list[list[Any]]:
    wanted = kind.autostart
    if isinstance(wanted, bool):
        return [[kind.__name__, {}]] if wanted else []
    if isinstance(wanted, str):
        return [[wanted, {}]]
    if isinstance(wanted, dict):
        return [[name, dict(args)] for name, args in wanted.items()]
    raise HandlerError(
        f"{kind.__name__}.autostart must be False, True, an id, or a dict from ids to start arguments, got {wanted!r}"
    )


def _timers(kind: type[Agent], handlers: list[HandlerSpec]) -> list[list[Any]]:
    timers: dict[str, list[Any]] = {}
    for spec in handlers:
        for key, schedule in getattr(spec.function, "__pyre_timers__", ()):
            if spec.is_stream:
                raise HandlerError(f"{kind.__name__}.{spec.name}: nobody would read what a timer's handler yields")
            name = key or spec.name
            if name in timers:
                raise HandlerError(
                    f"{kind.__name__}.{spec.name}: another timer has the key {name!r}; give each its own"
                )
            needed = [param.name for param in spec.params if param.required]
            if needed:
                raise HandlerError(
                    f"{kind.__name__}.{spec.name}: a timer gives no arguments, and {needed[0]!r} is required"
                )
            timers[name] = [name, spec.name, list(schedule)]
    return list(timers.values())


def _subscriptions(kind: type[Agent], handlers: list[HandlerSpec]) -> list[list[str]]:
    subscriptions = []
    for spec in handlers:
        for pattern in dict.fromkeys(getattr(spec.function, "__pyre_topics__", ())):
            if spec.is_stream:
                raise HandlerError(f"{kind.__name__}.{spec.name}: nobody would read what an event's handler yields")
            needed = [param.name for param in spec.params if param.required and param.name not in {"topic", "event"}]
            if needed:
                raise HandlerError(
                    f"{kind.__name__}.{spec.name}: an event gives `topic` and `event`, and {needed[0]!r} is required"
                )
            subscriptions.append([pattern, spec.name])
    return subscriptions


def _snapshot_kind(kind: type[Agent]) -> type[Agent]:
    def refuse(_agent: Agent, name: str, _value: object) -> None:
        raise errors.ReadOnly(f"self.{name} can't be set: an interleaving handler sees a read-only snapshot")

    # Not through `type(...)`: that would run the user's __init_subclass__ hooks and count as one more agent class.
    return type.__new__(type(kind), kind.__name__, (kind,), {"__slots__": (), "__setattr__": refuse})


# --- One handler ---


def _compile(
    kind: type[Agent],
    function: Callable[..., Any],
    options: HandlerOptions,
    state: StateKind,
    resource_types: Mapping[Any, str],
) -> HandlerSpec:
    name = options.name or function.__name__
    try:
        shape = _shape(function, resource_types, skip=1)
        tool = describe(function, {param.name for param in shape.params}) if options.tool else None
    except (NameError, TypeError, AttributeError) as exc:
        raise HandlerError(f"{kind.__name__}.{function.__name__}: {exc}") from exc
    start = _start(function, with_context=shape.with_context, injected=shape.injected)
    if _is_stream(function):
        _check_stream(kind, function, options)
    on_error = getattr(kind, "on_error", None)
    if on_error is not None and name not in {"on_start", "on_stop"}:
        start = _with_on_error(start, on_error)
    return HandlerSpec(
        name=name,
        function=function,
        options=options,
        is_async=inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
        is_stream=_is_stream(function),
        params=shape.params,
        is_open=shape.rest is not None,
        bind=_bind(shape.params, shape.rest),
        start=start,
        write_state=None if options.readonly or options.interleave else state.write,
        tool=tool,
    )


def _is_stream(function: Callable[..., Any]) -> bool:
    return inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)


def _check_stream(kind: type[Agent], function: Callable[..., Any], options: HandlerOptions) -> None:
    where = f"{kind.__name__}.{function.__name__}"
    if options.name in {"on_start", "on_stop"}:
        raise HandlerError(f"{where}: nobody would read what a hook yields")
    if options.retry is not None or options.idempotent:
        raise HandlerError(f"{where}: a stream is never run again, since its first chunks have been read")


def compile_function(function: Callable[..., Any]) -> HandlerSpec:
    """Make a plain function runnable like a handler that belongs to no agent (RUN)."""
    is_async = inspect.iscoroutinefunction(function)

    async def start(_agent: Any, message: Message, args: Any) -> Any:  # noqa: ANN401
        positional, named = ((), args) if isinstance(args, dict) else (args, {})
        if is_async:
            return await function(*positional, **named)
        return await message.in_thread(function, *positional, **named)

    return HandlerSpec(
        name=getattr(function, "__qualname__", repr(function)),
        function=function,
        options=HandlerOptions(),
        is_async=is_async,
        is_stream=False,
        params=(),
        is_open=True,
        bind=lambda args: args,
        start=start,
        write_state=None,
    )


class _Shape(NamedTuple):
    with_context: bool
    params: tuple[_Param, ...]
    injected: dict[str, str]
    rest: Loader | None


def _shape(function: Callable[..., Any], resource_types: Mapping[Any, str], skip: int) -> _Shape:
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    hints = _hints(function, {parameters[0].name} & {"ctx"} if parameters else set())
    with_context = bool(parameters) and (parameters[0].name == "ctx" or hints.get(parameters[0].name) is Context)
    params, injected, rest = [], {}, None
    for parameter in parameters[with_context:]:
        hint = hints.get(parameter.name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            rest = loader(hint)
        elif parameter.kind in {parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY}:
            raise HandlerError(f"parameter {parameter.name!r} can't be given by name, as arguments are")
        elif _is_resource(hint, resource_types):
            injected[parameter.name] = resource_types[hint]
        else:
            params.append(_param(parameter, hint))
    return _Shape(with_context, tuple(params), injected, rest)


def _hints(function: Callable[..., Any], known: AbstractSet[str]) -> dict[str, Any]:
    """Resolve the parameters' hints; what is returned or known may be imported for type checkers alone."""
    function = inspect.unwrap(function)
    hints = {name: hint for name, hint in function.__annotations__.items() if name not in {"return", *known}}
    annotated = types.SimpleNamespace(__annotations__=hints, __globals__=function.__globals__)
    return typing.get_type_hints(annotated, include_extras=True)


def _is_resource(hint: Any, resource_types: Mapping[Any, str]) -> bool:  # noqa: ANN401
    try:
        return hint in resource_types
    except TypeError:
        return False


def _param(parameter: inspect.Parameter, hint: Any) -> _Param:  # noqa: ANN401
    try:
        return _Param(parameter.name, loader(hint), parameter.default is parameter.empty)
    except TypeError as exc:
        raise HandlerError(f"parameter {parameter.name!r}: {exc}") from exc


def _bind(params: tuple[_Param, ...], rest: Loader | None) -> Bind:
    fields = tuple((p.name, p.loader.exact, p.loader.load, p.required) for p in params)
    known = frozenset(p.name for p in params)

    def bind(args: dict[str, Any]) -> dict[str, Any]:
        # Converts in place: `args` was unpacked for this message alone.
        if type(args) is not dict:
            raise errors.InvalidArgs(f"expected a map of arguments, got {type(args).__name__}")
        seen = 0
        for name, exact, load, required in fields:
            if name in args:
                seen += 1
                value = args[name]
                if type(value) is not exact:
                    args[name] = _converted(name, load, value)
            elif required:
                raise errors.InvalidArgs(f"missing argument {name!r}")
        if seen != len(args):
            _bind_rest(args, known, rest)
        return args

    return bind


def _bind_rest(args: dict[str, Any], known: frozenset[str], rest: Loader | None) -> None:
    for name in [name for name in args if name not in known]:
        if rest is None or not isinstance(name, str):
            expected = ", ".join(sorted(known)) or "none"
            raise errors.InvalidArgs(f"unknown argument {name!r} (expected: {expected})")
        args[name] = _converted(name, rest.load, args[name])


def _converted(name: str, load: Callable[[Any], Any], value: Any) -> Any:  # noqa: ANN401
    try:
        return load(value)
    except Mismatch as exc:
        raise errors.InvalidArgs(exc.words("argument", name)) from None
    except (TypeError, ValueError) as exc:
        raise errors.InvalidArgs(f"argument {name!r}: {exc}") from exc


# --- Ways to run the user's code ---


def _start(function: Callable[..., Any], *, with_context: bool, injected: dict[str, str]) -> Start:
    if _is_stream(function):
        return _start_stream(function, with_context=with_context, injected=injected)
    if not inspect.iscoroutinefunction(function):
        return _start_in_thread(function, with_context=with_context, injected=injected)
    if injected:
        return _start_with_resources(function, with_context=with_context, injected=injected)
    if with_context:
        return lambda agent, message, args: function(agent, Context(message), **args)
    return lambda agent, _message, args: function(agent, **args)


def _start_with_resources(function: Callable[..., Any], *, with_context: bool, injected: dict[str, str]) -> Start:
    async def start(agent: Any, message: Message, args: dict[str, Any]) -> Any:  # noqa: ANN401
        await _inject(message, injected, args)
        return await function(agent, *_positional(message, with_context=with_context), **args)

    return start


def _start_in_thread(function: Callable[..., Any], *, with_context: bool, injected: dict[str, str]) -> Start:
    async def start(agent: Any, message: Message, args: dict[str, Any]) -> Any:  # noqa: ANN401
        if injected:
            await _inject(message, injected, args)
        return await message.in_thread(function, agent, *_positional(message, with_context=with_context), **args)

    return start


def _start_stream(function: Callable[..., Any], *, with_context: bool, injected: dict[str, str]) -> Start:
    is_async = inspect.isasyncgenfunction(function)

    async def start(agent: Any, message: Message, args: dict[str, Any]) -> None:  # noqa: ANN401
        if injected:
            await _inject(message, injected, args)
        chunks = function(agent, *_positional(message, with_context=with_context), **args)
        outlet = message.open_outlet()
        await (outlet.drain(chunks) if is_async else message.in_thread(outlet.pump, chunks))

    return start


def _positional(message: Message, *, with_context: bool) -> tuple[Context, ...]:
    return (Context(message),) if with_context else ()


async def _inject(message: Message, injected: dict[str, str], args: dict[str, Any]) -> None:
    for parameter, name in injected.items():
        args[parameter] = await message.dispatcher.resources.get(name)


def _with_on_error(start: Start, on_error: Callable[..., Any]) -> Start:
    async def guarded(agent: Any, message: Message, args: dict[str, Any]) -> Any:  # noqa: ANN401
        try:
            return await start(agent, message, args)
        except Exception as exc:
            await _clean_up(message, on_error, agent, exc)
            raise

    return guarded


async def _clean_up(message: Message, on_error: Callable[..., Any], agent: Any, exc: Exception) -> None:  # noqa: ANN401
    try:
        done: Awaitable[Any] | None = on_error(agent, Context(message), exc)
        if inspect.isawaitable(done):
            await done
    except Exception as failure:  # noqa: BLE001  # the handler's own error is the one to answer with
        message.dispatcher.note(message, "on_error failed", failure)
