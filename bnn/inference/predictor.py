"""From a posterior to softmax values: draw by draw, block of images by block.

Modes:

exact                  one sample of all weights per draw, which all images share: independent draws of a network
flipout                images are repeated and share one |perturbation| per pass, under signs of their own: each image's
                       distribution is exact, but the draws of one pass are correlated, and so are its images
local-reparameterization  outputs are sampled instead of weights: each output's mean and variance are right; exact for
                       dense layers, image by image, but no one network is behind a draw; convolutions lose the
                       correlation between the pixels of a channel
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.inference.draw_layers import DrawLayer, DrawLinear, draw_layer
from bnn.inference.fold import fold_batchnorm, fold_relu
from bnn.inference.settings import MODES
from bnn.layers import ESTIMATORS, BayesianConv2d, BayesianLayer, NoiseKey, numbered_layers, set_noise
from bnn.layers.noise import layer_seed
from bnn.posterior import Graph, GraphNetwork, GraphNode
from bnn.posterior.schema import node_references

# In a noise key this takes the rank's place, so that inference never draws the noise of a training step (ranks 0, 1,
# ...) or of an evaluation (1 << 20).
INFERENCE_RANK = 1 << 21
# A block of images is as large as keeps its largest activation below this; it is a rule of the network alone, since
# libraries round differently for batches of different sizes: results must not depend on how work is divided.
ACTIVATION_FLOATS = 1 << 23
MOST_IMAGES = 1024
# Operations that leave a row of probabilities what it is.
SHAPE_ONLY = ("Identity", "Flatten", "Dropout", "flatten", "reshape", "dropout")


def images_per_block(network: GraphNetwork) -> int:
    """Images that are predicted at once: a power of two."""
    sizes = [math.prod(size or 1 for size in node.output_shape or [1]) for node in network.graph.nodes]
    return 1 << (max(1, min(MOST_IMAGES, ACTIVATION_FLOATS // max(sizes))).bit_length() - 1)


def layers_of(network: GraphNetwork) -> dict[str, nn.Module]:
    """The layers that the graph names."""
    names = {str(node.layer) for node in network.graph.nodes if node.op == "layer"}
    return {name: network.get_submodule(name) for name in names}


class Predictor:
    """A network ready for draws. `form`: dense or csr (see draw_layers); `fold`: BatchNorm and ReLU go into layers.

    It draws where the network lies, `device`, which is where its images must be.

    The network itself is left as it is. Raises UserError for an unknown mode, for a network that ends in a softmax and
    for two layers that would draw the same noise.
    """

    def __init__(self, network: GraphNetwork, mode: str = "exact", form: str = "dense", fold: bool = True) -> None:
        if mode not in MODES:
            raise UserError(f"mode {mode}: unknown; there are {', '.join(MODES)}")
        check_logits(network.graph)
        numbered_layers(network)
        self.mode, self.form = mode, form
        self.device = next((tensor.device.type for tensor in network.parameters()), "cpu")
        self.block = images_per_block(network)
        layers = layers_of(network)
        if mode == "exact":
            self.index = indices(layers)
            graph, folds = fold_batchnorm(network.graph, layers) if fold else (network.graph, {})
            graph, rectified = fold_relu(graph, layers) if fold else (graph, set())
            used = {str(node.layer) for node in graph.nodes if node.op == "layer"}
            made = {name: draw_layer(layers[name], form, folds.get(name)) or layers[name] for name in used}
            for name in rectified:
                layer = made[name]
                assert isinstance(layer, DrawLayer)
                layer.relu = True
        else:
            graph, made = network.graph, {name: estimated(layer, mode) for name, layer in layers.items()}
        self.layers = made
        self.stem, self.network = divided(graph, made)

    def passes(self, images: int) -> int:
        """Draws that are made in one pass over a block: chunks of draws must be multiples of it."""
        return 1 if self.mode == "exact" else max(1, self.block // min(self.block, images))

    @torch.inference_mode()
    def probabilities(self, seed: int, first: int, last: int, blocks: list[Tensor]) -> Iterator[Tensor]:
        """Softmax values (images, classes) of the draws first, ..., last - 1, float32.

        `blocks` are images (N, C, H, W) in [0, 1], at most `block` each. A draw depends on seed and index alone.
        """
        blocks = [self.prepared(block) for block in blocks]
        if self.mode == "exact":
            for draw in range(first, last):
                self.key(seed, draw, keep=len(blocks) > 1)
                yield torch.cat([softmax(self.network(block)) for block in blocks])
            return
        together = self.passes(sum(len(block) for block in blocks))
        for group in range(first // together, -(-last // together)):
            set_noise(self.network, NoiseKey(seed, group, INFERENCE_RANK))
            parts = [
                softmax(self.network(block.repeat(together, *[1] * (block.dim() - 1)))).view(together, len(block), -1)
                for block in blocks
            ]
            yield from torch.cat(parts, 1)[max(0, first - group * together) : last - group * together]

    def prepared(self, block: Tensor) -> Tensor:
        """A block of images after what is the same in all draws."""
        x = block if self.stem is None else self.stem(block)
        first = self.layers.get(str(self.network.graph.nodes[1].layer))
        if isinstance(first, DrawLinear) and first.form == "csr" and x.dim() == 2:
            return first.laid_out(x)
        return x

    def key(self, seed: int, draw: int, keep: bool) -> None:
        """Make the next passes use the weights of this draw."""
        noise = NoiseKey(seed, draw, INFERENCE_RANK)
        for name, index in self.index.items():
            layer = self.layers[name]
            assert isinstance(layer, DrawLayer)
            layer.key(layer_seed(noise, index), keep)


def check_logits(graph: Graph) -> None:
    """Raise UserError for a network that ends in a softmax: it would get another one (harmless for log_softmax)."""
    nodes = {node.name: node for node in graph.nodes}
    last = nodes[graph.nodes[-1].inputs[0]]
    while last.type in SHAPE_ONLY and len(last.inputs) == 1:
        last = nodes[last.inputs[0]]
    if last.type in ("softmax", "Softmax"):
        what = f"layer {last.layer}" if last.layer else f"operation {last.name}"
        raise UserError(f"{what}: the model ends in a softmax; it must return logits, whose softmax is taken here")


def softmax(logits: Tensor) -> Tensor:
    """Softmax of logits (N, classes), taken along columns: images fill a vector, few classes do not."""
    return torch.softmax(logits.t().contiguous(), 0).t()


def divided(graph: Graph, layers: dict[str, nn.Module]) -> tuple[GraphNetwork | None, GraphNetwork]:
    """The network in two: what comes before the first draw, computed once for all of them, and the rest.

    The first part is None if it is nothing, or no plain chain of operations.
    """
    length = 1
    while length < len(graph.nodes) and is_stem(graph, length, layers):
        length += 1
    if length == 1:
        return None, GraphNetwork(graph, used_by(graph, layers)).eval()
    last = graph.nodes[length - 1]
    output = GraphNode(name="output", op="output", inputs=[last.name], output_shape=last.output_shape)
    before = graph.model_copy(update={"nodes": [*graph.nodes[:length], output]})
    entry = GraphNode(name=last.name, op="input", output_shape=last.output_shape)
    shape = [size or 1 for size in (last.output_shape or [])[1:]]
    after = graph.model_copy(update={"nodes": [entry, *graph.nodes[length:]], "input_shape": shape})
    return tuple(GraphNetwork(part, used_by(part, layers)).eval() for part in (before, after))  # type: ignore[return-value]


def is_stem(graph: Graph, place: int, layers: dict[str, nn.Module]) -> bool:
    """Whether a node reads the one before it, is read by the next alone, and is the same in all draws."""
    node, before = graph.nodes[place], graph.nodes[place - 1]
    layer = layers.get(str(node.layer))
    drawn = isinstance(layer, BayesianLayer) or (isinstance(layer, DrawLayer) and layer.scale is not None)
    reads = {*node.inputs, *node_references(node.arguments)}
    later = [
        other for other in graph.nodes[place + 1 :] if before.name in {*other.inputs, *node_references(other.arguments)}
    ]
    return not drawn and node.op != "output" and node.output_shape is not None and reads == {before.name} and not later


def indices(layers: dict[str, nn.Module]) -> dict[str, int]:
    """Which noise each Bayesian layer draws, by name."""
    return {
        name: layer.layer_index
        for name, layer in layers.items()
        if isinstance(layer, BayesianLayer) and layer.layer_index is not None
    }


def used_by(graph: Graph, layers: dict[str, nn.Module]) -> dict[str, nn.Module]:
    return {str(node.layer): layers[str(node.layer)] for node in graph.nodes if node.op == "layer"}


def estimated(layer: nn.Module, mode: str) -> nn.Module:
    """A Bayesian layer as that estimator samples it, with the same parameters; any other as it is."""
    if not isinstance(layer, BayesianLayer):
        return layer
    conv, linear = ESTIMATORS[mode]
    twin: BayesianLayer = object.__new__(conv if isinstance(layer, BayesianConv2d) else linear)
    twin.__dict__ = dict(layer.__dict__)
    twin._parameters, twin.generator = dict(layer._parameters), None
    return twin
