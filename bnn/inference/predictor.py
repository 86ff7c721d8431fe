"""From a posterior to softmax values: draw by draw, block of images by block.

Modes:

exact                  one sample of all weights per draw, which all images share: independent draws of a network
flipout                images are repeated and share one |perturbation| per pass, under signs of their own: each image's
                       distribution is exact, but the draws of one pass are correlated, and so are its images
local-reparameterization  outputs are sampled instead of weights: each output's mean and variance are right; exact for
                       dense layers, image by image, but no one network is behind a draw; convolutions lose the
                       correlation between the pixels of a channel

Layers of which a mode has no form (other convolutions than those of two dimensions, for instance), weights that are
read as a tensor and Bayesian parameters are sampled in the last two modes as in training, or once per pass. A network
with such a layer makes one draw per pass there, so that draws never share a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from bnn.errors import UserError
from bnn.inference.draw_layers import DrawLayer, DrawLinear, Fold, draw_layer, is_convolution, is_dense
from bnn.inference.draw_masks import DrawMask, uses_apart
from bnn.inference.fold import fold_batchnorm, fold_biases, fold_relu
from bnn.inference.refusals import check_logits, check_noise, refuse_dropout
from bnn.inference.settings import MODES
from bnn.inference.stem import divided
from bnn.layers import ESTIMATORS, BayesianLayer, NoiseKey, numbered_layers, set_noise
from bnn.layers.noise import layer_seed
from bnn.posterior import Graph, GraphNetwork, GraphNode
from bnn.posterior.sizes import elements

# In a noise key this takes the rank's place, so that inference never draws the noise of a training step (ranks 0, 1,
# ...) or of an evaluation (1 << 20).
INFERENCE_RANK = 1 << 21
# A block of images is as large as keeps its largest activation below this; it is a rule of the network alone, since
# libraries round differently for batches of different sizes: results must not depend on how work is divided.
ACTIVATION_FLOATS = 1 << 23
MOST_IMAGES = 1024


def images_per_block(network: GraphNetwork) -> int:
    """Images that are predicted at once: a power of two."""
    shapes = [node.output_shape or [] for node in network.graph.nodes]
    of_images = [elements(shape) for shape in shapes if not all(isinstance(size, int) for size in shape)]
    return 1 << (max(1, min(MOST_IMAGES, ACTIVATION_FLOATS // max([1, *of_images]))).bit_length() - 1)


class Predictor:
    """A network ready for draws. `form`: dense or csr (see draw_layers); `fold`: BatchNorm and ReLU go into layers.

    It draws where the network lies, `device`, which is where its images must be.

    The network itself is left as it is. Raises UserError for an unknown mode, for a network that ends in a softmax or
    drops values in evaluation, and for two layers that would draw the same noise.
    """

    def __init__(self, network: GraphNetwork, mode: str = "exact", form: str = "dense", fold: bool = True) -> None:
        if mode not in MODES:
            raise UserError(f"mode {mode}: unknown; there are {', '.join(MODES)}")
        check_logits(network.graph)
        check_noise(network.graph)
        numbered_layers(network)
        if mode != "exact":
            refuse_dropout(network, mode)
        self.mode, self.form = mode, form
        self.device = next((tensor.device.type for tensor in network.parameters()), "cpu")
        self.dtype = network.dtype
        self.block = images_per_block(network)
        self.single = False  # whether a pass makes one draw only
        self.biased: list[tuple[DrawLayer, DrawLayer, Fold | None]] = []  # layers, their biases, what is folded in
        layers = network.layers
        graph, tensors = network.graph, network.tensors
        read = {str(node.layer) for node in graph.nodes if node.op == "layer" and not node.inputs}  # for their weights
        if mode == "exact":
            self.index = indices(layers)
            graph, biases = fold_biases(graph, layers) if fold else (graph, {})
            graph, folds = fold_batchnorm(graph, layers) if fold else (graph, {})
            graph, rectified = fold_relu(graph, layers) if fold else (graph, set())
            graph, tensors = apart(graph, tensors)
            graph, masks, keys = uses_apart(graph, layers)
            self.index |= keys
            unusual = {str(n.layer) for n in graph.nodes if str(n.layer) in layers and is_unbatched(n, layers)}
            used = {str(node.layer) for node in graph.nodes if node.op == "layer"} - set(masks)
            forms = {name: "dense" if name in read else form for name in used}  # (who reads a weight reads all of it)
            made: dict[str, nn.Module] = {
                name: (None if name in unusual else draw_layer(layers[name], forms[name], folds.get(name)))
                or layers[name]
                for name in used
            } | masks
            for name in rectified:
                layer = made[name]
                assert isinstance(layer, DrawLayer)
                layer.relu = True
            for name, of_bias in biases.items():
                layer, bias = made[name], draw_layer(layers[of_bias])
                assert isinstance(layer, DrawLayer)
                assert bias is not None
                made[of_bias] = bias
                self.biased.append((layer, bias, folds.get(name)))
        else:
            made = {name: estimated(layer, mode) for name, layer in layers.items()}
            self.single = any(
                isinstance(layer, BayesianLayer) and (name in read or estimator(layer, mode) is None)
                for name, layer in layers.items()
            )
        self.layers = made
        self.stem, self.network = divided(graph, made, tensors)

    def passes(self, images: int) -> int:
        """Draws that are made in one pass over a block: chunks of draws must be multiples of it."""
        return 1 if self.mode == "exact" or self.single else max(1, self.block // min(self.block, images))

    def probabilities(self, seed: int, first: int, last: int, blocks: list[Tensor]) -> Iterator[Tensor]:
        """Softmax values (images, classes) of the draws first, ..., last - 1, float32.

        `blocks` are images (N, C, H, W) in [0, 1], at most `block` each. A draw depends on seed and index alone.
        """
        return self.drawn(seed, first, last, blocks, softmax)

    def logits(self, seed: int, first: int, last: int, blocks: list[Tensor]) -> Iterator[Tensor]:
        """What the network gives, (images, ...), in its own precision; otherwise as `probabilities`."""
        return self.drawn(seed, first, last, blocks, lambda values: values)

    @torch.inference_mode()
    def drawn(
        self, seed: int, first: int, last: int, blocks: list[Tensor], end: Callable[[Tensor], Tensor]
    ) -> Iterator[Tensor]:
        """Of each draw the output of the network for all images, after `end`."""
        blocks = [self.prepared(block) for block in blocks]
        if self.mode == "exact":
            for draw in range(first, last):
                self.key(seed, draw, keep=len(blocks) > 1)
                yield torch.cat([end(self.network(block)) for block in blocks])
            return
        together = self.passes(sum(len(block) for block in blocks))
        for group in range(first // together, -(-last // together)):
            set_noise(self.network, NoiseKey(seed, group, INFERENCE_RANK))
            parts = [
                end(self.network(block.repeat(together, *[1] * (block.dim() - 1)))).unflatten(0, (together, len(block)))
                for block in blocks
            ]
            yield from torch.cat(parts, 1)[max(0, first - group * together) : last - group * together]

    def prepared(self, block: Tensor) -> Tensor:
        """A block of images after what is the same in all draws."""
        block = block.to(self.dtype)
        x = block if self.stem is None else self.stem(block)
        entry, *others = self.network.graph.nodes
        for node in others:
            first = self.layers.get(str(node.layer))
            if node.inputs == [entry.name] and isinstance(first, DrawLinear) and first.form == "csr" and x.dim() == 2:
                return first.laid_out(x)
        return x

    def key(self, seed: int, draw: int, keep: bool) -> None:
        """Make the next passes use the weights of this draw."""
        noise = NoiseKey(seed, draw, INFERENCE_RANK)
        for name, index in self.index.items():
            layer = self.layers[name]
            assert isinstance(layer, DrawLayer | DrawMask)
            layer.key(layer_seed(noise, index), keep)
        for layer, bias, fold in self.biased:
            values = bias.values()
            layer.bias = values if fold is None else values * fold.factor + fold.shift


def softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax of logits (N, classes) / temperature, float32, by columns: images fill a vector, few classes do not."""
    if temperature != 1:
        logits = logits / temperature
    return torch.softmax(logits.t().contiguous(), 0).t().float()


def apart(graph: Graph, tensors: dict[str, Tensor]) -> tuple[Graph, dict[str, Tensor]]:
    """The graph with new names for its tensors, such that no layer holds them, and the tensors under these names.

    A tensor may be a layer's own, which the layer for draws that takes its place keeps in another form.
    """
    names = {name: f"tensor_{number}" for number, name in enumerate(tensors)}
    taken = {str(node.layer).partition(".")[0] for node in graph.nodes if node.op == "layer"}
    while taken & set(names.values()):
        names = {name: new + "_" for name, new in names.items()}
    nodes = [
        node.model_copy(update={"tensor": names[str(node.tensor)]}) if node.op == "tensor" else node
        for node in graph.nodes
    ]
    return graph.model_copy(update={"nodes": nodes}), {names[name]: tensors[name].detach() for name in tensors}


def is_unbatched(node: GraphNode, layers: dict[str, nn.Module]) -> bool:
    """Whether a node is a conventional convolution over an input that torch takes for one image without a batch."""
    layer = layers[str(node.layer)]
    return is_convolution(layer) and not isinstance(layer, BayesianLayer) and len(node.output_shape or []) != 4


def indices(layers: dict[str, nn.Module]) -> dict[str, int]:
    """Which noise each Bayesian layer draws, by name."""
    return {
        name: layer.layer_index
        for name, layer in layers.items()
        if isinstance(layer, BayesianLayer) and layer.layer_index is not None
    }


def estimator(layer: BayesianLayer, mode: str) -> type[BayesianLayer] | None:
    """The class that samples a layer in this way; None where there is none."""
    conv, linear = ESTIMATORS[mode]
    return conv if is_convolution(layer) else linear if is_dense(layer) else None


def estimated(layer: nn.Module, mode: str) -> nn.Module:
    """A Bayesian layer as that estimator samples it, with the same parameters, or where there is none as it is itself.

    A copy either way; any other layer as it is.
    """
    if not isinstance(layer, BayesianLayer):
        return layer
    twin: BayesianLayer = object.__new__(estimator(layer, mode) or type(layer))
    twin.__dict__ = dict(layer.__dict__)
    twin._parameters, twin.generator = dict(layer._parameters), None
    return twin
