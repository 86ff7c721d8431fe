"""The Bayesian twin of any conventional model."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from bnn.errors import UserError
from bnn.layers import BayesianConv2d, BayesianLinear, PosteriorInit, estimator_layers, number_layers
from bnn.layers.base import checked_init
from bnn.layers.biased import BiasedLayer, with_bias
from bnn.layers.chosen import Where, chosen_layers, mark_left_out
from bnn.layers.maps import standard_map
from bnn.layers.parameter import make_sampled
from bnn.layers.references import replace_layers, replace_references

PLAIN_METHODS = {"forward", "_conv_forward", "reset_parameters", "extra_repr"}  # of a layer: it is judged by them


def convert(
    module: nn.Module,
    estimator: str = "flipout",
    init: PosteriorInit | None = None,
    mean_from: Literal["module", "random"] = "module",
    where: Where | None = None,
    biases: bool = False,
) -> nn.Module:
    """A deep copy of `module` in which the weights of all its linear maps have a posterior.

    Every `nn.Conv2d` and `nn.Linear`, and subclasses that compute the same, is a Bayesian layer of that estimator. The
    weights of other convolutions (1-d, 3-d, transposed, paddings other than zeros), recurrent layers, attention,
    embeddings and bilinear maps are Bayesian parameters: one sample per forward pass, but that convolutions are trained
    by the estimator, too (in training mode, every example apart). Norms' scales, biases, and parameters of modules of
    your own stay conventional, as does an embedding's padding row; `bnn.conversion_report` has a row for each
    parameter.

    With `biases` the biases of these layers have a posterior, too, with the same prior, one sample per forward pass
    whatever the estimator. (Norms' biases have none.)

    `where` chooses layers: a function of a layer's name and the layer, or patterns of names (`["head", "blocks.*"]`).
    What it leaves out stays conventional, and the report says so.

    With mean_from="module" a weight becomes its posterior mean and its bias is kept (so pretrained weights are); with
    "random" the Bayesian layers' both start as in `init`. rho always starts as in `init`, drawn from torch's default
    generator. A module used in several places stays shared. Layers are numbered in module order. Inputs and outputs
    keep their shapes; devices, precisions, modes and frozen parameters stay. `estimator`: flipout (Wen et al. 2018),
    flipout-reference (the same in plain torch), reparameterization (Kingma and Welling 2014; Blundell et al. 2015) or
    local-reparameterization (Kingma, Salimans, Welling 2015). `init`: the prior and the posterior's start, by default
    the paper's (appendix A).

    Raises UserError, naming the layer, where a silent conversion would change or lose something: nothing to convert,
    parametrized and lazy layers, hooks on what is replaced, tied weights, layers that the module tree does not know,
    functions and methods that go on holding a layer that is replaced, embeddings with `max_norm` or sparse gradients.
    Raises it too for an unknown estimator, a pattern that fits no layer, what cannot be copied, and for what is no
    module.
    """
    if not isinstance(biases, bool):
        raise UserError(f"biases={biases!r}: must be True or False")
    if not isinstance(module, nn.Module):
        raise UserError(f"convert: a {type(module).__name__} is no torch module")
    estimator_layers(estimator)
    if mean_from not in ("module", "random"):
        raise UserError(f"mean_from {mean_from!r}: must be 'module' or 'random'")
    checked_init(init)
    check_hooks(module)
    chosen = chosen_layers(module, where)
    for name, layer in module.named_modules():
        check_initialized(name, layer)
    for name, layer in chosen.items():  # (what computes its weight in a hook cannot even be copied)
        check_replaceable(name, layer)
    twin = copied(module)
    mark_left_out(twin, chosen)
    layers = {name: layer for name, layer in twin.named_modules() if name in chosen}
    found = {n: layer for n, layer in layers.items() if isinstance(layer, nn.Conv2d | nn.Linear) and is_plain(n, layer)}
    sampled = {name: layer for name, layer in layers.items() if name not in found}
    if not layers:
        raise UserError(f"{type(module).__name__} has no weights of linear maps to convert")
    check_tied(twin, layers)
    before = dict(twin.named_parameters())
    replaced = {
        id(layer): bayesian_twin(name, layer, estimator, init, mean_from, biases) for name, layer in found.items()
    }
    for layer in sampled.values():
        sample_weights(layer, estimator, init, mean_from, biases)
    replace_layers(twin, replaced)
    twin = replaced.get(id(twin), twin)
    kept = {id(parameter) for parameter in twin.parameters()}
    gone = {id(parameter): name for name, parameter in before.items() if id(parameter) not in kept}
    replace_references(twin, module, replaced, gone)
    number_layers(twin)
    return twin


def copied(module: nn.Module) -> nn.Module:
    """A deep copy. Raises UserError where there is none."""
    try:
        return copy.deepcopy(module)
    except Exception as error:  # whatever the module's own objects make of it
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{type(module).__name__} cannot be copied, which a conversion needs: {reason}") from error


def check_initialized(name: str, layer: nn.Module) -> None:
    """Raise UserError for a layer that has no tensors yet, or has them where none can be put."""
    if isinstance(layer, torch.jit.ScriptModule) and next(layer.parameters(), None) is not None:
        raise UserError(f"layer {name}: made by torch.jit.script, its weights cannot be copied; take the module itself")
    if any(is_lazy(t) for t in (*layer.parameters(recurse=False), *layer.buffers(recurse=False))):
        raise UserError(f"layer {name}: a {type(layer).__name__} has no weight yet; run the model once before")


def is_plain(name: str, layer: nn.Conv2d | nn.Linear) -> bool:
    """Whether a layer is the convolution or matrix product that its arguments describe, with zeros around.

    Unless it has more tensors or layers, or another way to be called. A subclass must also have no more attributes (a
    gain, say, that is 1 now) or methods; one with a forward pass of its own is tried on random inputs. Raises UserError
    for a layer whose weight is no parameter.
    """
    if not isinstance(layer._parameters.get("weight"), nn.Parameter):
        raise UserError(f"layer {name}: the weight of a {type(layer).__name__} is no parameter; it cannot be converted")
    if isinstance(layer, nn.Conv2d):
        even = layer.padding == "same" and any(
            d * (k - 1) % 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
        )
        if layer.padding_mode != "zeros" or even:
            return False
    standard = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    if "forward" in vars(layer):
        raise UserError(f"layer {name}: its forward pass was replaced on the object, which a conversion would lose")
    kind: type[nn.Module] = type(layer)
    bare = set(layer._parameters) <= {"weight", "bias"} and not layer._buffers and not layer._modules
    if kind is standard:
        return bare
    if not bare or kind.__call__ is not nn.Module.__call__:
        return False
    if further_attributes(layer) or further_methods(kind, standard):
        return False
    if getattr(kind, "_conv_forward", None) is not getattr(standard, "_conv_forward", None):
        return False
    return kind.forward is standard.forward or computes(layer, standard)


def further_attributes(layer: nn.Conv2d | nn.Linear) -> list[str]:
    """Names of attributes that torch's layer has not: code around it may read them."""
    known = vars(nn.Conv2d(1, 1, 1) if isinstance(layer, nn.Conv2d) else nn.Linear(1, 1))
    return [name for name in vars(layer) if name not in known]


def further_methods(kind: type[nn.Module], standard: type[nn.Module]) -> bool:
    """Whether a subclass has methods that are neither torch's nor about how it starts and is printed."""
    of_its_own = {name for each in kind.__mro__ for name in vars(each) if each not in standard.__mro__}
    return bool({name for name in of_its_own if not name.startswith("__")} - PLAIN_METHODS)


@torch.no_grad()
def computes(layer: nn.Conv2d | nn.Linear, standard: type[nn.Module]) -> bool:
    """Whether a subclass computes what `standard` does with its tensors, on random inputs of two sizes, in each mode.

    What it draws itself is not drawn from the generator that the caller uses.
    """
    trial = copy.deepcopy(layer)
    generator = torch.Generator().manual_seed(5)
    for training, scale in product((True, False), (1.0, 1e4)):
        trial.train(training)
        if isinstance(layer, nn.Conv2d):
            sizes = [d * (k - 1) + 4 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
            shape = [2, layer.in_channels, *sizes]
        else:
            shape = [2, layer.in_features]
        x = torch.randn(shape, generator=generator).to(layer.weight) * scale
        try:
            with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
                ours, theirs = trial(x), standard.forward(trial, x)
        except Exception:  # whatever the subclass's code does with such an input: it is not the standard's
            return False
        if not isinstance(ours, Tensor) or ours.shape != theirs.shape or not torch.allclose(ours, theirs):
            return False
    return True


def sample_weights(layer: nn.Module, estimator: str, init: PosteriorInit | None, mean_from: str, biases: bool) -> None:
    """Make the matrices and kernels of a layer Bayesian parameters, and its `biases` if they are to be.

    A convolution is trained by the estimator. A layer that has Bayesian parameters already stays as it is.
    """
    trained = standard_map(type(layer)) is not None and "forward" not in vars(layer)
    biases = biases and not getattr(type(layer), "sampled", ())
    for key, parameter in list(layer.named_parameters(recurse=False)):
        if "bias" in key and biases:
            posterior = make_sampled(layer, key, init, mean_from)
            if mean_from != "module":
                nn.init.zeros_(posterior.mu)
        elif "bias" not in key and parameter.dim() > 1:
            posterior = make_sampled(layer, key, init, mean_from)
            posterior.estimator = estimator if trained else ""


def check_replaceable(name: str, layer: nn.Module) -> None:
    """Raise UserError for hooks that a conversion would lose, and for weights that are computed from others."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise UserError(f"layer {name}: it has forward hooks (weight or spectral normalisation?), which would be lost")
    if layer._backward_hooks or layer._backward_pre_hooks:
        raise UserError(f"layer {name}: it has backward hooks, which would be lost")
    if is_parametrized(layer):
        raise UserError(f"layer {name}: its weight is parametrized, computed from others; it cannot be converted")
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        if layer.max_norm is not None:
            raise UserError(
                f"layer {name}: max_norm={layer.max_norm} changes its weight in the forward pass; leave it out"
            )
        if layer.sparse:
            raise UserError(f"layer {name}: sparse=True: the gradients of a posterior are dense; leave it out")


def bayesian_twin(
    name: str, layer: nn.Conv2d | nn.Linear, estimator: str, init: PosteriorInit | None, mean_from: str, biases: bool
) -> BayesianConv2d | BayesianLinear | BiasedLayer:
    """The Bayesian layer that takes the place of one conventional layer, its bias Bayesian where `biases`."""
    conv_class, linear_class = estimator_layers(estimator)
    sampled = layer._parameters.get("bias") if biases else None
    bias, weight = layer.bias is not None and sampled is None, layer.weight
    if isinstance(layer, nn.Linear):
        twin: BayesianConv2d | BayesianLinear = linear_class(
            layer.in_features, layer.out_features, bias, init=init, device=weight.device, dtype=weight.dtype
        )
    else:
        try:
            twin = conv_class(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]  # torch declares tuple[int, ...]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                layer.dilation,  # type: ignore[arg-type]
                layer.groups,
                bias,
                init=init,
                device=weight.device,
                dtype=weight.dtype,
            )
        except ValueError as error:
            raise UserError(f"layer {name}: {error}") from None
    if twin.mu.shape != weight.shape:
        said = f"its weight is {[*weight.shape]}, its sizes say {[*twin.mu.shape]}"
        raise UserError(f"layer {name}: {said}; set them, too, where a weight is replaced")
    if mean_from == "module":
        with torch.no_grad():
            twin.mu.copy_(weight)
            if twin.bias is not None and layer.bias is not None:
                twin.bias.copy_(layer.bias)
    for parameter in (twin.mu, twin.rho):
        parameter.requires_grad_(weight.requires_grad)  # a frozen layer stays frozen, its noise too
    if twin.bias is not None and layer.bias is not None:
        twin.bias.requires_grad_(layer.bias.requires_grad)
    twin = twin.train(layer.training)
    whole = twin if sampled is None else with_bias(twin, sampled, init, mean_from)
    for attribute in further_attributes(layer):  # that code around the layer reads
        if hasattr(whole, attribute):
            raise UserError(f"layer {name}: its attribute {attribute} would be lost, as a Bayesian layer has another")
        setattr(whole, attribute, vars(layer)[attribute])
    return whole


def check_tied(model: nn.Module, found: Mapping[str, nn.Module]) -> None:
    """Raise UserError if a weight to convert, or its bias, is also a parameter of another module."""
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    for name, layer in found.items():
        for kind, parameter in layer.named_parameters(recurse=False):
            if owners[id(parameter)] > 1:
                raise UserError(f"layer {name}: its {kind} is tied to another layer's, which a conversion would undo")


def check_hooks(module: nn.Module) -> None:
    """Raise UserError if a parameter has hooks on its gradient: a copy of a parameter has none."""
    for name, parameter in module.named_parameters():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            raise UserError(f"parameter {name}: it has hooks on its gradient, which would be lost")
