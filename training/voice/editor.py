"""An ONNX graph that can be edited: look a value's producer up, emit other nodes for it, drop what nothing uses.

Values are handed around by name (``str``), as in :mod:`inference.engine.graph`.
"""

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, helper, numpy_helper

Array = npt.NDArray[Any]

PREFIX = "fast/"
"""Names of whatever is added; the exporters that we read from name nothing so."""


class GraphEditor:
    """Edits ``model`` in place; what it looks up is the graph as it was given, until :meth:`finish`.

    Args:
        model: a flat graph: nodes with graphs of their own (loops, branches) are not looked into.
    """

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._nodes: list[Any] = list(model.graph.node)
        self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}
        self._added: list[Any] = []
        self._replaced: set[str] = set()
        self._producers = {value: node for node in self._nodes for value in node.output}
        self._consumers: dict[str, list[Any]] = defaultdict(list)
        for node in self._nodes:
            for value in node.input:
                self._consumers[value].append(node)

    def nodes(self, op_type: str) -> Iterator[Any]:
        """The given graph's nodes of one operator."""
        return (node for node in self._nodes if node.op_type == op_type)

    def producer(self, value: str, op_type: str) -> Any | None:
        """The node that makes ``value`` if it is of that operator, else None."""
        node = self._producers.get(value)
        return node if node is not None and node.op_type == op_type else None

    def consumers(self, value: str) -> list[Any]:
        """The nodes that read ``value``."""
        return self._consumers[value]

    def consumer(self, value: str, op_type: str) -> Any | None:
        """The only node that reads ``value`` if it is of that operator, else None."""
        nodes = self._consumers[value]
        return nodes[0] if len(nodes) == 1 and nodes[0].op_type == op_type else None

    def tensor(self, value: str) -> Array | None:
        """A weight as an array, or None where ``value`` is no weight."""
        tensor = self._tensors.get(value)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """A weight of these numbers; the same ones are kept once."""
        made = np.ascontiguousarray(array, dtype)
        made = made.reshape(np.shape(array))  # a scalar stays one
        digest = hashlib.sha256(made.tobytes()).hexdigest()[:32]
        name = f"{PREFIX}{made.dtype}{list(made.shape)}{digest}"
        if name not in self._tensors:
            self._tensors[name] = numpy_helper.from_array(made, name)
        return name

    def emit(self, op_type: str, inputs: list[str], into: str = "", **attributes: Any) -> str:
        """Add a node; returns its output.

        Args:
            op_type: of the standard operators.
            inputs: values.
            into: the value of the given graph that the node now makes, in place of the node that made it.
            attributes: of the node.
        """
        output = into or f"{PREFIX}{len(self._added)}"
        if into:
            self._replaced.add(into)
        self._added.append(helper.make_node(op_type, inputs, [output], f"{PREFIX}{op_type}{len(self._added)}"))
        self._added[-1].attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        return output

    def finish(self) -> ModelProto:
        """The edited model: nodes in an order in which each finds its inputs made, without what nothing uses."""
        graph = self._model.graph
        kept = [node for node in self._nodes if not self._replaced.intersection(node.output)]
        live = _live([*kept, *self._added], {value.name for value in graph.output})
        ordered = list(_in_order(live))
        used = {value for node in ordered for value in node.input}
        tensors = [tensor for name, tensor in self._tensors.items() if name in used]
        for field, values in ((graph.node, ordered), (graph.initializer, tensors), (graph.value_info, [])):
            del field[:]
            field.extend(values)
        return self._model


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of a node by name."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _live(nodes: list[Any], outputs: set[str]) -> list[Any]:
    """The nodes that some output needs."""
    makes = {value: node for node in nodes for value in node.output}
    waiting, needed = list(outputs), set()
    while waiting:
        node = makes.get(waiting.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            waiting.extend(node.input)
    return [node for node in nodes if id(node) in needed]


def _in_order(nodes: list[Any]) -> Iterable[Any]:
    """Topological order that stays near the given one."""
    made = {value for node in nodes for value in node.output}
    missing = [len(made.intersection(node.input)) for node in nodes]
    readers: dict[str, list[int]] = defaultdict(list)
    for place, node in enumerate(nodes):
        for value in made.intersection(node.input):
            readers[value].append(place)
    ready = [place for place, count in enumerate(missing) if count == 0]
    while ready:
        node = nodes[heapq.heappop(ready)]
        yield node
        for value in node.output:
            for place in readers[value]:
                missing[place] -= 1
                if missing[place] == 0:
                    heapq.heappush(ready, place)
