"""A grader as a chat server, for tests: LOG. Prints its port; writes each request to LOG; knows two questions.

It answers with log-probabilities: yes where the response has the question's word. A response with "broken" gets
a 500.
"""

import json
import sys

from tiny_servers import JsonServer, graded

LOG = sys.argv[1]
WORDS = ("sorry", "cake")


class Server(JsonServer):
    def answer(self, handler, body):
        with self.lock, open(LOG, "a") as file:
            file.write(json.dumps(body) + "\n")
        response, question = (body["messages"][i]["content"] for i in (-2, -1))
        if "broken" in response:
            return handler.send(500, {})
        word = next(word for word in WORDS if word in question)
        yes = 0.96 if word in response else 0.02
        handler.send(200, graded({"yes": yes, "no": 0.98 - yes}))


Server().serve_as_a_program()
