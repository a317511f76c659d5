"""A worker in another language: the text protocol of NATS over TCP, no library.

It shows all that a handler has to do. Subscribe to ops.handler.<op_type> in a
queue group, answer each request with an effect or an error, and send a message
to its heartbeat_subject from time to time if it takes longer than
attempt_timeout. Executors do the rest: who may run, leases, retries, reports.

    def greet(task):
        return {"set": {"greeting": "Hello, " + task.params["name"]}}

    Worker("nats://127.0.0.1:4222", {"greet": greet}).run()

A handler may be called more than once for one operation; task.key is the same
each time, and that of no other operation.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
import urllib.parse


class Failure(Exception):
    """The attempt failed; it is tried again unless the failure is terminal."""

    def __init__(self, message, code="", terminal=False):
        super().__init__(message)
        self.error = {"code": code, "message": message, "terminal": terminal}


class Task:
    """One attempt of an operation."""

    def __init__(self, worker, request):
        self.worker = worker
        self.operation = request["operation"]
        self.params = self.operation.get("params", {})
        self.entity = request["entity"]  # None: there is no such entity
        self.attempt = request["attempt"]
        self.key = request["idempotency_key"]
        self.lease = request["lease_ms"] / 1000  # seconds from now
        self.heartbeats = request["heartbeat_subject"]

    def heartbeat(self):
        """Say that this handler is alive, which gives it another lease.

        False: the attempt is over, nothing that the handler says counts.
        """
        answer = self.worker.request(self.heartbeats, b"")
        return answer is None or json.loads(answer)["accepted"]


class Worker:
    """Serves operation types until it is told to stop."""

    def __init__(self, url, handlers, queue="workers", ready=lambda: None):
        self.url = urllib.parse.urlparse(url)
        self.handlers = handlers
        self.queue = queue
        self.ready = ready
        self.inbox = "_INBOX." + os.urandom(12).hex()
        self.lock = threading.Lock()  # of the socket, and of what follows
        self.waiting = {}  # by the last token of the reply subject
        self.running = 0
        self.stopping = threading.Event()
        self.socket = None
        self.most = 0  # bytes of a message

    def run(self):
        """Connect, serve, and connect again when the connection is lost."""
        while not self.stopping.is_set():
            try:
                self.serve()
            except (OSError, EOFError) as problem:
                if not self.stopping.is_set():
                    print("connection lost:", problem, file=sys.stderr, flush=True)
                    self.stopping.wait(0.5)

    def serve(self):
        address = (self.url.hostname, self.url.port or 4222)
        with socket.create_connection(address, timeout=10) as self.socket:
            self.socket.settimeout(None)
            lines = self.socket.makefile("rb")
            info = json.loads(lines.readline().split(b" ", 1)[1])
            self.most = info["max_payload"]
            options = {"verbose": False, "pedantic": False, "lang": "python", "version": "1", "headers": True, "protocol": 1}
            if self.url.username:
                options.update(user=self.url.username, **{"pass": self.url.password or ""})
            self.send(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
            self.send(f"SUB {self.inbox}.* inbox\r\n".encode())
            for op_type in self.handlers:
                self.send(f"SUB ops.handler.{op_type} {self.queue} {op_type}\r\n".encode())
            self.send(b"PING\r\n")
            pongs = 0
            while True:
                line = lines.readline()
                if not line:
                    raise EOFError("the server has closed it")
                word, *rest = line.split()
                if word == b"PING":
                    self.send(b"PONG\r\n")
                elif word == b"PONG":
                    pongs += 1
                    if pongs == 2:  # the subscriptions are known
                        self.ready()
                elif word == b"-ERR":
                    raise OSError(line.decode().strip())
                elif word == b"MSG":  # MSG <subject> <sid> [reply] <bytes>
                    body = lines.read(int(rest[-1]) + 2)[:-2]
                    self.message(rest[0], rest[1], rest[2] if len(rest) == 4 else None, body)
                elif word == b"HMSG":  # HMSG <subject> <sid> [reply] <bytes of headers> <bytes>
                    body = lines.read(int(rest[-1]) + 2)[int(rest[-2]):-2]
                    self.message(rest[0], rest[1], rest[2] if len(rest) == 5 else None, body)

    def send(self, data):
        with self.lock:
            self.socket.sendall(data)

    def publish(self, subject, body, reply=""):
        if isinstance(subject, bytes):
            subject = subject.decode()
        self.send(f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n")

    def request(self, subject, body, patience=2):
        """Return the answer, or None when there is none in time."""
        token = os.urandom(8).hex()
        got = threading.Event()
        with self.lock:
            self.waiting[token] = [got, None]
        try:
            self.publish(subject, body, f"{self.inbox}.{token}")
            got.wait(patience)
        except OSError:
            pass
        with self.lock:
            return self.waiting.pop(token)[1]

    def message(self, subject, sid, reply, body):
        if sid == b"inbox":
            with self.lock:
                slot = self.waiting.get(subject.decode().rsplit(".", 1)[1])
                if slot and body:  # an empty one says that nobody listens
                    slot[1] = body
                if slot:
                    slot[0].set()
            return
        with self.lock:
            self.running += 1
        threading.Thread(target=self.handle, args=(sid.decode(), reply, body), daemon=True).start()

    def handle(self, op_type, reply, body):
        try:
            answer = self.answer(op_type, body)
            if len(answer) > self.most:  # the server would close the connection
                answer = response(error={"code": "too_large", "message": f"{len(answer)} bytes", "terminal": True})
            self.publish(reply, answer)
        except OSError:
            pass  # the lease runs out, and somebody tries again
        finally:
            with self.lock:
                self.running -= 1

    def answer(self, op_type, body):
        try:
            effect = self.handlers[op_type](Task(self, json.loads(body)))
            if isinstance(effect, bytes):  # for those who know better
                return effect
            return response(effect=effect or {})
        except Failure as failure:
            return response(error=failure.error)
        except Exception as bug:  # of the handler
            traceback.print_exc()
            return response(error={"code": "panic", "message": repr(bug), "terminal": False})

    def stop(self, patience):
        """Take no more requests, finish what runs, and have run return."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        for op_type in self.handlers:
            self.send(f"UNSUB {op_type}\r\n".encode())
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with self.lock:
                if self.running == 0:
                    break
            time.sleep(0.01)
        self.socket.shutdown(socket.SHUT_RDWR)


def response(**what):
    return json.dumps({"type": "ops.v1.handler_response", **what}).encode()


def serve(handlers, patience=10):
    """Serve the system at the address in the first argument until a signal comes.

    patience is how many seconds handlers that run have to finish then.
    """
    worker = Worker(sys.argv[1], handlers, ready=lambda: print("ready", flush=True))
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: threading.Thread(target=worker.stop, args=(patience,)).start())
    worker.run()


def paint(task):
    """The handler of this example: several coats, each of which takes time."""
    if not task.entity:
        raise Failure("there is no wall", code="no_wall", terminal=True)
    if task.params.get("colour") == "octarine":
        raise Failure("wizards only", code="no_paint", terminal=True)
    if task.params.get("colour") == "gold" and task.attempt == 1:
        raise Failure("the tin is empty; somebody went for another one", code="no_paint")
    coats = task.params.get("coats", 1)
    for _ in range(coats):
        time.sleep(0.1)
        if not task.heartbeat():
            raise Failure("somebody took the brush away")
    return {
        "set": {"colour": task.params["colour"], "coats": coats},
        "version": True,
        "note": f"Painted {task.params['colour']}",
    }


if __name__ == "__main__":
    serve({"paint": paint})
