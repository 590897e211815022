"""What an ONNX file holds, found by walking its bytes: before anything interprets them, and without building objects.

A file of some megabytes can describe millions of nodes, and name files of this machine as its weights. So its parts are
looked at as they come, and the walk stops at the first that must not be there. It is stricter than a parser: what
parsers might read in different ways is refused. Field numbers are those of onnx.proto (onnx.ai, IR version 13).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pba_service.runtime.graph_sizes import Sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NODES = 20_000
"""The shipped models have some 300 each."""

MAX_TENSORS = 20_000
MAX_NAME_BYTES = 1_024

OPSETS = {"": range(13, 27), "ai.onnx": range(13, 27), "com.microsoft": range(1, 2)}
"""Versions that each set of operators may have."""

_LISTED = """
Abs Add And Asinh Ceil Clip Cos Div Equal Erf Exp Floor Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log Max Mean
Min Mod Mul Neg Not Or Pow Reciprocal Round Sign Sin Sinh Sqrt Sub Sum Tan Tanh Where Xor
Elu Gelu HardSigmoid HardSwish LeakyRelu LogSoftmax Mish PRelu Relu Selu Sigmoid Softmax Softplus Softsign
BatchNormalization Conv Dropout Einsum GRU Gemm LSTM LayerNormalization MatMul RNN
ArgMax ArgMin CumSum ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare TopK
Cast CastLike Concat Constant ConstantOfShape Expand Flatten Gather GatherElements GatherND Identity NonZero Range
Reshape ScatterElements ScatterND Shape Size Slice Split Squeeze Transpose Trilu Unsqueeze
DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearMatMul QuantizeLinear
com.microsoft:DynamicQuantizeLSTM com.microsoft:DynamicQuantizeMatMul com.microsoft:MatMulIntegerToFloat
"""
OPERATORS = frozenset(_LISTED.split())
"""What a forecaster needs: no control flow, no randomness, no strings, no images, nothing that calls out."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_MAX_KEY = 2**32 - 1  # a longer one is cut to 32 bits by some parsers, which would make another field of it
_VARINT_BITS = 70

_Span = tuple[int, int]


class GraphFaultError(Exception):
    """A file must not be opened. The text says why; it repeats names only where they are printable and short."""


@dataclass(slots=True)
class GraphScan:
    """What was found.

    Attributes:
        nodes: Number of nodes.
        tensors: Number of tensors of weights and constants.
        operators: Names of the operators, with their domain unless it is the standard one.
        opsets: Version by domain.
    """

    nodes: int = 0
    tensors: int = 0
    operators: set[str] = field(default_factory=set)
    opsets: dict[str, int] = field(default_factory=dict)


def scan_graph(data: bytes) -> GraphScan:
    """Walks a file. Raises `GraphFaultError` for the first thing that must not be in it."""
    found = GraphScan()
    graphs = 0
    for number, wire_type, span in _fields(data, (0, len(data))):
        if number == 7:  # graph  # noqa: PLR2004 - field numbers, here and below
            graphs += 1
            _graph(data, _message(wire_type, span), found)
        elif number == 8:  # opset_import  # noqa: PLR2004
            _opset(data, _message(wire_type, span), found)
        elif number in {20, 25}:  # training_info, functions
            raise GraphFaultError("it has functions or training graphs of its own")
        elif number not in {1, 2, 3, 4, 5, 6, 14}:  # versions, producer, domain, texts, metadata
            raise GraphFaultError(f"it has a part that no model has (field {number})")
    if graphs != 1:
        raise GraphFaultError("it is no model: it has no graph" if not graphs else "it has several graphs")
    if "" not in found.opsets and "ai.onnx" not in found.opsets:
        raise GraphFaultError("it does not say which operators it was written for")
    return found


def _graph(data: bytes, within: _Span, found: GraphScan) -> None:
    sizes, nodes = Sizes(), []  # weights come after the nodes that use them
    for number, wire_type, span in _fields(data, within):
        if number == 1:  # node
            found.nodes += 1
            if found.nodes > MAX_NODES:
                raise GraphFaultError(f"it has more than {MAX_NODES:,} nodes")
            nodes.append(_node(data, _message(wire_type, span), found))
        elif number == 5:  # initializer  # noqa: PLR2004
            sizes.constant(_tensor(data, _message(wire_type, span), found))
        elif number == 15:  # sparse_initializer  # noqa: PLR2004
            raise GraphFaultError("it has sparse weights")
        elif number not in {2, 10, 11, 12, 13, 14, 16}:  # names, texts, inputs, outputs, types, annotations
            raise GraphFaultError(f"it has a part that no graph has (field {number})")
    for operator, inputs, outputs in nodes:
        if not sizes.node(operator, inputs, outputs):
            raise GraphFaultError(f"what comes in says how large an output of {_shown(operator)} is")


def _node(data: bytes, within: _Span, found: GraphScan) -> tuple[str, list[str], list[str]]:
    """Looks at a node; its operator, its inputs and its outputs."""
    operator = domain = ""
    inputs: list[str] = []
    outputs: list[str] = []
    for number, wire_type, span in _fields(data, within):
        if number == 4:  # op_type  # noqa: PLR2004
            operator = _text(data, _message(wire_type, span))
        elif number == 7:  # domain  # noqa: PLR2004
            domain = _text(data, _message(wire_type, span))
        elif number == 5:  # attribute  # noqa: PLR2004
            _attribute(data, _message(wire_type, span), found)
        elif number in {1, 2}:  # inputs, outputs
            (inputs if number == 1 else outputs).append(_text(data, _message(wire_type, span)))
        elif number not in {3, 6, 8, 9, 10}:  # name, text, overload, metadata, devices
            raise GraphFaultError(f"it has a part that no node has (field {number})")
    name = operator if domain in {"", "ai.onnx"} else f"{domain}:{operator}"
    if name not in OPERATORS:
        raise GraphFaultError(f"it uses the operator {_shown(name)}, which no forecaster needs")
    found.operators.add(name)
    return name, inputs, outputs


def _attribute(data: bytes, within: _Span, found: GraphScan) -> None:
    for number, wire_type, span in _fields(data, within):
        if number in {6, 11}:  # g, graphs
            raise GraphFaultError("it has graphs within its graph")
        if number in {22, 23}:  # sparse_tensor, sparse_tensors
            raise GraphFaultError("it has sparse constants")
        if number in {5, 10}:  # t, tensors
            _tensor(data, _message(wire_type, span), found)


def _tensor(data: bytes, within: _Span, found: GraphScan) -> str:
    """Looks at a tensor; its name."""
    found.tensors += 1
    name = ""
    if found.tensors > MAX_TENSORS:
        raise GraphFaultError(f"it has more than {MAX_TENSORS:,} tensors")
    for number, wire_type, span in _fields(data, within):
        if number == 13 or (number == 14 and (wire_type != _VARINT or _varint(data, *span)[0])):  # noqa: PLR2004
            raise GraphFaultError("its weights are in other files")  # external_data, data_location
        if number == 8:  # name  # noqa: PLR2004
            name = _text(data, _message(wire_type, span))
    return name


def _opset(data: bytes, within: _Span, found: GraphScan) -> None:
    domain, version = "", 0
    for number, wire_type, span in _fields(data, within):
        if number == 1:
            domain = _text(data, _message(wire_type, span))
        elif number == 2 and wire_type == _VARINT:  # noqa: PLR2004
            version, _ = _varint(data, *span)
        else:
            raise GraphFaultError("a set of operators is malformed")
    if version not in OPSETS.get(domain, ()):
        raise GraphFaultError(f"it is written for version {version} of the operators {_shown(domain)}")
    found.opsets[domain] = version


def _message(wire_type: int, span: _Span) -> _Span:
    if wire_type != _LENGTH:
        raise GraphFaultError("it is no ONNX file")
    return span


def _text(data: bytes, span: _Span) -> str:
    if span[1] - span[0] > MAX_NAME_BYTES:
        raise GraphFaultError("a name in it is too long")
    try:
        return data[span[0] : span[1]].decode()
    except UnicodeDecodeError:
        raise GraphFaultError("a name in it is no text") from None


def _shown(name: str) -> str:
    return repr(name[:40])


def _fields(data: bytes, within: _Span) -> Iterator[tuple[int, int, _Span]]:
    """The (number, wire type, place) of each field of a message."""
    position, end = within
    while position < end:
        key, position = _varint(data, position, end)
        number, wire_type = key >> 3, key & 7
        if key > _MAX_KEY or number == 0:
            raise GraphFaultError("it is no ONNX file")
        begin = position
        if wire_type == _LENGTH:
            length, begin = _varint(data, position, end)
            position = begin + length
        elif wire_type == _VARINT:
            _, position = _varint(data, position, end)
        elif wire_type in _FIXED_BYTES:
            position += _FIXED_BYTES[wire_type]
        else:
            raise GraphFaultError("it is no ONNX file")
        if position > end:
            raise GraphFaultError("it is no ONNX file, or is cut off")
        yield number, wire_type, (begin, position)


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _VARINT_BITS, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value, position
    raise GraphFaultError("it is no ONNX file, or is cut off")
