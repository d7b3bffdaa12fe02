"""Datagrams that a UDP echo service must leave alone, and one that it must answer.

usage: unanswered.py INTERFACE OUR_ADDRESS GUEST_ADDRESS
"""

import sys
import time

from scapy.all import ICMP, IP, UDP, AsyncSniffer, Ether, Raw, conf, fragment, getmacbyip, sendp

interface, ours, guest = sys.argv[1:4]
conf.verb = 0
conf.iface = interface
mac = getmacbyip(guest)
if mac is None:
    sys.exit("no answer to ARP")


def echoes(packet, wait):
    """How many packets with the payload of `packet` come back."""
    marker = bytes(packet[Raw].load)
    sniffer = AsyncSniffer(
        iface=interface,
        lfilter=lambda seen: IP in seen and seen[Ether].src == mac and marker in bytes(seen),
    )
    sniffer.start()
    time.sleep(0.2)
    for part in fragment(packet, 1400):
        sendp(part, iface=interface)
    time.sleep(wait)
    return len(sniffer.stop())


def datagram(name, to=guest, sport=40000, mac=mac, source=ours):
    return Ether(dst=mac) / IP(src=source, dst=to) / UDP(sport=sport, dport=7) / Raw(name.encode())


everybody = "ff:ff:ff:ff:ff:ff"
silent = {
    "from echo": datagram("from echo", sport=7),
    "from chargen": datagram("from chargen", sport=19),
    "to broadcast": datagram("to broadcast", to="255.255.255.255", mac=everybody),
    "to the network": datagram("to the network", to=guest.rsplit(".", 1)[0] + ".255", mac=everybody),
    "to a group": datagram("to a group", to="224.0.0.1", mac="01:00:5e:00:00:01"),
    "wrong checksum": datagram("wrong checksum"),
    "fragments": datagram("fragments" * 200),
    "long ping in fragments": Ether(dst=mac) / IP(src=ours, dst=guest) / ICMP() / Raw(b"ping" * 500),
    "from broadcast": datagram("from broadcast", source="255.255.255.255"),
    "from itself": datagram("from itself", source=guest),
}
silent["wrong checksum"][UDP].chksum = 0x1234

trouble = []
if echoes(datagram("answer me"), 1.0) != 1:
    trouble.append("an ordinary datagram was not answered once")
for name, packet in silent.items():
    count = echoes(packet, 0.4)
    if count:
        trouble.append(f"a datagram {name} was answered {count} times")
if echoes(datagram("answer me again"), 1.0) != 1:
    trouble.append("at the end an ordinary datagram was not answered once")
print("; ".join(trouble) or "as it should be")
