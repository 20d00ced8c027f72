"""Makes calls by gRPC's C core, as orders on its input say, a line of JSON each, and writes what became of them."""
import collections
import json
import sys
import threading
import time

import grpc

last, channel = None, grpc.insecure_channel(sys.argv[1])
request = b"\x0a\x05hello"  # a StringValue


def call(order):
    global channel, last
    if order.get("target"):
        if last:
            last.close()  # the one before: without a channel, the stream to the xDS server would end
        last, channel = channel, grpc.insecure_channel(order["target"])
    out = {"by": collections.Counter(), "errors": collections.Counter(), "most": 0}
    lock = threading.Lock()
    left = [order["calls"]]
    method = channel.unary_unary(order["method"])

    def caller():
        while True:
            with lock:
                left[0] -= 1
                if left[0] < 0:
                    return
            began = time.monotonic()
            name, error = "", ""
            try:
                reply = method(request, timeout=order["timeout"] / 1000, wait_for_ready=order["wait"],
                               metadata=list((order["metadata"] or {}).items()))
                name = reply[2:].decode()
            except grpc.RpcError as e:
                error = "%s %s" % (e.code().name, e.details())
            with lock:
                out["most"] = max(out["most"], 1000 * (time.monotonic() - began))
                if error:
                    out["errors"][error] += 1
                else:
                    out["by"][name] += 1

    callers = [threading.Thread(target=caller) for _ in range(max(1, order["at"]))]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    return out


for line in sys.stdin:
    print(json.dumps(call(json.loads(line))), flush=True)
