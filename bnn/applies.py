"""Which settings of a training run apply to which kind and estimator, and which are part of its hash."""

from __future__ import annotations

# Fields that say where and how a run is kept, not what it computes: they do not change a run's hash.
NOT_SCIENCE = frozenset({"labels", "data_dir", "cv_limit", "foreign_limit"})
# Fields that came later: left out while they have their default, so that the hash of older runs stays.
LATER = frozenset(
    {
        "augmentation", "output", "task", "observation_std", "init", "sigma_share", "ivon_ess", "ivon_delta",
        "ivon_hess_init", "ivon_beta1", "ivon_beta2", "ivon_clip_radius", "ivon_rescale", "ivon_noise", "where",
        "bayesian_biases", "dense_kl", "dropout_rate", "normalisation", "fault",
        "evaluate_steps", "evaluate_images", "until_accuracy",
        "momentum", "weight_decay", "gradient_clip", "lr_schedule", "lr_warmup_epochs", "lr_final_share",
    }
)  # fmt: skip
IVON = frozenset(name for name in LATER if name.startswith("ivon_"))
# Settings of Bayesian layers, which conventional ones have not, and what IVON has of its own instead.
OF_LAYERS = frozenset(
    {
        "sigma_share", "prior_scale", "rho_init", "rho_init_std", "beta", "beta_anneal_epochs", "where",
        "bayesian_biases", "dense_kl",
    }
)  # fmt: skip
# Which settings do not apply: to a cnn, to a bnn with Bayesian layers, to one by IVON, to one by MC dropout.
IDLE = {
    "cnn": OF_LAYERS | IVON | {"estimator", "dropout_rate"},
    "bnn": IVON | {"baseline", "weight_decay", "dropout_rate"},
    "ivon": OF_LAYERS | {"baseline", "mu_init_std", "optimizer", "weight_decay", "gradient_clip", "dropout_rate"},
    "mc-dropout": OF_LAYERS | IVON | {"baseline", "mu_init_std"},
}
# What IVON refuses unless it has its default, and why.
NOT_BY_IVON = {
    "optimizer": "ivon is an optimizer itself",
    "weight_decay": "ivon has one of its own: set ivon_delta",
    "gradient_clip": "ivon limits its steps instead: set ivon_clip_radius",
    "mixed_precision": "ivon computes in one precision",
    "compile": "ivon does not go through torch.compile",
    "device": "ivon trains on CPUs only",
    "prior_scale": "ivon's prior is N(0, 1 / (ivon_ess ivon_delta)): set ivon_delta",
    "sigma_share": "ivon's sigma starts at 1 / sqrt(ivon_ess (ivon_hess_init + ivon_delta)): set ivon_hess_init",
    "beta": "ivon weighs the KL by 1 / ivon_ess: set ivon_ess",
    "beta_anneal_epochs": "ivon weighs the KL by 1 / ivon_ess throughout",
    "dense_kl": "ivon's KL is of all weights together",
    "where": "ivon learns the posterior of all layers with weights to convert",
    "bayesian_biases": "ivon learns the posterior of weights and leaves biases conventional",
}
