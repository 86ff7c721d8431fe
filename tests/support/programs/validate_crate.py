"""Runs rocrate-validator without a network: arguments CONTEXT (the JSON-LD context as a file), then the command's own.

It runs in the validator's environment, which has nothing of ours.
"""

import io
import sys
from pathlib import Path
from runpy import run_path

import requests
from urllib3 import HTTPResponse

CONTEXT = Path(sys.argv[1]).read_bytes()


def send(adapter, request, **_options):
    """Answer what asks for the context of RO-Crate; nothing else can be reached."""
    if not request.url.startswith("https://w3id.org/ro/crate/1.3/context"):
        raise requests.ConnectionError(f"no network: {request.url}")
    headers = {"Content-Type": "application/ld+json"}
    raw = HTTPResponse(body=io.BytesIO(CONTEXT), status=200, headers=headers, preload_content=False)
    return adapter.build_response(request, raw)


requests.adapters.HTTPAdapter.send = send
command = Path(sys.executable).with_name("rocrate-validator")
sys.argv = [str(command), *sys.argv[2:]]
run_path(str(command), run_name="__main__")
