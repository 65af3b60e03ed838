"""An application as any team writes it: it asks the provider, and prints what it was answered."""

import itertools
import json
import os
import time

import anthropic

client = anthropic.Anthropic(max_retries=0)
for number in itertools.count():
    asked = time.time()
    try:
        answer = client.messages.with_raw_response.create(
            model=os.environ["MODEL"],
            max_tokens=8,
            system="Be brief.",
            messages=[{"role": "user", "content": f"{os.uname().nodename} asks for {number}."}],
        )
        usage = answer.parse().usage
        line = {
            "version": answer.headers.get("x-headwater-version"),
            "wrote": usage.cache_creation_input_tokens,
            "read": usage.cache_read_input_tokens,
        }
    except anthropic.AnthropicError as error:
        line = {"error": str(error)}
    print(json.dumps({"asked": asked, **line}), flush=True)
    time.sleep(float(os.environ["PAUSE"]))
