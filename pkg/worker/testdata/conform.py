"""The behaviours of conformance_test.go in Python, on the worker of the example.

Called with the server's address, the directory of the example and the types.
"""

import json
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[2])
import worker


def tell(task, event):
    task.worker.publish(f"conform.{event}.{task.operation['op_id']}", str(task.attempt).encode())


def done(value):
    return {"set": {"x": value}, "version": True, "note": "Done"}


def conform(task):
    do, began = task.params["do"], time.monotonic()
    tell(task, "began")
    if do == "fail" or do == "fail_once" and task.attempt == 1:
        raise worker.Failure("no luck", code="no_luck")
    if do == "terminal":
        raise worker.Failure("no way", code="no_way", terminal=True)
    if do == "panic":
        raise RuntimeError("boom")
    if do == "hang":
        time.sleep(2 * task.lease)
        return done("hung")
    if do == "stubborn":
        time.sleep(3600)
    if do == "garbage":
        return b'{"type":"ops.v1.handler_response","effect":{"set":{"x":'
    if do == "large":
        return done("x" * (2 << 20))
    if do == "long":
        while time.monotonic() - began < 2.5 * task.lease:
            task.heartbeat()
            time.sleep(task.lease / 10)
    if do == "late" and task.attempt == 1:
        time.sleep(1.5 * task.lease)
        tell(task, "late")
        return done("late")
    if do == "until_told":
        while task.heartbeat():
            time.sleep(0.05)
        tell(task, "told")
        return done("zombie")
    if do == "slow":
        time.sleep(1)
    return done(task.attempt)


worker.serve({name: conform for name in sys.argv[3:]}, patience=2)
