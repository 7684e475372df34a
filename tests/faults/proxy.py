"""A proxy between two parts over tcp that delays, cuts, half-closes and stalls connections at random."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time

CHUNK_BYTES = 16384
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
FAULTS = ("none", "cut", "half-close up", "half-close down", "stall")


class BadNetwork:
    """Forwards `count` consecutive ports to others, badly until `heal` is called.

    faults: how many connections were ended or stalled by kind.
    """

    def __init__(self, listen: int, target: int, count: int, seed: int) -> None:
        self.faults: dict[str, int] = dict.fromkeys(FAULTS, 0)
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._healed = threading.Event()
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._servers = [self._listen(listen + i, target + i) for i in range(count)]

    def _listen(self, port: int, target: int) -> socket.socket:
        server = socket.create_server(("127.0.0.1", port), backlog=64)
        threading.Thread(target=self._accept, args=(server, target), daemon=True).start()
        return server

    def _accept(self, server: socket.socket, target: int) -> None:
        while not self._stopped.is_set():
            try:
                near, _ = server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", target), 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
                fault = self._rng.choice(FAULTS)
                after_s = self._rng.uniform(0.0, 0.5)
            stalled = threading.Event()
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink, stalled), daemon=True).start()
            if not self._healed.is_set():
                spoil = (near, far, fault, after_s, stalled)
                threading.Thread(target=self._spoil, args=spoil, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, stalled: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if stalled.is_set():
                    self._healed.wait()
                    return
                if not self._healed.is_set():
                    with self._lock:
                        delay_s = self._rng.choice((0.0, 0.0, 0.001, 0.02))
                    time.sleep(delay_s)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _spoil(
        self, near: socket.socket, far: socket.socket, fault: str, after_s: float, stalled: threading.Event
    ) -> None:
        """After a while do to a connection what was drawn for it."""
        self._healed.wait(after_s)
        with self._lock:
            self.faults[fault] += 1
        with contextlib.suppress(OSError):
            if fault == "cut":
                for end in (near, far):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    end.shutdown(socket.SHUT_RDWR)
                    end.close()
            elif fault == "half-close up":  # the engine hears an end, whoever has connected goes on speaking
                far.shutdown(socket.SHUT_WR)
            elif fault == "half-close down":
                near.shutdown(socket.SHUT_WR)
            elif fault == "stall":  # nothing goes through any more, and nobody hears an end
                stalled.set()

    def heal(self) -> None:
        """End every connection, and spoil none from now on."""
        self._healed.set()
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def stop(self) -> None:
        """Stop listening."""
        self._stopped.set()
        self.heal()
        for server in self._servers:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
