"""Frames with random fields (scapy's `fuzz`), and combinations that no stack sends.

usage: damage.py INTERFACE OUR_ADDRESS GUEST_ADDRESS COUNT
"""

import random
import sys

from scapy.all import (
    ARP, BOOTP, DHCP, DNS, DNSQR, ICMP, IP, TCP, UDP, Ether, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS,
    ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, IPOption, IPv6, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Raw, conf, fuzz,
    getmacbyip, raw,
)

interface, ours, guest, count = sys.argv[1:5]
conf.verb = 0
conf.iface = interface
random.seed(2026)
mac = getmacbyip(guest)
if mac is None:
    sys.exit("no answer to ARP")

ether = Ether(dst=mac)
ip = IP(src=ours, dst=guest)
ip6 = IPv6(src="fe80::1", dst="fe80::5054:ff:fe12:56")


def flags():
    return ip / TCP(sport=random.randrange(65536), dport=random.choice([7, 80, 81]), flags=random.randrange(512),
                    seq=random.randrange(1 << 32), ack=random.randrange(1 << 32),
                    options=random.choice([[], [("MSS", 0)], [("WScale", 255)], [("Timestamp", (0, 0))]]))


def options():
    bad = IPOption(bytes(random.randrange(256) for _ in range(random.randrange(1, 40))))
    return IP(src=ours, dst=guest, options=[bad]) / random.choice([ICMP(), UDP(sport=40000, dport=7)])


makers = [
    flags,
    options,
    lambda: ip / fuzz(TCP(dport=80)),
    lambda: ip / fuzz(UDP(dport=7)) / Raw(b"x" * random.randrange(64)),
    lambda: ip / fuzz(ICMP()) / Raw(b"x" * random.randrange(64)),
    lambda: fuzz(IP(src=ours, dst=guest)) / UDP(sport=40000, dport=7) / Raw(b"x"),
    lambda: ip / UDP(sport=67, dport=68) / fuzz(BOOTP(op=2)) / DHCP(options=[("message-type", random.randrange(12)), "end"]),
    lambda: ip / UDP(sport=5353, dport=5353) / fuzz(DNS(qd=DNSQR(qname="ristretto.local"))),
    lambda: fuzz(ARP(psrc=ours, pdst=guest)),
    lambda: ip6 / fuzz(ICMPv6EchoRequest()),
    lambda: ip6 / fuzz(ICMPv6ND_NS()),
    lambda: ip6 / fuzz(ICMPv6ND_NA()),
    lambda: ip6 / fuzz(ICMPv6ND_RA()) / fuzz(ICMPv6NDOptPrefixInfo()),
    lambda: ip6 / fuzz(IPv6ExtHdrHopByHop()) / ICMPv6EchoRequest(),
    lambda: ip6 / fuzz(IPv6ExtHdrRouting()) / ICMPv6EchoRequest(),
]

socket = conf.L2socket(iface=interface)
sent = failed = 0
for number in range(int(count)):
    try:
        frame = raw(ether / makers[number % len(makers)]())[:1514]
    except Exception:  # some combinations of random fields are more than scapy itself can write down
        failed += 1
        continue
    socket.send(Raw(frame))
    sent += 1
if failed > sent:
    sys.exit(f"only {sent} of {count} frames could be made")
print(f"{sent} frames sent, {failed} could not be made")
