"""What a model's name says of it."""


def is_own(name: str) -> bool:
    """Whether the model is a user's own, `package.module:function`, not one of the built-in ones."""
    return ":" in name
