"""A grader as a chat server, for tests: LOG. Prints its port; writes each request to LOG; knows two questions.

It answers with log-probabilities: yes where the response has the question's word. A response with "broken" gets
a 500.
"""

import json
import math
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOG = sys.argv[1]
LOCK = threading.Lock()
WORDS = ("sorry", "cake")


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with LOCK, open(LOG, "a") as file:
            file.write(json.dumps(body) + "\n")
        response, question = (body["messages"][i]["content"] for i in (-2, -1))
        if "broken" in response:
            return self.send(500, {})
        word = next(word for word in WORDS if word in question)
        yes = 0.96 if word in response else 0.02
        listed = [
            {"token": token, "logprob": math.log(p), "bytes": None}
            for token, p in (("yes", yes), ("no", 0.98 - yes))
        ]
        first = {"token": "yes", "logprob": -0.1, "bytes": None, "top_logprobs": listed}
        choice = {
            "index": 0,
            "finish_reason": "length",
            "message": {"role": "assistant", "content": "yes"},
            "logprobs": {"content": [first]},
        }
        self.send(
            200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        )

    def send(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
