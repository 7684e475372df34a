"""A subscriber: adds up the volume of every symbol as trades happen. Run as many of these as you like.

python volume_by_symbol.py ipc:///run/riskwire 1000     # ends after event 1000
"""

import sys
from collections import Counter

from engine.codec import EventDecoder
from engine.events import TradeExecuted
from engine.subscriber import EventStream


def volume_by_symbol(base, last_seq):
    """Return the volume of each symbol up to last_seq."""
    volumes = Counter()
    decoder = EventDecoder()
    stream = EventStream(base)  # from the first event on; gaps are fetched by themselves
    for frame in stream:
        for seq, event in decoder.decode_all(frame):
            if isinstance(event, TradeExecuted) and seq <= last_seq:
                volumes[event.symbol] += event.volume
        if frame.first_seq + len(frame) > last_seq:
            break
    stream.close()
    return volumes


if __name__ == "__main__":
    for symbol, volume in sorted(volume_by_symbol(sys.argv[1], int(sys.argv[2])).items()):
        print(symbol, volume)
