"""Asks a tier as a program with KServe's client does, and prints what it gets as JSON: ``URL TIER PICTURE``."""

import asyncio
import base64
import json
import sys
from pathlib import Path

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

url, tier, path = sys.argv[1:]
picture = Path(path).read_bytes()


def request(elements, binary):
    one = InferInput("image", [len(elements)], "BYTES")
    one.set_data_from_numpy(np.array(elements, dtype=np.object_), binary_data=binary)
    return InferRequest(tier, [one], request_id="mine", parameters={"top_k": 3})


def told(answer):
    return {
        one.name: [part.decode() if isinstance(part, bytes) else part for part in one.as_numpy().flatten().tolist()]
        for one in answer.outputs
    }


async def refusal(asking):
    try:
        await asking
    except httpx.HTTPStatusError as error:
        return [error.response.status_code, str(error)]
    return None


async def main():
    first, second = InferenceRESTClient(RESTConfig(protocol="v1")), InferenceRESTClient(RESTConfig(protocol="v2"))
    instances = {"instances": [{"b64": base64.b64encode(picture).decode()}] * 2}
    broken = {"instances": [{"b64": base64.b64encode(picture[:400]).decode()}]}
    text = request([base64.b64encode(picture)], False)
    found = {
        "v1": await first.infer(url, instances, model_name=tier),
        "v1_ready": await first.is_model_ready(url, tier),
        "v1_none": await refusal(first.infer(url, instances, model_name="none")),
        "v1_broken": await refusal(first.infer(url, broken, model_name=tier)),
        "live": await second.is_server_live(url),
        "ready": await second.is_server_ready(url),
        "tier_ready": await second.is_model_ready(url, tier),
        "none_ready": await second.is_model_ready(url, "none"),
        "binary": told(await second.infer(url, request([picture, picture], True), model_name=tier)),
        "json": told(await second.infer(url, text, model_name=tier)),
        "id": (await second.infer(url, text, model_name=tier)).id,
        "v2_none": await refusal(second.infer(url, text, model_name="none")),
    }
    await first.close()
    await second.close()
    sys.stdout.write(json.dumps(found))


asyncio.run(main())
