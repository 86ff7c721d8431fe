"""What is refused, and with which words: a network, its stage, a pattern of the refusal's text.

A refusal that is not listed fails the test, and so does one that is listed and has gone.
"""

NO_UNIT = "no unit of this network can be removed"
REFUSALS: dict[str, dict[str, str]] = {
    name: {"by unit": NO_UNIT}
    for name in (
        "timm convnextv2_atto",
        "timm gmlp_ti16_224",
        "timm nf_resnet26",
        "own LSTM",
        "own GRU, two layers, both directions",
        "own multi-head attention",
        "own layer scale",
        "own Conv1d",
        "own Conv3d",
        "own dilated and grouped",
    )
}
