"""Read pickles of the StyleGAN2-ADA authors as data: nothing in them is executed or imported.

Their loader executes source code in the file. This reader interprets the opcodes of the pickle
itself: the few names of ``ALLOWED_GLOBALS`` stand for functions of this module, every other name,
opcode and persistent id is refused. Memory is limited by the size of the file.
"""

from __future__ import annotations

import io
import itertools
import pickletools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_lab.utils.errors import UserError

# Of a file and everything nested in it. A file has some 20,000 operations; an operation of one byte
# can take some 200 bytes of memory.
MAX_OPERATIONS = 500_000
# dtypes of numpy scalars: bool, integers and floats
PLAIN_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
# storages in nested files of torch
STORAGE_DTYPES = {
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
# a nested file starts with five pickles: magic number, version, system, storage and its key
NESTED_PICKLES = 5
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


class PersistentObject:
    """A module of the authors: its class name and attributes; its source code is dropped."""

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.class_name = class_name
        self.state = state


class _Name:
    """A global of ``ALLOWED_GLOBALS``, which REDUCE may call."""

    def __init__(self, name: str, call: Callable[..., Any] | None) -> None:
        self.name = name
        self.call = call


class _DType:
    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype


class _Persistent:
    """The persistent id of a storage, in nested files alone."""

    def __init__(self, value: Any) -> None:
        self.value = value


def read_pickle(content: bytes) -> Any:
    """Read a pickle of dicts, lists, tuples, plain values, tensors and ``PersistentObject``.

    Raises:
        UserError: It contains something else, by name.
        ValueError: It is damaged.
    """
    counter = itertools.count(1)
    # with the bytes, so that their id is not reused
    storages: dict[int, tuple[bytes, Tensor]] = {}

    def load_storage(nested: Any) -> Tensor:
        """Read a nested file once: a pickle of few bytes could repeat it thousands of times."""
        if id(nested) not in storages:
            storages[id(nested)] = nested, _load_storage(nested, counter)
        return storages[id(nested)][1]

    known = {**ALLOWED_GLOBALS, "torch.storage _load_from_bytes": load_storage}
    return _interpret(io.BytesIO(content), known, counter, persistent_ids=False)


def _interpret(
    file: io.BytesIO,
    known: dict[str, Callable[..., Any] | None],
    counter: Iterator[int],
    persistent_ids: bool,
) -> Any:
    """Interpret one pickle, and leave the file at its end.

    ``stack`` is the part of the stack after the last open MARK, ``marks`` has the parts before. No
    operation is recursive, and none allocates more than the file has bytes. ``counter`` counts the
    operations of all pickles of a file.
    """
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}

    def pop_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, marks.pop()
        return items

    operations: Any = pickletools.genops(file)
    for opcode, argument, _ in operations:
        name = opcode.name
        if next(counter) > MAX_OPERATIONS:
            raise UserError(f"it has more than {MAX_OPERATIONS:,} operations")
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name in CONSTANT_OPERATIONS:
            constant = CONSTANT_OPERATIONS[name]
            stack.append(constant() if callable(constant) else constant)
        elif name in PUSH_OPERATIONS:
            stack.append(argument)
        elif name == "MARK":
            marks.append(stack)
            stack = []
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in TUPLE_LENGTHS:
            size = TUPLE_LENGTHS[name]
            items = stack[len(stack) - size :]
            if len(items) < size:
                raise ValueError("the stack is too short")
            del stack[len(stack) - size :]
            stack.append(tuple(items))
        elif name == "TUPLE":
            items = pop_mark()
            stack.append(tuple(items))
        elif name == "APPEND":
            item = stack.pop()
            _expect(stack[-1], list).append(item)
        elif name == "APPENDS":
            items = pop_mark()
            _expect(stack[-1], list).extend(items)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _set_items(stack[-1], [key, value])
        elif name == "SETITEMS":
            items = pop_mark()
            _set_items(stack[-1], items)
        elif name == "ADDITEMS":
            items = pop_mark()
            _expect(stack[-1], set).update(map(_check_key, items))
        elif name == "GLOBAL":
            stack.append(_find_name(argument, known))
        elif name == "STACK_GLOBAL":
            attribute, module = _expect(stack.pop(), str), _expect(stack.pop(), str)
            stack.append(_find_name(f"{module} {attribute}", known))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = _expect(stack.pop(), tuple), _expect(stack.pop(), _Name)
            if function.call is None:
                raise UserError(f"it calls {function.name.replace(' ', '.')}")
            stack.append(function.call(*arguments))
        elif name == "BUILD":
            # state of a dtype, such as the byte order, or of a dict subclass; both are not needed
            stack.pop()
            if not isinstance(stack[-1], _DType | dict):
                raise UserError(f"it sets the state of a {type(stack[-1]).__name__}")
        elif name == "BINPERSID" and persistent_ids:
            stack.append(_Persistent(stack.pop()))
        elif name in ("BINPERSID", "PERSID"):
            raise UserError("it has a persistent id")
        else:
            raise UserError(f"it has the operation {name}")
    raise ValueError("it ends early")


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise UserError(f"it uses a {type(value).__name__} as a {kind.__name__}")
    return value


def _check_key(key: Any) -> Any:
    """Return a key of a dict or set; hashing nested tuples could take forever."""
    if not isinstance(key, str | int | float | bytes | None):
        raise UserError(f"it has a key of type {type(key).__name__}")
    return key


def _set_items(target: Any, items: list[Any]) -> None:
    _expect(target, dict)
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_check_key(key)] = value


def _find_name(name: str, known: dict[str, Callable[..., Any] | None]) -> _Name:
    if name.startswith("dnnlib.tflib."):
        raise UserError(
            "it is a TensorFlow snapshot (dnnlib.tflib.network.Network). Only PyTorch snapshots "
            "can be read: convert it with the authors' legacy.py"
        )
    if name not in known:
        raise UserError(f"it refers to {name[:80].replace(' ', '.')!r}, which is not a weight")
    return _Name(name, known[name])


# -------------------------------------------------------------------------------------------------
# The functions behind the names


def _make_object(meta: Any) -> PersistentObject:
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise UserError("it has a persistent object that is not a class")
    class_name, state = meta.get("class_name"), meta.get("state")
    if not isinstance(class_name, str) or not isinstance(state, dict):
        raise UserError("it has a persistent object without class_name or state")
    # module_src, the source code, is dropped here
    return PersistentObject(class_name, state)


def _make_dict(*arguments: Any) -> dict[str, Any]:
    if arguments:
        raise UserError("it has a dict with arguments")
    return {}


def _make_parameter(data: Any, requires_grad: Any, hooks: Any) -> Tensor:
    parameter: Tensor = _expect(data, Tensor)
    return parameter


def _make_tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    """Build a tensor from a storage; one that is larger than its storage is refused."""
    flat: Tensor = _expect(storage, Tensor)
    size, stride = _expect(size, tuple), _expect(stride, tuple)
    if len(size) != len(stride) or len(size) > 8:
        raise UserError("it has a tensor whose size and stride differ")
    if any(type(number) is not int or number < 0 for number in (offset, *size, *stride)):
        raise UserError("it has a tensor with an invalid size")
    numel, last = 1, offset
    for length, step in zip(size, stride, strict=True):
        numel *= length
        last += (length - 1) * step
    if numel > flat.numel() or (numel and last >= flat.numel()):
        raise UserError(f"it has a tensor of {numel:,} numbers in a storage of {flat.numel():,}")
    return torch.as_strided(flat, size, stride, offset)


def _make_dtype(code: Any, *flags: Any) -> _DType:
    if not isinstance(code, str) or not PLAIN_DTYPE.fullmatch(code):
        found = repr(code[:20]) if isinstance(code, str) else f"of a {type(code).__name__}"
        raise UserError(f"it has the numpy dtype {found}")
    return _DType(np.dtype(code))


def _make_scalar(dtype: Any, content: Any) -> Any:
    kind = _expect(dtype, _DType).dtype
    if len(_expect(content, bytes)) != kind.itemsize:
        raise UserError("it has a numpy scalar of another size than its dtype")
    return np.frombuffer(content, kind)[0].item()


def _load_storage(content: Any, counter: Iterator[int]) -> Tensor:
    """Read the numbers of a nested file of torch, in its older format, as a vector.

    ``torch.load`` would reserve the memory that the file claims, and accepts other formats too.
    """
    nested = io.BytesIO(_expect(content, bytes))
    known = dict.fromkeys(STORAGE_DTYPES)
    magic, _, system, storage, _ = (
        _interpret(nested, known, counter, persistent_ids=True) for _ in range(NESTED_PICKLES)
    )
    claim = storage.value if isinstance(storage, _Persistent) else None
    if magic != MAGIC_NUMBER or not isinstance(system, dict) or not system.get("little_endian"):
        raise UserError("it has a nested file that torch has not written")
    match claim:
        case ("storage", _Name(name=kind), str(), str(), int(numel), None):
            dtype = STORAGE_DTYPES[kind]
        case _:
            raise UserError("it has a nested file that is not one storage of numbers")
    # the numbers follow, after their count in eight bytes
    data = content[nested.tell() + 8 :]
    if numel < 0 or numel * dtype.itemsize != len(data):
        raise UserError(
            f"it has a storage that claims {numel:,} numbers and has {len(data):,} bytes"
        )
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


# read_pickle adds torch.storage._load_from_bytes
ALLOWED_GLOBALS: dict[str, Callable[..., Any] | None] = {
    "torch_utils.persistence _reconstruct_persistent_obj": _make_object,
    "collections OrderedDict": _make_dict,
    "dnnlib.util EasyDict": _make_dict,
    "torch._utils _rebuild_parameter": _make_parameter,
    "torch._utils _rebuild_tensor_v2": _make_tensor,
    "numpy dtype": _make_dtype,
    "numpy.core.multiarray scalar": _make_scalar,
    "numpy._core.multiarray scalar": _make_scalar,
}
# operations that push a value
CONSTANT_OPERATIONS: dict[str, Any] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
# operations that push their argument; those of protocol 0 are text, and refused
PUSH_OPERATIONS = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "BINUNICODE8",
    "SHORT_BINBYTES",
    "BINBYTES",
    "BINBYTES8",
}
TUPLE_LENGTHS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
