"""A POSTERIOR: a folder that holds a trained model so that it runs without the Python code that made it.

posterior.safetensors  every tensor, by `<layer>.<parameter>`
graph.json             the traced model: its operations, from a whitelist, in order (`schema.Graph`)
LayerNames.txt         the layers and their trainable variables, printed from the graph
OpsNames.txt           every operation with its kind, printed from the graph

Nothing in it is code and nothing is unpickled.
"""

from bnn.posterior.load import load_posterior
from bnn.posterior.network import GraphNetwork
from bnn.posterior.save import save_posterior
from bnn.posterior.schema import Graph, GraphNode, read_graph

__all__ = ["Graph", "GraphNetwork", "GraphNode", "load_posterior", "read_graph", "save_posterior"]
