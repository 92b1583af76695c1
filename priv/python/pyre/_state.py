"""An agent class's durable state: made from start arguments, loaded from committed bytes, and written back.

`StateKind` is compiled once per class. Three forms of `State` exist: dataclasses (to which plain annotated classes have
been turned), msgspec.Struct and pydantic models. A class without `State` has an empty one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from pyre import _body, errors
from pyre._convert import Loader, Mismatch, dump, field_loaders, is_struct, loader, pack

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EMPTY_MAP", "StateKind"]

EMPTY_MAP = b"\x80"


class StateKind:
    """How the states of one agent class are made, read and written."""

    def __init__(self, state_class: type | None) -> None:
        """Compile the fields; raises NotPlainError for a field that can't be kept."""
        self.state_class = state_class
        # Writes a state as bytes; raises EncodeError with the path to what can't be written.
        self.fields: dict[str, tuple[Loader, bool]] = {}
        self._make: Callable[[dict[str, Any]], Any] = lambda _fields: None
        self.write: Callable[[Any], bytes] = lambda _state: EMPTY_MAP
        self._load_fields: Callable[[dict[str, Any]], dict[str, Any]] = _checked
        self._guard: type | None = None
        if state_class is not None:
            self._compile(state_class)

    def _compile(self, state_class: type) -> None:
        if is_struct(state_class, "msgspec", "Struct") or is_struct(state_class, "pydantic", "BaseModel"):
            self._compile_foreign(state_class)
        elif dataclasses.is_dataclass(state_class):
            self._compile_dataclass(state_class)
        else:
            raise TypeError(
                f"{state_class.__qualname__} must be an annotated class, a dataclass, "
                "a msgspec.Struct or a pydantic model"
            )

    def _compile_foreign(self, state_class: Any) -> None:  # noqa: ANN401
        whole = loader(state_class)
        self._make = whole.load
        self._load_fields = lambda fields: fields
        self.write = pack
        self.fields = _foreign_fields(state_class)

    def _compile_dataclass(self, state_class: type) -> None:
        compiled = field_loaders(state_class)
        self.fields = {name: (field.loader, field.required) for name, field in compiled.items()}
        self._make = lambda fields: state_class(**fields)
        self._load_fields = self._checked_fields
        self._guard = _guarded(state_class)
        if compiled:
            self.write = _writer(tuple(compiled), all(field.loader.plain for field in compiled.values()))

    def _checked_fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        for name in fields:
            if name not in self.fields:
                raise TypeError(f"unknown field {name!r}")
        for name, (field, required) in self.fields.items():
            if name not in fields:
                if required:
                    raise TypeError(f"missing field {name!r}")
                continue
            value = fields[name]
            if type(value) is not field.exact:
                try:
                    fields[name] = field.load(value)
                except Mismatch as exc:
                    raise TypeError(exc.words("field", name)) from None
        return fields

    def start(self, args: bytes) -> Any:  # noqa: ANN401
        """Make the first state of an agent from its start arguments."""
        try:
            fields = _map(_body.unpack(args)) if args else {}
        except errors.DecodeError as exc:
            raise errors.InvalidArgs(f"start arguments: {exc}") from None
        return self._built(fields, "start arguments", errors.InvalidArgs)

    def load(self, committed: bytes) -> Any:  # noqa: ANN401
        """Make the state again from what was committed; a state that doesn't fit is an error, never a blank."""
        try:
            fields = _map(_body.unpack(committed))
        except errors.DecodeError as exc:
            raise errors.DecodeError(f"committed state: {exc}") from None
        return self._built(fields, "committed state", errors.DecodeError)

    def build(self, fields: dict[str, Any], what: str) -> Any:  # noqa: ANN401
        """Make a state of fields that somebody else gives; raises DecodeError for what doesn't fit."""
        return self._built(fields, what, errors.DecodeError)

    def _built(self, fields: dict[str, Any], what: str, error: type[errors.PyreError]) -> Any:  # noqa: ANN401
        if self.state_class is None and not fields:
            return None
        try:
            return self._make(self._load_fields(fields))
        except Mismatch as exc:
            raise error(exc.words(what, "")) from exc
        except (TypeError, ValueError) as exc:
            raise error(f"{what}: {exc}") from exc

    def freeze(self, state: Any) -> Any:  # noqa: ANN401
        """Make assignment to a snapshot raise ReadOnly."""
        if self._guard is not None:
            state.__class__ = self._guard
        return state


def _map(value: Any) -> dict[str, Any]:  # noqa: ANN401
    if type(value) is dict:
        return value
    raise errors.DecodeError(f"expected a map, got {type(value).__name__}")


def _checked(fields: Any) -> dict[str, Any]:  # noqa: ANN401
    if fields:
        raise TypeError(f"unknown field {next(iter(fields))!r}")
    return {}


def _writer(names: tuple[str, ...], plain: bool) -> Callable[[Any], bytes]:  # noqa: FBT001
    """Make the function that writes a state; it runs for each message of a class with a state."""
    if not plain:
        return lambda state: pack({name: dump(getattr(state, name)) for name in names})
    # Written out as text, as dataclasses does: a loop over the names costs three times as much.
    items = ", ".join(f"{name!r}: state.{name}" for name in names)
    writer: Callable[[Any], bytes] = eval(f"lambda state: pack({{{items}}})", {"pack": pack})  # noqa: S307  # identifiers
    return writer


def _guarded(state_class: type) -> type | None:
    def refuse(state: Any, name: str, _value: object) -> None:  # noqa: ANN401
        raise errors.ReadOnly(f"{type(state).__qualname__}.{name} can't be set: the snapshot is read-only")

    # What is made from a snapshot (dataclasses.replace, copy) is the user's own, and may be written to.
    def new(_guard: type, *args: Any, **fields: Any) -> Any:  # noqa: ANN401
        return state_class(*args, **fields) if args or fields else object.__new__(state_class)

    guard: type | None = None
    with contextlib.suppress(TypeError):  # a base that can't be subclassed goes without the guard
        guard = type(state_class.__name__, (state_class,), {"__slots__": (), "__setattr__": refuse, "__new__": new})
    return guard


def _foreign_fields(state_class: Any) -> dict[str, tuple[Loader, bool]]:  # noqa: ANN401
    if is_struct(state_class, "pydantic", "BaseModel"):
        found = {name: (f.annotation, f.is_required()) for name, f in state_class.model_fields.items()}
    else:
        structs = importlib.import_module("msgspec").structs
        found = {field.encode_name: (field.type, field.required) for field in structs.fields(state_class)}
    return {name: (_outlined(hint), required) for name, (hint, required) in found.items()}


def _outlined(hint: Any) -> Loader:  # noqa: ANN401
    try:
        return loader(hint)
    except TypeError:
        return Loader(str(hint), None, lambda value: value, plain=False)
