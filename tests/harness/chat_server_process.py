"""A chat server for tests: LOG PORT DIE_AFTER. Prints its port; writes each request to LOG; misbehaves on demand.

It refuses prompts with "steal" and answers the others. A prompt with "empty", "cut", "limit", "withheld", "torn",
"broken", "slow" or "500" gets what a server in trouble gives, one with "drip" a byte at a time, and one with a
"shape-WORD" of SHAPES a JSON that is no answer. A prompt with "refuse-WORD" of REFUSALS is refused beside the
text, and one with "status NNN" gets that status with the API's error. After DIE_AFTER requests the process is gone.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOG, PORT, DIE_AFTER = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
LOCK = threading.Lock()
COUNT = 0
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


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        global COUNT
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with LOCK:
            COUNT += 1
            with open(LOG, "a") as file:
                file.write(json.dumps(body) + "\n")
            with open(LOG + ".keys", "a") as file:
                file.write(f"{self.headers['authorization']}\n")
            if DIE_AFTER and COUNT > DIE_AFTER:
                os._exit(9)
        prompt = body["messages"][-1]["content"]
        text = "I'm sorry, I cannot help." if "steal" in prompt else f"Cut it ({body.get('seed', 'greedy')})."
        reason, written = "stop", 5
        if "500" in prompt:
            return self.send(500, b"{}")
        if "broken" in prompt:
            return self.send(200, b"<html>busy</html>")
        for word, content in SHAPES.items():
            if f"shape-{word}" in prompt:
                return self.send(200, content.encode())
        if "drip" in prompt:
            return self.drip(in_head="head" in prompt)
        if "status " in prompt:
            said = {
                "message": f"no {self.headers['authorization']}",
                "code": "bad_value",
                "param": "max_tokens",
            }
            return self.send(int(prompt.split("status ")[1][:3]), json.dumps({"error": said}).encode())
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
        choice = {"index": 0, "finish_reason": reason, "message": message}
        whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        whole["usage"] = {"prompt_tokens": 1, "completion_tokens": written, "total_tokens": 1 + written}
        self.send(200, json.dumps(whole).encode(), torn="torn" in prompt)

    def drip(self, in_head):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        if not in_head:
            head += b"content-length: 1000\r\n\r\n"
        self.wfile.write(head)
        for _ in range(200):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.1)

    def send(self, status, content, torn=False):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if torn else content)


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
