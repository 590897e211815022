"""A small builder for ONNX graphs: values with numpy-like operators over `onnx.helper`.

We write the graphs ourselves instead of converting them: each LSTM is an operator
or a row of products, as we choose (a converter unrolls as it likes), the batch
dimension stays dynamic, and all pre- and post-processing lives in the same file as
the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

OPSET = 17
IR_VERSION = 8

Array = npt.NDArray[Any]


class Value:
    """One tensor of a graph under construction; operators append nodes."""

    def __init__(self, graph: Graph, name: str) -> None:
        """Name a tensor that `graph` already holds."""
        self.graph = graph
        self.name = name

    def _binary(self, op: str, other: Value | float | Array, *, swap: bool = False) -> Value:
        operands = (other, self) if swap else (self, other)
        return self.graph.op(op, *operands)

    def __add__(self, other: Value | float | Array) -> Value:
        """Elementwise sum."""
        return self._binary("Add", other)

    def __radd__(self, other: float) -> Value:
        """Elementwise sum."""
        return self._binary("Add", other)

    def __sub__(self, other: Value | float | Array) -> Value:
        """Elementwise difference."""
        return self._binary("Sub", other)

    def __rsub__(self, other: float) -> Value:
        """Elementwise difference, operands swapped."""
        return self._binary("Sub", other, swap=True)

    def __mul__(self, other: Value | float | Array) -> Value:
        """Elementwise product."""
        return self._binary("Mul", other)

    def __rmul__(self, other: float) -> Value:
        """Elementwise product."""
        return self._binary("Mul", other)

    def __truediv__(self, other: Value | float | Array) -> Value:
        """Elementwise quotient."""
        return self._binary("Div", other)

    def __matmul__(self, other: Value | Array) -> Value:
        """Matrix product."""
        return self._binary("MatMul", other)

    def __getitem__(self, key: tuple[int, int, int]) -> Value:
        """`value[axis, start, stop]`: one slice along one axis, the axis kept."""
        axis, start, stop = key
        return self.graph.op("Slice", self, [start], [stop], [axis])


class Graph:
    """Nodes, weights, inputs and outputs of one ONNX model."""

    def __init__(self, name: str) -> None:
        """Start an empty graph."""
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str]) -> Value:
        """Declare a float32 input; text dimensions are dynamic."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return Value(self, name)

    def output(self, value: Value, name: str, shape: Sequence[int | str]) -> None:
        """Declare `value` a float32 output called `name`."""
        self._nodes.append(helper.make_node("Identity", [value.name], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, value: Array | Sequence[int] | float) -> Value:
        """Store a constant once; lists of int become int64, the rest float32."""
        array = np.asarray(value)
        wanted = array.dtype if array.dtype in (np.int64, np.bool_) else np.dtype(np.float32)
        array = np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._weights.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return Value(self, self._constants[key])

    def ops(self, op: str, outputs: int, *operands: Any, **attributes: Any) -> list[Value]:
        """Append a node of several outputs; an operand `None` is an absent input."""
        names = ["" if x is None else x.name if isinstance(x, Value) else self.constant(x).name for x in operands]
        results = [f"v{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op, names, results, **attributes))
        return [Value(self, name) for name in results]

    def op(self, op: str, *operands: Any, **attributes: Any) -> Value:
        """Append a node of one output."""
        return self.ops(op, 1, *operands, **attributes)[0]

    def where(self, condition: Value, yes: Any, no: Any) -> Value:
        """Choose elementwise."""
        return self.op("Where", condition, yes, no)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Join along an existing axis."""
        return self.op("Concat", *values, axis=axis)

    def clip(self, value: Value, low: float | None, high: float | None = None) -> Value:
        """Limit to [low, high]; NaN stays NaN."""
        return self.op("Clip", value, low, high)

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """Reshape; 0 keeps a dimension, -1 is inferred."""
        return self.op("Reshape", value, list(shape))

    def lstm(self, steps: Value, weights: Sequence[Array], *, last_only: bool) -> Value:
        """Run a Keras LSTM: `steps` is float32[T, n, F]; float32[T, n, U] or float32[n, U].

        `weights` are Keras' kernel [F, 4U], recurrent kernel [U, 4U] and bias [4U] in
        gate order i, f, c, o; ONNX orders the gates i, o, f, c.
        """
        kernel, recurrent, bias = weights
        units = recurrent.shape[0]

        def reorder(matrix: Array) -> Array:
            i, f, c, o = np.split(matrix, 4, axis=-1)
            return np.concatenate([i, o, f, c], axis=-1)

        both = np.concatenate([reorder(bias), np.zeros_like(bias)])
        sequence, final = self.ops(
            "LSTM",
            2,
            steps,
            reorder(kernel).T[np.newaxis],
            reorder(recurrent).T[np.newaxis],
            both[np.newaxis],
            hidden_size=units,
        )
        chosen, axis = (final, 0) if last_only else (sequence, 1)
        return self.op("Squeeze", chosen, [axis])

    def unrolled_lstm(self, steps: Sequence[Value], one: Value, weights: Sequence[Array]) -> list[Value]:
        """Run a Keras LSTM step by step: T times float32[n, F] to T times float32[n, U].

        One product for each gate of each step, of the step's input, a one (whose weights are the bias) and the state
        side by side: ONNX Runtime activates a gate where the product has just been written, and no gate is cut out of
        a wider result. With many units and rows that beats the LSTM operator, with one row it takes twice as long.
        What would be multiplied with the first state, zeros, is left out.

        Args:
            steps: The sequence.
            one: float32[n, 1], ones.
            weights: As `lstm` has them.
        """
        kernel, recurrent, bias = (np.split(matrix, 4, axis=-1) for matrix in weights)
        states: list[Value] = []
        cell: Value | None = None
        for step in steps:
            beside = self.concat([step, one, *states[-1:]], 1)
            gate = {}
            for k, (name, activation) in enumerate(
                (("in", "Sigmoid"), ("forget", "Sigmoid"), ("new", "Tanh"), ("out", "Sigmoid"))
            ):
                if cell is None and name == "forget":
                    continue
                stacked = [kernel[k], bias[k][np.newaxis], *([recurrent[k]] if states else [])]
                gate[name] = self.op(activation, self.op("Gemm", beside, np.concatenate(stacked)))
            entering = gate["in"] * gate["new"]
            cell = entering if cell is None else gate["forget"] * cell + entering
            states.append(gate["out"] * self.op("Tanh", cell))
        return states

    def dense(self, value: Value, weights: Sequence[Array]) -> Value:
        """Apply a Keras Dense layer's kernel and bias to the last axis."""
        kernel, bias = weights
        return value @ kernel + bias

    def build(self, metadata: dict[str, str]) -> onnx.ModelProto:
        """Assemble and check the model."""
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, self._weights)
        model = helper.make_model(
            graph,
            producer_name="pba",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model
