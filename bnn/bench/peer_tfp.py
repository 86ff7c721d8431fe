"""The worker of TensorFlow Probability's Flipout: our networks' operations as a Keras 2 graph, run by tf.function.

Runs in the peers' environment. Its layers as the paper used them: one sign per (example, channel), plain biases.
"""

from __future__ import annotations

import os
import time
import warnings
from importlib.metadata import version
from typing import Any

from bnn.bench.protocol import Measured, Spec, serve
from bnn.models.architectures import Node, resolve
from bnn.models.ops import Add, BatchNorm, Conv, Dense, Flatten, GlobalAveragePool, MaxPool, Relu

RHO_INIT, RHO_INIT_STD, MU_INIT_STD = -9.0, 0.1, 0.1


def build_layer(node: Node, tf: Any, tfp: Any, keras: Any, train_size: int) -> Any:
    """The Keras layer of one operation; Bayesian ones add KL / N to the model's losses."""

    def posterior() -> Any:
        return tfp.layers.default_mean_field_normal_fn(
            loc_initializer=tf.random_normal_initializer(0.0, MU_INIT_STD),
            untransformed_scale_initializer=tf.random_normal_initializer(RHO_INIT, RHO_INIT_STD),
        )

    def divergence(posterior: Any, prior: Any, _: Any) -> Any:
        return tfp.distributions.kl_divergence(posterior, prior) / float(train_size)

    op = node.op
    bayesian = {"kernel_posterior_fn": posterior(), "kernel_divergence_fn": divergence}
    match op:
        case Conv():
            return tfp.layers.Convolution2DFlipout(
                op.channels, op.kernel, strides=op.stride, padding="same" if op.same else "valid", **bayesian
            )
        case Dense():
            return tfp.layers.DenseFlipout(op.units, **bayesian)
        case BatchNorm():
            return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3)
        case Relu():
            return keras.layers.ReLU()
        case MaxPool():
            return keras.layers.MaxPooling2D(op.size, padding="same" if op.ceil else "valid")
        case GlobalAveragePool():
            return keras.layers.GlobalAveragePooling2D()
        case Add():
            return keras.layers.Add()
        case Flatten():
            return keras.layers.Flatten()
    raise TypeError(f"no Keras layer for {op}")


class Tfp:
    """The network, Keras' Adam and one fixed batch, in TensorFlow's layout (NHWC)."""

    def __init__(self, spec: Spec) -> None:
        warnings.filterwarnings("ignore")  # Keras 2 is announced as legacy at every turn
        # installed in the peers' environment only
        import tensorflow as tf  # type: ignore[import-untyped,import-not-found,unused-ignore]
        import tensorflow_probability as tfp  # type: ignore[import-not-found]
        import tf_keras as keras  # type: ignore[import-not-found]

        tf.config.threading.set_intra_op_parallelism_threads(spec.threads)
        # Flipout's two convolutions side by side gain a few per cent, but may take more cores than `threads`.
        side_by_side = 2 if len(os.sched_getaffinity(0)) <= spec.threads else 1
        tf.config.threading.set_inter_op_parallelism_threads(side_by_side)
        tf.random.set_seed(spec.seed)
        self.spec, self.tf = spec, tf
        channels, height, width = spec.shape
        nodes = resolve(spec.model, spec.shape, spec.classes, spec.width)
        values = {nodes[0].op.name: keras.Input((height, width, channels))}
        for node in nodes[1:]:
            inputs = [values[name] for name in node.inputs]
            layer = build_layer(node, tf, tfp, keras, spec.train_size)
            values[node.op.name] = layer(inputs if len(inputs) > 1 else inputs[0])
        self.model = keras.Model(values[nodes[0].op.name], values[nodes[-1].op.name])
        self.optimizer = keras.optimizers.Adam(1e-4)
        self.cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.images = tf.random.uniform([spec.batch, height, width, channels])
        self.labels = tf.random.uniform([spec.batch], 0, spec.classes, dtype=tf.int32)
        self._step = tf.function(self._training_step)
        self._predict = tf.function(lambda images: tf.nn.softmax(self.model(images, training=False)))
        self._inference_input = self.images[:0]

    def _training_step(self) -> Any:
        with self.tf.GradientTape() as tape:
            loss = self.cross_entropy(self.labels, self.model(self.images, training=True))
            loss += self.tf.add_n(self.model.losses)
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def facts(self) -> dict[str, Any]:
        """The worker's hello."""
        packages = {"tensorflow": "tensorflow-cpu", "tfp": "tensorflow-probability", "tf-keras": "tf-keras"}
        return {
            "resolved": self.spec.implementation,
            "parameters_total": self.model.count_params(),
            "versions": {name: version(package) for name, package in packages.items()},
            "notes": [
                f"graph mode (tf.function), TF_ENABLE_ONEDNN_OPTS={os.environ.get('TF_ENABLE_ONEDNN_OPTS', '0')}"
            ],
        }

    def step(self) -> Measured:
        """One call of the graph; reading the loss waits for it."""
        start = time.perf_counter()
        loss = float(self._step().numpy())
        return Measured(time.perf_counter() - start, None, loss)

    def noise_and_kl(self) -> float | None:
        """Not to be told from outside."""
        return None

    def draws(self, images: int, draws: int) -> Measured:
        """A forward pass per draw: Flipout draws anew in each."""
        if len(self._inference_input) != images:
            channels, height, width = self.spec.shape
            self._inference_input = self.tf.random.uniform([images, height, width, channels])
        start = time.perf_counter()
        total = 0.0
        for _ in range(draws):
            total = total + self._predict(self._inference_input).numpy()
        mean = total / draws
        return Measured(time.perf_counter() - start, None, float(mean.mean()))  # type: ignore[attr-defined]


def main() -> None:
    serve(Tfp)
