"""A relay between a remote-client and its proxy-server, whose connections can
be cut, or go silent without a word to either end."""
import selectors
import socket
import threading

from harness import reset

PIECE = 65536


class _Way:
    """One direction of a connection; blocked while its target is full."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.waiting = b""
        self.ended = False      # end of file was read and passed on


class Relay:
    """relay.port leads to port.  One thread does the work; the calls below
    are from the scenario's."""

    def __init__(self, t, port, listen=0):
        self.to = port
        self.listener = socket.create_server(("127.0.0.1", listen))
        self.port = self.listener.getsockname()[1]
        self.listener.setblocking(False)
        self.lock = threading.RLock()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, None)
        self.pairs = []         # [visitor's socket, server's socket]
        self.silent = set()     # sockets that are no longer served
        self.mute_new = False   # those that come are silent at once
        self.closed = False
        self.accepted = 0
        self.passed = 0         # bytes
        t.thread(self._run)
        t._tidy.append(self.close)

    def hold(self, also_new=False):
        """From now on nothing passes on the connections that there are."""
        with self.lock:
            self.mute_new = also_new
            for pair in self.pairs:
                for s in pair:
                    self._silence(s)

    def let_new(self):
        with self.lock:
            self.mute_new = False

    def cut(self):
        """Reset all connections; how many there were."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
            for pair in pairs:
                for s in pair:
                    self._forget(s)
                    reset(s)
            return len(pairs)

    def close(self):
        with self.lock:
            if not self.closed:
                self.closed = True
                self.cut()
                self._forget(self.listener)
                self.listener.close()

    def _silence(self, s):
        self.silent.add(s)
        self._forget(s)

    def _forget(self, s):
        try:
            self.selector.unregister(s)
        except (KeyError, ValueError):
            pass

    def _run(self):
        while not self.closed:
            events = self.selector.select(0.02)
            with self.lock:
                for key, mask in events:
                    if self.closed or key.fileobj.fileno() < 0:
                        continue
                    if key.fileobj is self.listener:
                        self._accept()
                    elif key.fileobj not in self.silent:
                        self._turn(key.data)

    def _accept(self):
        try:
            near, _ = self.listener.accept()
        except OSError:
            return
        self.accepted += 1
        try:
            far = socket.create_connection(("127.0.0.1", self.to), 5)
        except OSError:
            reset(near)
            return
        pair = [near, far]
        self.pairs.append(pair)
        ways = [_Way(near, far), _Way(far, near)]
        for s in pair:
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.mute_new:
                self.silent.add(s)
            else:
                self.selector.register(s, selectors.EVENT_READ, ways)

    def _turn(self, ways):
        try:
            for way in ways:
                self._pass(way)
        except OSError:
            self._drop(ways)
            return
        if all(way.ended for way in ways):
            self._drop(ways, False)
            return
        for way, other in (ways, ways[::-1]):
            want = 0
            if not way.ended and not way.waiting:
                want |= selectors.EVENT_READ
            if other.waiting:
                want |= selectors.EVENT_WRITE
            self._forget(way.source)
            if want:
                self.selector.register(way.source, want, ways)

    def _pass(self, way):
        while not way.ended:
            if not way.waiting:
                try:
                    way.waiting = way.source.recv(PIECE)
                except BlockingIOError:
                    return
                if not way.waiting:
                    way.ended = True
                    way.target.shutdown(socket.SHUT_WR)
                    return
            try:
                n = way.target.send(way.waiting)
            except BlockingIOError:
                return
            self.passed += n
            way.waiting = way.waiting[n:]

    def _drop(self, ways, hard=True):
        pair = [ways[0].source, ways[1].source]
        self.pairs = [p for p in self.pairs if p[0] not in pair]
        for s in pair:
            self._forget(s)
            if hard:
                reset(s)
            else:
                s.close()
