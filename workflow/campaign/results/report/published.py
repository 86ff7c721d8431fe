"""Numbers that the paper prints and the report sets beside its own, never into one series.

Sharma & Jennings, "Bayesian neural networks at scale: a performance analysis and pruning study", J. Supercomputing
2020. Measured on Theta (Cray XC40, Intel Xeon Phi 7230, one rank per node) with CIFAR-10.
"""

from __future__ import annotations

MACHINE = "Theta, Cray XC40 with Xeon Phi, CIFAR-10"
DATASETS = ("cifar10", "cifar10-jpeg")  # its images; the second: encoded once more

# Section 4.1: "approximately a factor of 2.4 increase in the time to complete a fixed number of epochs"
TIME_RATIO = 2.4
TIME_RATIO_SECTION = "section 4.1"
# The implementations that the paper's ratio is compared with: plain Flipout against a plain CNN.
SIDES = ("bnn-flipout-reference", "cnn-plain")

# Section 4.1: "as the number of ranks increases up to 128 ranks the computation speed-up of 61% ... and 90%"
SPEEDUP_NODES = 128
SPEEDUP = {("vgg16", "bnn"): 0.61, ("resnet18", "bnn"): 0.90}

# Section 4.2 on Fig. 3(c): BNN / CNN time to a training accuracy, VGG-16, by (nodes, accuracy)
ACCURACY_BATCH = 256
ACCURACY_TIME_RATIO = {(2, 0.6): 7.57, (2, 0.4): 7.14, (16, 0.6): 2.76, (16, 0.4): 1.99}

# Appendix A, tables 1-6: parameters (total, trainable) by (model, kind)
PARAMETERS = {
    ("vgg16", "bnn"): (18_829_066, 18_823_178),
    ("vgg16", "cnn"): (9_421_898, 9_416_010),
    ("resnet18", "bnn"): (9_814_026, 9_810_058),
    ("resnet18", "cnn"): (4_912_458, 4_908_490),
    ("conv", "bnn"): (3_802_122, 3_802_122),
    ("fc", "bnn"): (538_122, 538_122),
}

# Section 4.2: "FLOP rate" of each model, millions; a count per parameter (bnn.flops.formulae.paper_flop_rate)
FLOP_RATE = {
    ("vgg16", "bnn"): 573.87,
    ("vgg16", "cnn"): 18.84,
    ("resnet18", "bnn"): 299.02,
    ("resnet18", "cnn"): 9.82,
}
FLOP_RATE_SECTION = "section 4.2"
FLOP_RATE_CLAIM = "a 30x increase in the FLOP rate for BNNs compared to CNNs"
