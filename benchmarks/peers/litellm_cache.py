"""LiteLLM's Router with its local cache: the time of hits, in milliseconds, as JSON. Run by `benchmarks.llm_cache`.

python litellm_cache.py BASE_URL COUNT < messages.json
"""

import asyncio
import json
import os
import sys
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


async def main() -> None:
    import litellm
    from litellm.caching.caching import Cache

    litellm.cache = Cache(type="local")
    base_url, count, messages = sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)
    litellm.suppress_debug_info = True
    router = litellm.Router(
        model_list=[
            {"model_name": "m", "litellm_params": {"model": "openai/m", "api_base": base_url, "api_key": "key"}}
        ],
        cache_responses=True,
    )
    took = []
    for number in range(count + 3):
        began = time.perf_counter()
        answer = await router.acompletion(model="m", messages=messages, temperature=0.2)
        took.append((time.perf_counter() - began) * 1000)
        if number < 3:
            await asyncio.sleep(0.3)  # it stores aside
        else:
            assert answer._hidden_params.get("cache_hit"), "this was no hit"
    print(json.dumps(took[3:]))


asyncio.run(main())
