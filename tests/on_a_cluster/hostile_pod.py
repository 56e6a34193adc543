"""A program that means harm, in a pod with a sidecar: it speaks the session itself, with a token of its pod, and takes what
it can of each door that it reaches. It goes on until it is killed, and prints what it did, as JSON, each ten seconds.

    hostile_pod.py NAMESPACE QUOTA

No library of HTTP/2 or protobuf would write what this writes. Field numbers are those of session.proto."""

import http.client
import itertools
import json
import random
import socket
import ssl
import struct
import sys
import threading
import time

NAMESPACE, QUOTA = sys.argv[1:3]
LIMITER = "quotakeeper-limiter.quotakeeper.svc"
WEBHOOK = "quotakeeper-webhook.quotakeeper.svc"
TOKEN = "/hostile/token"
# Connections that are held open at each door, each with half of a head.
HELD = 300

done = {}
lock = threading.Lock()
forgeries = itertools.count()


def floods():
    """Whether calls without end are asked for now. They fill the workload's own part of the queue, so that hardly any is
    granted: at other times there are few, and answers of the granted ones are made up."""
    return time.monotonic() % 40 < 10


def did(what, times=1):
    with lock:
        done[what] = done.get(what, 0) + times


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    """A field of protobuf: a number, or bytes, a text or a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fixed(number, value):
    return varint(number << 3 | 1) + struct.pack("<Q", value)


def fields(data):
    """The fields of a message that is well-formed."""

    def read(at):
        number = shift = 0
        while True:
            number |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                return number, at

    at, found = 0, {}
    while at < len(data):
        key, at = read(at)
        if key & 7 == 0:
            found[key >> 3], at = read(at)
        elif key & 7 == 1:
            found[key >> 3], at = data[at : at + 8], at + 8
        else:
            length, at = read(at)
            found[key >> 3], at = data[at : at + length], at + length
    return found


def tls(host, port, alpn):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    return context.wrap_socket(socket.create_connection((host, port), 10), server_hostname=host)


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A field of HPACK that enters no table."""

    def text(value):
        return (bytes([len(value)]) if len(value) < 127 else b"\x7f" + varint(len(value) - 127)) + value

    return b"\0" + text(name.encode()) + text(value.encode())


def name():
    return f"n{random.getrandbits(60):x}"


def some_class():
    return field(1, name()) + field(2, name())


def rejection(kind, wait):
    scope = random.choice([field(1, b""), field(2, name()), field(3, name()), field(4, name())])
    waits = field(3, wait * 1_000_000_000) if wait else b""
    return field(1, kind) + field(2, scope) + waits + field(4, "forged")


class Session:
    """A session of a proxy that is none."""

    def __init__(self, token, loaded=False):
        self.stream = tls(LIMITER, 8443, "h2")
        self.calls = self.waiting = 0
        head = [(":method", "POST"), (":scheme", "https"), (":path", "/quotakeeper.session.v1.Sessions/Session"),
                (":authority", LIMITER), ("content-type", "application/grpc"), ("te", "trailers"),
                ("authorization", f"Bearer {token}")]
        block = b"".join(literal(*pair) for pair in head)
        self.stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(8, 0, 0, struct.pack(">I", 2**30))
                            + frame(1, 4, 1, block))
        hello = field(1, 1) + field(2, 1) + fixed(4, random.getrandbits(63)) + field(5, f"{NAMESPACE}/Job/hostile")
        hello += field(6, f"{NAMESPACE}/{QUOTA}")
        if loaded:
            # Answers of a time before, which never were.
            for number in range(100):
                rejected = fixed(1, 0) + field(3, rejection(random.choice([1, 4]), random.choice([0, 59, 3600])))
                hello += field(8, field(2, 10**6 + number) + field(3, 1) + field(4, 1) + field(6, some_class()) + field(10, rejected))
        self.say(field(2, hello))
        did("hellos")

    def say(self, body):
        message = fixed(1, time.clock_gettime_ns(time.CLOCK_BOOTTIME)) + body
        self.stream.sendall(frame(0, 0, 1, b"\0" + struct.pack(">I", len(message)) + message))

    def ask(self):
        """Calls of endpoints, models and credentials without end, or a few."""
        for _ in range(20 if floods() else max(0, 4 - self.waiting)):
            self.calls += 1
            self.waiting += 1
            self.say(field(4, field(2, self.calls) + field(3, some_class()) + fixed(6, random.getrandbits(63)) + field(7, 2**62)))
            did("asks")

    def forge(self, call, attempt):
        """Of a grant it makes an answer that nobody gave, or nothing."""
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        figures = field(2, field(1, "ten-seconds") + field(2, 1) + field(3, 0))
        rejected = lambda kind, wait: field(7, fixed(1, now) + figures + field(3, rejection(kind, wait)))
        # What holds the forger itself comes last.
        kinds = {"figures": field(6, fixed(1, now) + figures), "stops": rejected(4, 0), "concurrency": rejected(2, 0),
                 "silent": None, "pauses": rejected(1, 20), "hours": rejected(1, 3600)}
        kind = list(kinds)[next(forgeries) % len(kinds)]
        did(f"forged {kind}")
        if kinds[kind] is not None:
            report = field(2, call) + field(3, attempt)
            self.say(field(5 + 1, report + kinds[kind]))
            if kind == "figures":
                self.say(field(6, report + field(8, b"")))

    def listen(self, seconds):
        """Reads what comes for so long, and answers grants."""
        self.stream.settimeout(0.1)
        buffer, messages, ends = b"", b"", time.monotonic() + seconds
        while time.monotonic() < ends:
            try:
                read = self.stream.recv(65536)
                if not read:
                    raise OSError("closed")
                buffer += read
            except TimeoutError:
                self.say(field(3, b""))
                self.ask()
            while len(buffer) >= 9 and len(buffer) >= 9 + int.from_bytes(buffer[:3], "big"):
                length, kind, flags = int.from_bytes(buffer[:3], "big"), buffer[3], buffer[4]
                payload, buffer = buffer[9 : 9 + length], buffer[9 + length :]
                if kind == 6 and not flags & 1:
                    self.stream.sendall(frame(6, 1, 0, payload))
                elif kind == 0 and length:
                    messages += payload
                    window = struct.pack(">I", length)
                    self.stream.sendall(frame(8, 0, 0, window) + frame(8, 0, 1, window))
            while len(messages) >= 5 and len(messages) >= 5 + int.from_bytes(messages[1:5], "big"):
                length = int.from_bytes(messages[1:5], "big")
                message, messages = fields(messages[5 : 5 + length]), messages[5 + length :]
                if 3 in message:
                    grant = fields(message[3])
                    did("grants")
                    self.waiting -= 1
                    self.forge(grant.get(2, 0), grant.get(3, 1))


def sessions():
    with open(TOKEN) as file:
        token = file.read().strip()
    session = Session(token, loaded=random.random() < 0.5)
    session.listen(random.choice([1, 5, 20]) if floods() else 20)


def strangers():
    """Sessions with tokens that nobody has signed."""
    header = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ"
    Session(f"{header}.{name()}.{name()}").listen(0.5)
    did("made-up tokens")


def holds(host, port, secured):
    """Holds connections with half of a head."""
    held = []
    for _ in range(HELD):
        try:
            one = tls(host, port, "http/1.1") if secured else socket.create_connection((host, port), 5)
            one.sendall(b"GET / HTTP/1.1\r\nx-half: ")
            held.append(one)
        except OSError:
            did("refused connections")
    did(f"held {port}", len(held))
    time.sleep(5)
    for one in held:
        one.close()


def review(quotas):
    """A review of a pod that asks for these quotas."""
    pod = {"metadata": {"name": "a", "namespace": NAMESPACE, "annotations": {"quotakeeper.dev/quotas": quotas}},
           "spec": {"containers": [{"name": "a"}]}}
    request = {"uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "userInfo": {},
               "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": NAMESPACE, "object": pod}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})


def post(what, bodies):
    """Sends bodies to the webhook, one after the other."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(WEBHOOK, 443, timeout=10, context=context)
    for body in bodies:
        connection.request("POST", "/inject", body, {"content-type": "application/json"})
        connection.getresponse().read()
        did(what)


def reviews():
    """Reviews that are none, and large ones."""
    post("reviews", (review(",".join(name() for _ in range(20_000))), "x" * 9_000_000, "{"))


def dense_reviews():
    """Many times more values than a pod has."""
    post("dense reviews", ["[" + "[]," * 20_000 + "0]", '{"request": {"object": [' + "0," * 1_900_000 + "0]}}"])


def reviews_of_nothing():
    """Of quotas that do not exist, which the webhook waits for a moment."""
    post("reviews of nothing", [review(name()) for _ in range(5)])


def unfinished_reviews():
    """Reviews whose bodies do not come."""
    head = "POST /inject HTTP/1.1\r\nhost: webhook\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{"
    held = []
    for _ in range(100):
        held.append(tls(WEBHOOK, 443, "http/1.1"))
        held[-1].sendall(head.encode())
        did("unfinished reviews")
    time.sleep(1)
    for one in held:
        one.close()


def calls():
    """Calls through its own sidecar, with credentials that it makes up: what the provider says of them is reported."""
    if not floods():
        return time.sleep(1)
    connection = http.client.HTTPConnection("api.hubapi.com", timeout=30)
    for _ in range(5):
        headers = {"authorization": f"Bearer {name()}", "x-pad": "y" * 4000}
        connection.request("GET", f"/crm/v3/objects/contacts/{name()}", headers=headers)
        connection.getresponse().read()
        did("calls")


def forever(what, *words):
    def run():
        while True:
            try:
                what(*words)
            except (OSError, ValueError, IndexError, http.client.HTTPException) as error:
                did(f"{what.__name__} ended: {type(error).__name__}")
                time.sleep(0.2)

    threading.Thread(target=run, daemon=True).start()


for _ in range(3):
    forever(sessions)
forever(strangers)
forever(holds, LIMITER, 8443, False)
forever(holds, LIMITER, 8443, True)
forever(holds, WEBHOOK, 443, True)
forever(holds, "127.0.0.1", 15820, False)
for _ in range(2):
    forever(reviews)
    forever(dense_reviews)
for _ in range(8):
    forever(reviews_of_nothing)
forever(unfinished_reviews)
forever(calls)
while True:
    time.sleep(10)
    with lock:
        print(json.dumps(done, sort_keys=True), flush=True)
