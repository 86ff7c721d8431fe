"""Times of allreduces by size and rank count, in place, each measured twice: what `campaign project` is fitted to."""
