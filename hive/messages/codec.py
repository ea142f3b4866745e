"""The one codec: frozen dataclasses, enums and NumPy arrays to canonical MessagePack bytes and back.

Equal values give equal bytes (fields in declared order, mapping keys sorted, arrays C-ordered and little-endian), so
the bytes can be hashed, stored and later signed. Only classes marked :func:`message` are read back: nothing that
arrives as bytes can make this process run code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import typing
from enum import Enum
from functools import cache, partial
from typing import Any, TypeVar, dataclass_transform

import msgpack
import numpy as np

from cluster.errors import SwarmError

T = TypeVar("T")

ARRAY = 1  # MessagePack extension type of a NumPy array
MESSAGE = 2  # MessagePack extension type of a registered dataclass
TUPLE = 3  # MessagePack extension type of a tuple, which MessagePack would give back as a list

MAX_DEPTH = 32  # tuples and messages inside each other; MessagePack's own stack ends not far above a hundred
ARRAY_TYPE = re.compile(r"[<|][biufcSU]\d+|<[mM]8\[\w+\]")  # plain numbers, texts and times

_known: dict[str, type] = {}


@dataclass_transform(frozen_default=True, eq_default=False)
def message(cls: type[T]) -> type[T]:
    """Class decorator: make a frozen dataclass of ``cls`` that the codec can read back.

    Two messages are equal when their canonical bytes are: arrays compare by content, NaN equals NaN.
    """
    known = dataclasses.dataclass(frozen=True, eq=False)(cls)
    if known.__name__ in _known:
        raise TypeError(f"two messages are named {known.__name__}")
    known.__eq__ = _equal  # type: ignore[method-assign]
    known.__hash__ = _hash  # type: ignore[method-assign]
    _known[known.__name__] = known
    return known


def encode(value: Any) -> bytes:
    """Canonical bytes of a message, container, scalar or array.

    Raises
    ------
    TypeError
        ``value`` holds something the codec does not know.
    """
    try:
        return bytes(msgpack.packb(_prepared(value), use_bin_type=True, strict_types=True))
    except OverflowError as error:
        raise TypeError("the codec's whole numbers have 64 bits") from error


def decode(data: bytes) -> Any:
    """The value whose canonical bytes are ``data``; constructors validate as they do for anybody else.

    Raises
    ------
    ValueError
        The bytes are truncated, too deeply nested, of an unknown message, or refused by its constructor.
    """
    return _decoded(data, depth=0)


def digest(value: Any) -> str:
    """SHA-256 of the canonical bytes, in hexadecimal."""
    return hashlib.sha256(encode(value)).hexdigest()


def plain(value: Any) -> Any:
    """``value`` as JSON-ready dictionaries, lists and scalars; dates and enums become text, NaN and infinity None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value] if value.ndim else plain(value[()])
    if isinstance(value, (np.datetime64, np.generic)):
        return str(value) if isinstance(value, np.datetime64) else plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _decoded(data: bytes, *, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"not a message of this house: nested more than {MAX_DEPTH} deep")
    try:
        return msgpack.unpackb(data, ext_hook=partial(_restored, depth=depth + 1), strict_map_key=False, raw=False)
    except (msgpack.exceptions.UnpackException, KeyError, TypeError, AttributeError, SwarmError) as error:
        raise ValueError(f"not a message of this house: {error!r}") from error


def _equal(self: Any, other: object) -> bool:
    return encode(self) == encode(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(encode(self))


def _prepared(value: Any) -> Any:
    if type(value) is float and math.isnan(value):
        return math.nan  # one NaN: their sign and payload differ and mean nothing
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, Enum):
        return _prepared(value.value)
    if isinstance(value, np.ndarray):
        return msgpack.ExtType(ARRAY, _array_bytes(value))
    if isinstance(value, np.generic):
        return _prepared(value.item())
    if isinstance(value, tuple):
        return msgpack.ExtType(TUPLE, encode(list(value)))
    if isinstance(value, list):
        return [_prepared(item) for item in value]
    if isinstance(value, dict):
        return {_prepared(key): _prepared(value[key]) for key in sorted(value)}
    if dataclasses.is_dataclass(value) and _known.get(type(value).__name__) is type(value):
        fields = {field.name: _prepared(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return msgpack.ExtType(MESSAGE, msgpack.packb([type(value).__name__, fields], use_bin_type=True))
    raise TypeError(f"the codec does not know {type(value).__name__}")


def _array_bytes(array: np.ndarray) -> bytes:
    little = array.dtype.newbyteorder("<")
    if not ARRAY_TYPE.fullmatch(little.str):
        raise TypeError(f"arrays of {array.dtype} have no canonical bytes")
    canonical = np.ascontiguousarray(array, dtype=little)
    if little.kind == "f" and np.isnan(canonical).any():
        canonical = np.where(np.isnan(canonical), little.type(np.nan), canonical)
    header = msgpack.packb([canonical.dtype.str, list(array.shape)])
    return bytes(header) + canonical.tobytes()


def _restored(code: int, data: bytes, *, depth: int) -> Any:
    if code == ARRAY:
        unpacker = msgpack.Unpacker()
        unpacker.feed(data[:1024])  # the header is short; the payload follows it
        dtype, shape = unpacker.unpack()
        if not ARRAY_TYPE.fullmatch(dtype):
            raise ValueError(f"not a message of this house: an array of {dtype!r}")
        array = np.frombuffer(data, dtype=np.dtype(dtype), offset=unpacker.tell())
        return array.reshape(shape)
    if code == TUPLE:
        return tuple(_decoded(data, depth=depth))
    if code == MESSAGE:
        name, fields = _decoded(data, depth=depth)
        kinds = _enum_fields(name)
        return _known[name](**{key: kinds[key](value) if key in kinds else value for key, value in fields.items()})
    raise ValueError(f"unknown extension type {code}")


@cache
def _enum_fields(name: str) -> dict[str, type[Enum]]:
    """Fields of a message that hold an enum, whose value alone is on the wire."""
    hints = typing.get_type_hints(_known[name])
    return {key: kind for key, kind in hints.items() if isinstance(kind, type) and issubclass(kind, Enum)}
