"""A chat server for tests: LOG PORT DIE_AFTER. Prints its port; writes each request to LOG; misbehaves on demand.

It refuses prompts with "steal" and answers the others. A prompt with "empty", "cut", "limit", "withheld", "torn",
"broken", "slow" or "500" gets what a server in trouble gives, one with "drip" a byte at a time, and one with a
"shape-WORD" of SHAPES a JSON that is no answer. A prompt with "refuse-WORD" of REFUSALS is refused beside the
text, one with "think-WORD" of THOUGHTS is thought about, and one with "status NNN" gets that status with the API's
error. After DIE_AFTER requests the process is gone.
"""

import json
import os
import sys
import time

from tiny_servers import JsonServer, completion

LOG, PORT, DIE_AFTER = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
SHAPES = {
    "map": '{"choices": {"0": {"message": {"content": "yes"}}}}',
    "list": "[1, 2]",
    "null": '{"choices": [null]}',
    "deep": '{"choices": ' + "[" * 100000 + "]" * 100000 + "}",
    "nested": '{"choices": ' + "[" * 800 + "]" * 800 + "}",
    "digits": '{"choices": [], "usage": ' + "9" * 5000 + "}",
    "number": '{"choices": [{"message": {"content": 3}, "finish_reason": {}}]}',
}
REFUSALS = {
    "field": ({"content": None, "refusal": "This asks for harm."}, "stop"),
    "ended": ({"content": ""}, "refusal"),
    "parts": ({"content": [{"type": "refusal", "refusal": "No."}]}, "stop"),
    "filtered": ({"content": None, "refusal": "No."}, "content_filter"),
}
THOUGHTS = {  # what stands beside or in the text, and why it ended
    "field": ({"reasoning_content": "Hm."}, "stop"),
    "name": ({"reasoning": "Hm."}, "stop"),
    "marks": ({"content": "<think>Hm.</think>I'm sorry, I cannot help."}, "stop"),
    "endless": ({"content": "", "reasoning_content": "Hm."}, "length"),
    "cut": ({"content": "<think>Hm."}, "length"),
}


class Server(JsonServer):
    count = 0

    def answer(self, handler, body):
        with self.lock:
            self.count += 1
            with open(LOG, "a") as file:
                file.write(json.dumps(body) + "\n")
            with open(LOG + ".keys", "a") as file:
                file.write(f"{handler.key}\n")
            if DIE_AFTER and self.count > DIE_AFTER:
                os._exit(9)
        prompt = body["messages"][-1]["content"]
        text = "I'm sorry, I cannot help." if "steal" in prompt else f"Cut it ({body.get('seed', 'greedy')})."
        reason, written = "stop", 5
        if "500" in prompt:
            return handler.send(500, {})
        if "broken" in prompt:
            return handler.send(200, "<html>busy</html>")
        for word, content in SHAPES.items():
            if f"shape-{word}" in prompt:
                return handler.send(200, content)
        if "drip" in prompt:
            return drip(handler, in_head="head" in prompt)
        if "status " in prompt:
            said = {
                "message": f"no {handler.key}",
                "code": "bad_value",
                "param": "max_tokens",
            }
            return handler.send(int(prompt.split("status ")[1][:3]), {"error": said})
        if "slow" in prompt:
            time.sleep(1.5)
        if "empty" in prompt:
            text = ""
        if "cut" in prompt:
            reason, written = "length", 3
        if "limit" in prompt:
            reason, written = "length", body["max_tokens"]
        if "withheld" in prompt:
            text, reason = "", "content_filter"
        message = {"role": "assistant", "content": text}
        for word, (fields, ended) in REFUSALS.items():
            if f"refuse-{word}" in prompt:
                message, reason = message | fields, ended
        for word, (fields, ended) in THOUGHTS.items():
            if f"think-{word}" in prompt:
                message, reason = message | fields, ended
                written = body["max_tokens"]
        whole = completion({"finish_reason": reason, "message": message})
        whole["usage"] = {"prompt_tokens": 1, "completion_tokens": written, "total_tokens": 1 + written}
        if "think-field" in prompt:
            whole["usage"]["completion_tokens_details"] = {"reasoning_tokens": 3}
        handler.send(200, whole, torn="torn" in prompt)


def drip(handler, in_head):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    if not in_head:
        head += b"content-length: 1000\r\n\r\n"
    handler.wfile.write(head)
    for _ in range(200):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)


Server(PORT).serve_as_a_program()
