"""What every message of a user's mistake is."""


def one_line(error: object) -> None:
    """Fail where a message is not one line."""
    assert len(str(error).splitlines()) == 1
