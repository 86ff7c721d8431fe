"""The posteriors that are mutated: small, and between them with every kind of node."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import bnn
from bnn.layers.dropout import key_dropout
from bnn.posterior.schema import TENSORS_FILE, read_graph
from bnn.records.files import GRAPH_FILE
from tests.fuzz.mutate import Files


class Mixed(nn.Module):
    """Layers, functions, a buffer, a size that depends on the batch, a part of a tensor, several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.mix, self.head = nn.Linear(4, 4), nn.Linear(20, 3)
        self.register_buffer("mean", torch.rand(2, 1, 1))
        self.token = nn.Parameter(torch.rand(1, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x - self.mean)))
        a, b = x.flatten(2).transpose(1, 2).chunk(2, 1)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.mix(a) * torch.softmax(b, -1)], 1)
        return self.head(torch.nn.functional.pad(x, (0, 0, 0, 0)).reshape(x.shape[0], -1)[:, :20])


class Recurrent(nn.Module):
    """Weights that are parameters of the graph (an LSTM's, attention's), a transposed convolution, an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.cells = nn.ConvTranspose2d(1, 1, 2, 2), nn.LSTM(4, 3, batch_first=True)
        self.attention, self.levels = nn.MultiheadAttention(3, 1, batch_first=True), nn.Embedding(4, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.cells(self.up(x)[:, 0])[0]
        rows = rows + self.levels((x.flatten(1)[:, :4] * 3).to(torch.int64).clamp(0, 3))
        return self.head(self.attention(rows, rows, rows, need_weights=False)[0].mean(1))


def networks() -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Bayesian models and the shapes of their inputs."""
    chain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 3))
    masked = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout2d(0.2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 3))
    key_dropout(masked)
    made = [(bnn.convert(model), shape) for model, shape in
            ((chain, (1, 4, 4)), (Mixed(), (2, 4, 4)), (Recurrent(), (1, 2, 2)))]  # fmt: skip
    return [*made, (bnn.convert(masked, biases=True), (1, 4, 4))]


def posteriors(folder: Path) -> list[Files]:
    """Their files; graphs do not state the tensors' digest, or no mutated tensors would be looked at any further."""
    found = []
    torch.manual_seed(0)
    for number, (twin, shape) in enumerate(networks()):
        path = folder / f"seed-{number}"
        example = torch.rand(2, *shape)
        bnn.save_posterior(twin, path, example_input=example, step=1, extra={"a": [1, 2]})
        graph = read_graph(path).model_copy(update={"tensors_sha256": None})
        found.append({GRAPH_FILE: graph.model_dump_json().encode(), TENSORS_FILE: (path / TENSORS_FILE).read_bytes()})
    return found
