"""Made the files of this folder: two small models in TensorFlow Probability with random variables, and their outputs.

Run where the peers are installed: `.venv-peers/bin/python tests/data/tfp/make.py`. The committed files come from
TensorFlow 2.21.0, TensorFlow Probability 0.25.0 and tf_keras 2.21.0.

NAME.npz           the model, exported by the three lines that the README shows
NAME-expected.npz  images_HxW (N, C, H, W) and the logits_HxW (N, classes) of the posterior mean for them;
                   sigma/<layer>: TFP's standard deviations of the kernels, in TensorFlow's layouts
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TFP's layers are Keras 2 layers

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from tf_keras import layers

HERE = Path(__file__).parent


def conv(filters, size, stride=1, padding="same"):
    return tfp.layers.Convolution2DFlipout(filters, size, strides=stride, padding=padding)


def strided(height, width):
    """Stride 2 on even and odd sizes, two branches, a flattened map that is normalised, a layer without bias.

    The shortcut is created first though Keras lists it last.
    """
    images = layers.Input((height, width, 2))
    shortcut = conv(3, 1, 2)
    x = conv(3, 3, 2)(images)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Add()([x, shortcut(images)])
    x = conv(4, 5, 2)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.BatchNormalization()(x)
    x = tfp.layers.DenseFlipout(5, bias_posterior_fn=None)(x)
    x = layers.ReLU()(x)
    return tf_keras.Model(images, layers.Dense(3)(x))


def resnet18(height, width, channels=(2, 4, 8, 15)):
    """The paper's ResNet18 (tables 3 and 4) at width 0.03."""
    images = layers.Input((height, width, 3))
    x = conv(channels[0], 3)(images)
    for stage, wide in enumerate(channels):
        stride = 1 if stage == 0 else 2
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        shortcut = conv(wide, 1, stride)(x)
        x = conv(wide, 3, stride)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.Add()([conv(wide, 3)(x), shortcut])
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Flatten()(layers.GlobalAveragePooling2D()(x))
    return tf_keras.Model(images, tfp.layers.DenseFlipout(4)(x))


def randomize(model, generator):
    """Values as a trained model may have them, none of them an initial one; float32's smallest scales among them."""
    for variable in model.variables:
        values = generator.normal(0, 0.5, variable.shape)
        if "untransformed_scale" in variable.name:
            values = generator.uniform(-20, 2, variable.shape)
        elif "variance" in variable.name or "gamma" in variable.name:
            values = np.exp(values)
        variable.assign(values.astype(np.float32))


def main():
    generator = np.random.default_rng(0)
    for build, sizes in ((strided, [(9, 12)]), (resnet18, [(16, 16), (15, 18)])):
        model = build(*sizes[0])
        randomize(model, generator)

        arrays = {variable.name: variable.numpy() for variable in model.variables}
        np.savez(HERE / f"{build.__name__}.npz", **arrays)

        flipout = [layer for layer in model.layers if hasattr(layer, "kernel_posterior")]
        expected = {f"sigma/{layer.name}": layer.kernel_posterior.stddev().numpy() for layer in flipout}
        for size in sizes:
            twin = build(*size)
            for theirs, ours in zip(twin.variables, model.variables, strict=True):
                scale = "untransformed_scale" in ours.name
                theirs.assign(tf.fill(ours.shape, -1e4) if scale else ours)  # all but no noise: the posterior mean
            images = generator.normal(0, 1, (4, *twin.input_shape[1:])).astype(np.float32)
            name = f"{size[0]}x{size[1]}"
            expected[f"images_{name}"] = images.transpose(0, 3, 1, 2)
            expected[f"logits_{name}"] = twin(images, training=False).numpy()
        np.savez_compressed(HERE / f"{build.__name__}-expected.npz", **expected)


if __name__ == "__main__":
    main()
