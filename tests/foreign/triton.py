"""Asks a tier as a program with Triton's client does, and prints what it gets as JSON: ``ADDRESS TIER PICTURE``."""

import base64
import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, tier, path = sys.argv[1:]
picture = Path(path).read_bytes()
client = triton.InferenceServerClient(address, network_timeout=60, connection_timeout=60)


def tensor(elements, binary=True):
    found = triton.InferInput("image", [len(elements)], "BYTES")
    found.set_data_from_numpy(np.array(elements, dtype=np.object_), binary_data=binary)
    return [found]


def told(result):
    return {
        name: result.as_numpy(name).astype("U" if name == "labels" else float).tolist() for name in ("labels", "scores")
    }


def refusal(ask):
    try:
        ask()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


both = [
    triton.InferRequestedOutput("labels", binary_data=False),
    triton.InferRequestedOutput("scores", binary_data=False),
]
version = client.get_model_metadata(tier)["versions"][0]
classes = client.infer(tier, tensor([picture]), outputs=[triton.InferRequestedOutput("scores", class_count=2)])
sys.stdout.write(
    json.dumps(
        {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "tier_ready": client.is_model_ready(tier) and client.is_model_ready(tier, version),
            "none_ready": client.is_model_ready("none"),
            "server": client.get_server_metadata()["name"],
            "binary": told(client.infer(tier, tensor([picture, picture]), parameters={"top_k": 3})),
            "json": told(
                client.infer(tier, tensor([base64.b64encode(picture)], False), model_version=version, outputs=both)
            ),
            "id": client.infer(tier, tensor([picture]), request_id="mine").get_response()["id"],
            "classes": classes.as_numpy("scores").astype("U").tolist(),
            "unzipped": told(client.infer(tier, tensor([picture]), response_compression_algorithm="gzip"))["labels"],
            "no_tier": refusal(lambda: client.infer("none", tensor([picture]))),
            "no_picture": refusal(lambda: client.infer(tier, tensor([picture, b"text"]))),
            "compressed": refusal(lambda: client.infer(tier, tensor([picture]), request_compression_algorithm="gzip")),
            "wrong_key": refusal(
                lambda: client.infer(tier, tensor([picture]), headers={"Authorization": "Bearer tsk_none_such"})
            ),
        }
    )
)
