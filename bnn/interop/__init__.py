"""From and to other frameworks: TensorFlow Probability's arrays in, torch.export and ONNX out.

Importing this loads nothing heavy; `bnn.interop.tfp` and `bnn.interop.export` do.
"""
