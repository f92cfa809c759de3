"""The server of examples/serve, over HTTP."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from tests.clients.conftest import ROOT, client_python

EXAMPLE = ROOT / "examples" / "serve"
# Float32, with other kernels of TensorFlow where the length or the batch is another one.
TOLERANCE = 2e-6


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def post(address, inputs):
    body = json.dumps({"inputs": inputs}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, body, headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


@pytest.fixture(scope="module")
def server(saved_minilm, tmp_path_factory):
    """The address of the example's server, started as its README says, on free ports."""
    folder = tmp_path_factory.mktemp("serve") / "serve"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("saved_model*", "__pycache__"))
    shutil.copytree(saved_minilm, folder / "saved_model")
    settings = json.loads((folder / "settings.json").read_text())
    names = ("http_port", "grpc_port", "metrics_port")
    settings |= dict(zip(names, free_ports(3), strict=True))
    (folder / "settings.json").write_text(json.dumps(settings))
    address = f"http://127.0.0.1:{settings['http_port']}/v2"
    command = [client_python("mlserver").with_name("mlserver"), "start", "."]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until_ready(address, process, folder / "log")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(address, process, log):
    for _ in range(360):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(f"{address}/health/ready", timeout=5).close()
            return
        except OSError:  # URLError and HTTPError are.
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def test_embeds_strings(server, reference, sentences):
    texts = sentences[:16]
    tensor = {"name": "text", "datatype": "BYTES", "shape": [16], "data": texts}
    (output,) = post(f"{server}/models/minilm/infer", [tensor])["outputs"]
    assert (output["name"], output["datatype"]) == ("embedding", "FP32")
    embeddings = np.reshape(output["data"], output["shape"])
    np.testing.assert_allclose(embeddings, reference["embedding"], atol=TOLERANCE)


def test_embeds_ids(server, reference):
    tensors = [
        {"name": k, "datatype": "INT32", "shape": list(v.shape), "data": v.ravel().tolist()}
        for k, v in reference.items()
        if k != "embedding"
    ]
    (output,) = post(f"{server}/models/minilm-ids/infer", tensors)["outputs"]
    embeddings = np.reshape(output["data"], output["shape"])
    np.testing.assert_allclose(embeddings, reference["embedding"], atol=TOLERANCE)


def test_says_what_it_takes_and_refuses_the_rest(server):
    with urllib.request.urlopen(f"{server}/models/minilm", timeout=60) as response:
        metadata = json.load(response)
    assert [(x["name"], x["datatype"], x["shape"]) for x in metadata["inputs"]] == [
        ("text", "BYTES", [-1])
    ]
    tensor = {"name": "texts", "datatype": "BYTES", "shape": [1], "data": ["A cat."]}
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(f"{server}/models/minilm/infer", [tensor])
    assert caught.value.code == 400
    assert "The inputs are ['text']. Received: ['texts']." in caught.value.read().decode()
