"""The paper's models, described once (`architectures`), from that shown (`describe`, `tables`) or built (`build`)."""
