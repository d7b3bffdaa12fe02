//! A whole interface on a wire made of two queues, with a clock that jumps from deadline to deadline.

use std::boxed::Box;
use std::collections::VecDeque;
use std::string::ToString;
use std::vec::Vec;

use smoltcp::iface::{self, Interface, SocketSet, SocketStorage};
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::wire::{
    ArpOperation, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetProtocol,
    Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
    NdiscNeighborFlags, NdiscPrefixInfoFlags, NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags,
    UdpPacket, UdpRepr,
};

use super::*;

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const PEER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);
const SERVER: Ipv4Address = Ipv4Address::new(192, 168, 7, 1);
const LEASED: Ipv4Address = Ipv4Address::new(192, 168, 7, 50);
const FE80: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const ROUTER6: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);

/// Our end of the wire.
#[derive(Default)]
struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: Vec<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.rx.pop_front()?), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// The poll loop as the image runs it, and everything seen on the way.
struct Net {
    wire: Wire,
    iface: Interface,
    sockets: SocketSet<'static>,
    addressing: Addressing,
    now: Instant,
    link_up: bool,
    server: Option<Server>,
    events: Vec<(Instant, Event)>,
    sent: Vec<(Instant, Vec<u8>)>,
    steps: u32,
}

fn automatic() -> Config<'static> {
    Config {
        hostname: "espresso",
        ipv4: Ipv4Config::Automatic,
        ipv6: Ipv6Config::Automatic,
    }
}

fn ipv4_only() -> Config<'static> {
    Config {
        ipv6: Ipv6Config::Off,
        ..automatic()
    }
}

fn static_v4() -> Config<'static> {
    let cidr = Ipv4Cidr::new(LEASED, 24);
    Config {
        ipv4: Ipv4Config::Static {
            cidr,
            gateway: Some(SERVER),
        },
        ..automatic()
    }
}

impl Net {
    fn new(config: Config<'_>) -> Self {
        let mut wire = Wire::default();
        let now = Instant::from_millis(1500);
        let mut iface = Interface::new(iface::Config::new(MAC.into()), &mut wire, now);
        let storage: &'static mut [SocketStorage<'static>] =
            Box::leak(Box::new([const { SocketStorage::EMPTY }; 4]));
        let mut sockets = SocketSet::new(storage);
        let mut addressing = Addressing::new(config, MAC, 42);
        addressing.attach(&mut iface, &mut sockets);
        Self {
            wire,
            iface,
            sockets,
            addressing,
            now,
            link_up: true,
            server: None,
            events: Vec::new(),
            sent: Vec::new(),
            steps: 0,
        }
    }

    fn with_server(config: Config<'_>) -> Self {
        Self {
            server: Some(Server::default()),
            ..Self::new(config)
        }
    }

    /// One turn of the poll loop.
    fn step(&mut self) {
        self.steps += 1;
        let now = self.now;
        while let Some(frame) = self.wire.rx.front() {
            if concerns(frame) {
                self.addressing.on_frame(now, frame);
            }
            self.iface
                .poll_ingress_single(now, &mut self.wire, &mut self.sockets);
        }
        let events = &mut self.events;
        let mut listener = |event| events.push((now, event));
        self.addressing.poll(
            now,
            self.link_up,
            &mut self.iface,
            &mut self.sockets,
            &mut listener,
        );
        let mut frame = [0; 90];
        while let Some(len) = self.addressing.take_frame(&mut frame) {
            self.wire.tx.push(frame[..len].to_vec());
        }
        self.iface.poll_maintenance(now);
        while self
            .iface
            .poll_egress(now, &mut self.wire, &mut self.sockets)
            != iface::PollResult::None
        {}
        for frame in std::mem::take(&mut self.wire.tx) {
            if self.link_up {
                if let Some(reply) = self
                    .server
                    .as_mut()
                    .and_then(|server| server.answer(now, &frame))
                {
                    self.wire.rx.push_back(reply);
                }
                self.sent.push((now, frame));
            }
        }
    }

    /// Runs until nothing is due before `end`, and stops there.
    fn run_to(&mut self, end: Instant) {
        let mut same = 0;
        loop {
            self.step();
            let stack = self.iface.poll_at(self.now, &self.sockets);
            let next = [stack, self.addressing.next_deadline()]
                .into_iter()
                .flatten()
                .min();
            let next = if self.wire.rx.is_empty() {
                next.unwrap_or(Instant::from_micros(i64::MAX))
            } else {
                self.now
            };
            if next > end {
                self.now = end;
                return;
            }
            same = if next > self.now { 0 } else { same + 1 };
            assert!(same < 50, "the loop spins at {}", self.now);
            self.now = self.now.max(next);
        }
    }

    fn run_ms(&mut self, ms: u64) {
        self.run_to(self.now + Duration::from_millis(ms));
    }

    fn set_link(&mut self, up: bool) {
        self.link_up = up;
        self.step();
    }

    fn receive(&mut self, frame: Vec<u8>) {
        self.wire.rx.push_back(frame);
        self.run_ms(0);
    }

    fn addrs(&self) -> Vec<std::string::String> {
        self.iface
            .ip_addrs()
            .iter()
            .map(|cidr| cidr.to_string())
            .collect()
    }

    fn link_local(&self) -> Option<Ipv4Address> {
        self.iface
            .ip_addrs()
            .iter()
            .find_map(|cidr| match cidr.address() {
                IpAddress::Ipv4(addr) if addr.is_link_local() => Some(addr),
                _ => None,
            })
    }

    fn gateway(&self) -> Option<IpAddress> {
        self.iface
            .routes()
            .get_default_ipv4_route()
            .map(|route| route.via_router)
    }

    fn has_event(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(|(_, event)| wanted(event))
    }

    /// Every ARP packet sent: when, operation, sender, target.
    fn arps(&self) -> Vec<(Instant, ArpOperation, Ipv4Address, Ipv4Address)> {
        let arp = |(at, frame): &(Instant, Vec<u8>)| {
            let ethernet = EthernetFrame::new_checked(&frame[..]).ok()?;
            let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
            let ArpRepr::EthernetIpv4 {
                operation,
                source_protocol_addr,
                target_protocol_addr,
                ..
            } = ArpRepr::parse(&packet).ok()?
            else {
                return None;
            };
            (ethernet.ethertype() == EthernetProtocol::Arp).then_some((
                *at,
                operation,
                source_protocol_addr,
                target_protocol_addr,
            ))
        };
        self.sent.iter().filter_map(arp).collect()
    }

    fn probes(&self) -> Vec<(Instant, Ipv4Address)> {
        let arps = self.arps().into_iter();
        arps.filter(|arp| arp.2.is_unspecified())
            .map(|arp| (arp.0, arp.3))
            .collect()
    }

    fn announcements(&self) -> Vec<(Instant, Ipv4Address)> {
        let arps = self.arps().into_iter();
        arps.filter(|arp| arp.1 == ArpOperation::Request && arp.2 == arp.3)
            .map(|arp| (arp.0, arp.3))
            .collect()
    }

    /// Every mDNS message sent: when, to whom (address and port), TTL, payload.
    fn mdns(&self) -> Vec<(Instant, IpAddress, u16, u8, Vec<u8>)> {
        self.sent
            .iter()
            .filter_map(|(at, frame)| {
                let ethernet = EthernetFrame::new_checked(&frame[..]).ok()?;
                let payload = ethernet.payload();
                let (to, ttl, udp) = match ethernet.ethertype() {
                    EthernetProtocol::Ipv4 => {
                        let ip = Ipv4Packet::new_checked(payload).ok()?;
                        (ip.next_header() == IpProtocol::Udp).then(|| {
                            (ip.dst_addr().into(), ip.hop_limit(), ip.payload().to_vec())
                        })?
                    }
                    EthernetProtocol::Ipv6 => {
                        let ip = Ipv6Packet::new_checked(payload).ok()?;
                        (ip.next_header() == IpProtocol::Udp).then(|| {
                            (ip.dst_addr().into(), ip.hop_limit(), ip.payload().to_vec())
                        })?
                    }
                    _ => return None,
                };
                let udp = UdpPacket::new_checked(&udp[..]).ok()?;
                (udp.src_port() == mdns::PORT)
                    .then(|| (*at, to, udp.dst_port(), ttl, udp.payload().to_vec()))
            })
            .collect()
    }
}

fn ethernet(
    destination: EthernetAddress,
    ethertype: EthernetProtocol,
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let mut bytes = vec![0; 14 + len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_src_addr(PEER);
    frame.set_dst_addr(destination);
    frame.set_ethertype(ethertype);
    fill(frame.payload_mut());
    bytes
}

fn udp_v4(source: (Ipv4Address, u16), to: (Ipv4Address, u16), payload: &[u8]) -> Vec<u8> {
    let caps = ChecksumCapabilities::default();
    let udp = UdpRepr {
        src_port: source.1,
        dst_port: to.1,
    };
    let ip = Ipv4Repr {
        src_addr: source.0,
        dst_addr: to.0,
        next_header: IpProtocol::Udp,
        payload_len: 8 + payload.len(),
        hop_limit: 255,
    };
    ethernet(MAC, EthernetProtocol::Ipv4, 28 + payload.len(), |bytes| {
        let mut packet = Ipv4Packet::new_unchecked(bytes);
        ip.emit(&mut packet, &caps);
        let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
        udp.emit(
            &mut datagram,
            &ip.src_addr.into(),
            &ip.dst_addr.into(),
            payload.len(),
            |out| {
                out.copy_from_slice(payload);
            },
            &caps,
        );
    })
}

fn arp(operation: ArpOperation, sender: Ipv4Address, target: Ipv4Address) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: PEER,
        source_protocol_addr: sender,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    ethernet(
        EthernetAddress::BROADCAST,
        EthernetProtocol::Arp,
        28,
        |bytes| {
            repr.emit(&mut ArpPacket::new_unchecked(bytes));
        },
    )
}

fn icmpv6(source: Ipv6Address, to: Ipv6Address, hop_limit: u8, message: NdiscRepr) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(message);
    let ip = Ipv6Repr {
        src_addr: source,
        dst_addr: to,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit,
    };
    let [.., a, b, c, d] = to.octets();
    let group = EthernetAddress([0x33, 0x33, a, b, c, d]);
    ethernet(
        group,
        EthernetProtocol::Ipv6,
        40 + message.buffer_len(),
        |bytes| {
            let mut packet = Ipv6Packet::new_unchecked(bytes);
            ip.emit(&mut packet);
            let mut icmp = Icmpv6Packet::new_unchecked(packet.payload_mut());
            message.emit(&source, &to, &mut icmp, &ChecksumCapabilities::default());
        },
    )
}

fn router_advert(hop_limit: u8, lifetime_s: u64, prefix: Ipv6Address, prefix_len: u8) -> Vec<u8> {
    let advert = NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: Duration::from_secs(lifetime_s),
        reachable_time: Duration::ZERO,
        retrans_time: Duration::ZERO,
        lladdr: None,
        mtu: None,
        prefix_info: Some(NdiscPrefixInformation {
            prefix_len,
            flags: NdiscPrefixInfoFlags::ADDRCONF | NdiscPrefixInfoFlags::ON_LINK,
            valid_lifetime: Duration::from_secs(600),
            preferred_lifetime: Duration::from_secs(300),
            prefix,
        }),
    };
    icmpv6(
        ROUTER6,
        Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        hop_limit,
        advert,
    )
}

/// A DHCP server with one address to give.
struct Server {
    offers: Ipv4Address,
    lease_s: u32,
    routers: &'static [Ipv4Address],
    silent: bool,
    seen: Vec<(Instant, DhcpMessageType)>,
    hostname: Vec<u8>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            offers: LEASED,
            lease_s: 3600,
            routers: &[SERVER],
            silent: false,
            seen: Vec::new(),
            hostname: Vec::new(),
        }
    }
}

impl Server {
    fn discovers(&self) -> Vec<Instant> {
        let discovers = self
            .seen
            .iter()
            .filter(|seen| seen.1 == DhcpMessageType::Discover);
        discovers.map(|seen| seen.0).collect()
    }

    fn answer(&mut self, now: Instant, frame: &[u8]) -> Option<Vec<u8>> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.ethertype() == EthernetProtocol::Arp {
            let asked = ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).ok()?).ok()?;
            let ArpRepr::EthernetIpv4 {
                source_protocol_addr: asker,
                target_protocol_addr: target,
                ..
            } = asked
            else {
                return None;
            };
            return (target == SERVER).then(|| arp(ArpOperation::Reply, SERVER, asker));
        }
        let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        let udp = UdpPacket::new_checked(ip.payload()).ok()?;
        if ethernet.ethertype() != EthernetProtocol::Ipv4 || udp.dst_port() != 67 {
            return None;
        }
        let packet = DhcpPacket::new_checked(udp.payload()).ok()?;
        let asked = DhcpRepr::parse(&packet).ok()?;
        self.seen.push((now, asked.message_type));
        self.hostname = packet
            .options()
            .find(|option| option.kind == 12)?
            .data
            .to_vec();
        if self.silent {
            return None;
        }
        let message_type = match asked.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            _ => DhcpMessageType::Ack,
        };
        let routers: Vec<u8> = self
            .routers
            .iter()
            .flat_map(|router| router.octets())
            .collect();
        let reply = DhcpRepr {
            message_type,
            your_ip: self.offers,
            client_ip: Ipv4Address::UNSPECIFIED,
            requested_ip: None,
            client_identifier: None,
            parameter_request_list: None,
            max_size: None,
            router: None,
            subnet_mask: Some(Ipv4Address::new(255, 255, 255, 0)),
            server_identifier: Some(SERVER),
            lease_duration: Some(self.lease_s),
            additional_options: &[DhcpOption {
                kind: 3,
                data: &routers,
            }],
            ..asked
        };
        let mut payload = vec![0; reply.buffer_len()];
        reply
            .emit(&mut DhcpPacket::new_unchecked(&mut payload))
            .unwrap();
        Some(udp_v4((SERVER, 67), (self.offers, 68), &payload))
    }
}

// DHCP

#[test]
fn discover_leaves_in_the_first_turn_and_names_the_host() {
    let mut net = Net::with_server(ipv4_only());
    net.step();
    let server = net.server.as_ref().unwrap();
    assert_eq!(server.seen, [(net.now, DhcpMessageType::Discover)]);
    assert_eq!(server.hostname, b"espresso");
}

#[test]
fn a_lease_gives_address_route_and_announcements() {
    let mut net = Net::with_server(ipv4_only());
    const TWO: &[Ipv4Address] = &[SERVER, Ipv4Address::new(192, 168, 7, 2)];
    net.server.as_mut().unwrap().routers = TWO;
    let start = net.now;
    net.run_ms(30_000);
    assert_eq!(net.addrs(), ["192.168.7.50/24"]);
    assert_eq!(net.gateway(), Some(SERVER.into()));
    let lease = Event::Lease {
        server: SERVER,
        duration: Some(Duration::from_secs(3600)),
        dns: None,
    };
    assert!(net.has_event(|event| *event == lease), "{:?}", net.events);
    assert_eq!(
        net.announcements(),
        [(start, LEASED), (start + Duration::from_secs(2), LEASED)]
    );
    assert_eq!(net.probes(), []);
}

#[test]
fn an_idle_interface_with_a_lease_sets_no_deadline() {
    let mut net = Net::with_server(automatic());
    net.run_ms(30_000);
    assert_eq!(net.addressing.next_deadline(), None);
    let steps = net.steps;
    net.run_ms(1_000_000);
    assert!(net.steps - steps <= 2, "{} turns", net.steps - steps);
}

#[test]
fn a_renewed_lease_is_reported_once() {
    let mut net = Net::with_server(ipv4_only());
    net.run_ms(10_000_000);
    let server = net.server.as_ref().unwrap();
    assert!(server.seen.len() > 4, "renewals: {:?}", server.seen);
    let leases = net
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Lease { .. }))
        .count();
    assert_eq!(leases, 1);
    assert_eq!(net.addrs(), ["192.168.7.50/24"]);
}

#[test]
fn an_expired_lease_takes_address_and_route_away_and_starts_the_fallback() {
    let mut net = Net::with_server(ipv4_only());
    net.run_ms(1000);
    net.server.as_mut().unwrap().silent = true;
    net.run_ms(3_598_000);
    assert_eq!(net.addrs(), ["192.168.7.50/24"]);
    net.run_ms(2000);
    assert_eq!((net.addrs().len(), net.gateway()), (0, None));
    assert!(net.has_event(|event| *event == Event::LeaseLost));
    net.run_ms(17_000);
    assert!(net.link_local().is_some());
}

#[test]
fn another_address_in_the_renewal_replaces_the_old_one() {
    let mut net = Net::with_server(ipv4_only());
    net.run_ms(1000);
    let server = net.server.as_mut().unwrap();
    (server.offers, server.routers) = (Ipv4Address::new(192, 168, 7, 51), &[]);
    net.run_ms(3_000_000);
    assert_eq!(
        (net.addrs(), net.gateway()),
        (vec!["192.168.7.51/24".to_string()], None)
    );
}

// Link-local

#[test]
fn without_a_server_three_probes_and_two_announcements_make_a_link_local_address() {
    for seed in 0..50 {
        let mut net = Net::with_server(ipv4_only());
        net.addressing.random = Random::new(seed);
        net.server.as_mut().unwrap().silent = true;
        let start = net.now;
        net.run_ms(40_000);
        let addr = net.link_local().unwrap();
        assert_eq!(net.gateway(), None);
        let probes = net.probes();
        assert_eq!(probes.len(), 3);
        assert!(probes.iter().all(|probe| probe.1 == addr));
        let waits: Vec<u64> = probes
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0).total_millis())
            .collect();
        assert!(
            waits.iter().all(|wait| (1000..=2000).contains(wait)),
            "{waits:?}"
        );
        let first_ms = (probes[0].0 - start).total_millis();
        assert!((10_000..=11_000).contains(&first_ms), "{first_ms}");
        let usable = probes[2].0 + Duration::from_secs(2);
        assert_eq!(
            net.announcements(),
            [(usable, addr), (usable + Duration::from_secs(2), addr)]
        );
        assert!(usable <= start + Duration::from_secs(17));
        let added = net
            .events
            .iter()
            .find(|(_, event)| matches!(event, Event::AddressAdded { .. }));
        assert_eq!(added.unwrap().0, usable);
        // DHCP goes on: quickly while somebody waits, then slowly.
        let discovers = net.server.as_ref().unwrap().discovers();
        let waits: Vec<u64> = discovers
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).total_millis())
            .collect();
        let quick = waits
            .iter()
            .take_while(|wait| (2500..=3000).contains(*wait))
            .count();
        assert!((4..=5).contains(&quick), "{waits:?}");
        assert!(
            waits[quick..]
                .iter()
                .all(|wait| (12_000..=15_000).contains(wait)),
            "{waits:?}"
        );
        assert!(waits.len() > quick);
    }
}

#[test]
fn a_conflict_while_probing_moves_on_to_another_address() {
    let taken = |addr| arp(ArpOperation::Reply, addr, addr);
    let wanted = |addr| arp(ArpOperation::Request, Ipv4Address::UNSPECIFIED, addr);
    for answer in [&taken as &dyn Fn(Ipv4Address) -> Vec<u8>, &wanted] {
        let mut net = Net::new(ipv4_only());
        net.run_ms(12_000);
        let (_, first) = net.probes()[0];
        net.receive(answer(first));
        assert!(net.has_event(|event| *event
            == Event::Conflict {
                addr: first,
                with: PEER
            }));
        net.run_ms(8000);
        let addr = net.link_local().unwrap();
        assert_ne!(addr, first);
        assert_eq!(
            net.probes().iter().filter(|probe| probe.1 == addr).count(),
            3
        );
    }
}

#[test]
fn our_own_packets_echoed_by_a_switch_are_no_conflict() {
    let mut net = Net::new(ipv4_only());
    net.run_ms(12_000);
    for _ in 0..2 {
        let (_, frame) = net
            .sent
            .iter()
            .rfind(|(_, frame)| frame[12..14] == [8, 6])
            .unwrap()
            .clone();
        net.receive(frame);
        net.run_ms(10_000);
    }
    assert_eq!((net.probes().len(), net.announcements().len()), (3, 2));
    assert!(!net.has_event(|event| matches!(event, Event::Conflict { .. })));
}

#[test]
fn a_link_local_address_is_defended_once_and_given_up_the_second_time() {
    let mut net = Net::new(ipv4_only());
    net.run_ms(30_000);
    let addr = net.link_local().unwrap();
    let announced = net.announcements().len();
    net.receive(arp(ArpOperation::Request, addr, SERVER));
    assert_eq!(net.announcements().len(), announced + 1);
    assert_eq!(net.link_local(), Some(addr));
    net.run_ms(9000);
    net.receive(arp(ArpOperation::Request, addr, SERVER));
    assert_eq!(net.link_local(), None);
    net.run_ms(8000);
    assert!(net.link_local().is_some_and(|new| new != addr));
}

#[test]
fn a_conflict_long_after_the_first_is_defended_again() {
    let mut net = Net::new(ipv4_only());
    net.run_ms(30_000);
    let addr = net.link_local().unwrap();
    for _ in 0..3 {
        net.receive(arp(ArpOperation::Request, addr, SERVER));
        net.run_ms(10_000);
    }
    assert_eq!(net.link_local(), Some(addr));
}

#[test]
fn a_late_server_retires_the_link_local_address_after_the_overlap() {
    let mut net = Net::new(ipv4_only());
    net.run_ms(20_000);
    let link_local = Ipv4Cidr::new(net.link_local().unwrap(), 16);
    net.server = Some(Server::default());
    while !net.has_event(|event| matches!(event, Event::Lease { .. })) {
        net.run_ms(100);
        assert!(net.now < Instant::from_secs(40));
    }
    // The lease comes first, so that smoltcp takes it as source towards the gateway.
    assert_eq!(
        net.addrs(),
        ["192.168.7.50/24".to_string(), link_local.to_string()]
    );
    net.run_ms(20_000);
    assert_eq!(net.addrs(), ["192.168.7.50/24"]);
    let at = |wanted: Event| {
        net.events
            .iter()
            .find(|(_, event)| *event == wanted)
            .unwrap()
            .0
    };
    let added = Event::AddressAdded {
        cidr: Ipv4Cidr::new(LEASED, 24).into(),
        origin: Origin::Dhcp,
    };
    let removed = Event::AddressRemoved {
        cidr: link_local.into(),
        origin: Origin::LinkLocal,
    };
    assert_eq!(at(removed), at(added) + OVERLAP);
}

#[test]
fn a_lease_while_probing_stops_the_probes() {
    let mut net = Net::new(ipv4_only());
    net.run_ms(10_000);
    assert!(net.has_event(|event| *event == Event::NoLease));
    net.server = Some(Server::default());
    net.run_ms(60_000);
    assert!((1..3).contains(&net.probes().len()), "{:?}", net.probes());
    assert_eq!(net.addrs(), ["192.168.7.50/24"]);
}

#[test]
fn a_lease_that_ends_during_the_overlap_leaves_the_link_local_address() {
    let mut net = Net::new(ipv4_only());
    net.run_ms(20_000);
    let link_local = net.link_local();
    net.server = Some(Server {
        lease_s: 5,
        ..Server::default()
    });
    while !net.has_event(|event| matches!(event, Event::Lease { .. })) {
        net.run_ms(100);
        assert!(net.now < Instant::from_secs(40));
    }
    net.server = None;
    net.run_ms(60_000);
    assert!(net.has_event(|event| *event == Event::LeaseLost));
    assert_eq!((net.addrs().len(), net.link_local()), (1, link_local));
    let gone = |event: &Event| {
        matches!(
            event,
            Event::AddressRemoved {
                origin: Origin::LinkLocal,
                ..
            }
        )
    };
    assert!(!net.has_event(gone));
}

#[test]
fn ten_conflicts_slow_the_search_down_until_the_link_comes_back() {
    let mut net = Net::new(ipv4_only());
    net.run_ms(10_000);
    for _ in 0..10 {
        net.run_ms(3000);
        let (_, candidate) = *net.probes().last().unwrap();
        net.receive(arp(ArpOperation::Reply, candidate, candidate));
    }
    net.run_ms(60_000);
    assert_eq!(net.link_local(), None);
    net.set_link(false);
    net.run_ms(10_000);
    net.set_link(true);
    net.run_ms(17_000);
    assert!(net.link_local().is_some());
}

// Static

#[test]
fn a_static_address_works_at_once_and_is_announced() {
    let mut net = Net::new(static_v4());
    let start = net.now;
    net.step();
    assert!(net.addrs().contains(&"192.168.7.50/24".to_string()));
    assert_eq!(net.gateway(), Some(SERVER.into()));
    net.run_ms(30_000);
    assert_eq!(
        net.announcements(),
        [(start, LEASED), (start + Duration::from_secs(2), LEASED)]
    );
}

#[test]
fn a_static_address_is_reported_and_kept_in_a_conflict() {
    let mut net = Net::new(static_v4());
    net.run_ms(30_000);
    let announced = net.announcements().len();
    for _ in 0..20 {
        net.receive(arp(ArpOperation::Reply, LEASED, LEASED));
        net.run_ms(100);
    }
    let conflicts = net.events.iter().filter(|(_, event)| {
        *event
            == Event::Conflict {
                addr: LEASED,
                with: PEER,
            }
    });
    assert_eq!(conflicts.count(), 1);
    assert_eq!(net.announcements().len(), announced + 1);
    assert!(net.addrs().contains(&"192.168.7.50/24".to_string()));
}

#[test]
fn somebody_elses_probe_for_our_address_is_answered() {
    let mut net = Net::new(static_v4());
    net.run_ms(5000);
    net.receive(arp(ArpOperation::Request, Ipv4Address::UNSPECIFIED, LEASED));
    let (_, operation, sender, _) = *net.arps().last().unwrap();
    assert_eq!((operation, sender), (ArpOperation::Reply, LEASED));
    let before = net.arps().len();
    net.receive(arp(ArpOperation::Request, Ipv4Address::UNSPECIFIED, SERVER));
    assert_eq!(net.arps().len(), before);
}

#[test]
fn addresses_that_no_host_can_have_are_refused_not_fatal() {
    for addr in [
        Ipv4Address::BROADCAST,
        Ipv4Address::new(224, 0, 0, 1),
        Ipv4Address::LOCALHOST,
        Ipv4Address::UNSPECIFIED,
    ] {
        let cidr = Ipv4Cidr::new(addr, 24);
        let mut net = Net::new(Config {
            ipv4: Ipv4Config::Static {
                cidr,
                gateway: None,
            },
            ..ipv4_only()
        });
        net.run_ms(5000);
        assert!(
            net.has_event(|event| matches!(event, Event::AddressRefused { .. })),
            "{addr}"
        );
        assert_eq!(net.addrs().len(), 0);
    }
}

#[test]
fn a_gateway_no_router_can_be_is_left_out() {
    let cidr = Ipv4Cidr::new(LEASED, 24);
    for gateway in [
        Ipv4Address::UNSPECIFIED,
        Ipv4Address::BROADCAST,
        mdns::GROUP_V4,
    ] {
        let ipv4 = Ipv4Config::Static {
            cidr,
            gateway: Some(gateway),
        };
        let mut net = Net::new(Config {
            ipv4,
            ..ipv4_only()
        });
        net.run_ms(1000);
        assert_eq!(net.gateway(), None);
    }
}

#[test]
fn a_static_ipv6_address_stands_next_to_fe80_and_ignores_routers() {
    let cidr = Ipv6Cidr::new(Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5), 64);
    let config = Config {
        ipv6: Ipv6Config::Static {
            cidr,
            gateway: Some(ROUTER6),
        },
        ..static_v4()
    };
    let mut net = Net::new(config);
    net.run_ms(5000);
    net.receive(router_advert(
        255,
        1800,
        Ipv6Address::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 0),
        64,
    ));
    let mut addrs = net.addrs();
    addrs.sort();
    assert_eq!(
        addrs,
        ["192.168.7.50/24", "2001:db8::5/64", "fe80::ff:fe00:1/64"]
    );
    assert_eq!(
        net.iface
            .routes()
            .get_default_ipv6_route()
            .map(|route| route.via_router),
        Some(ROUTER6.into())
    );
}

// IPv6

const PREFIX: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 0);
const SLAAC_ADDR: &str = "2001:db8:0:7:0:ff:fe00:1/64";

fn router_solicits(net: &Net) -> Vec<Instant> {
    let solicit = |(_, frame): &&(Instant, Vec<u8>)| {
        frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[21] == 255 && frame[54] == 133
    };
    net.sent.iter().filter(solicit).map(|sent| sent.0).collect()
}

#[test]
fn three_solicitations_when_no_router_answers() {
    let mut net = Net::with_server(automatic());
    let start = net.now;
    net.run_ms(60_000);
    let expected = [0, 4, 8].map(|second| start + Duration::from_secs(second));
    assert_eq!(router_solicits(&net), expected);
    // The stack's own parser takes them for valid.
    let frame = &net
        .sent
        .iter()
        .find(|(_, frame)| frame.get(54) == Some(&133))
        .unwrap()
        .1;
    let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    let icmp = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    let caps = ChecksumCapabilities::default();
    let parsed = Icmpv6Repr::parse(&packet.src_addr(), &packet.dst_addr(), &icmp, &caps).unwrap();
    assert_eq!(
        parsed,
        Icmpv6Repr::Ndisc(NdiscRepr::RouterSolicit {
            lladdr: Some(MAC.into())
        })
    );
    assert_eq!(packet.src_addr(), FE80);
}

#[test]
fn an_advertisement_gives_address_and_route_until_they_run_out() {
    let mut net = Net::with_server(automatic());
    net.run_ms(1000);
    net.receive(router_advert(255, 300, PREFIX, 64));
    assert!(
        net.addrs().contains(&SLAAC_ADDR.to_string()),
        "{:?}",
        net.addrs()
    );
    let route = |net: &Net| {
        net.iface
            .routes()
            .get_default_ipv6_route()
            .map(|route| route.via_router)
    };
    assert_eq!(route(&net), Some(ROUTER6.into()));
    assert_eq!(router_solicits(&net).len(), 1);
    net.run_ms(299_000);
    assert_eq!(route(&net), Some(ROUTER6.into()));
    net.run_ms(2000);
    assert_eq!(route(&net), None);
    net.run_ms(298_000);
    assert!(net.addrs().contains(&SLAAC_ADDR.to_string()));
    net.run_ms(2000);
    assert!(!net.addrs().contains(&SLAAC_ADDR.to_string()));
    let removed = |event: &Event| {
        matches!(
            event,
            Event::AddressRemoved {
                origin: Origin::Slaac,
                ..
            }
        )
    };
    assert!(net.has_event(removed));
}

#[test]
fn advertisements_that_were_routed_or_would_panic_smoltcp_are_ignored() {
    let mut net = Net::with_server(automatic());
    net.run_ms(1000);
    let before = net.addrs();
    let mut damaged = router_advert(255, 300, PREFIX, 64);
    *damaged.last_mut().unwrap() ^= 1;
    for frame in [
        router_advert(254, 300, PREFIX, 64),
        router_advert(255, 0, PREFIX, 200),
        router_advert(255, 0, Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 64),
        damaged,
    ] {
        net.receive(frame);
    }
    assert_eq!(net.addrs(), before);
    assert_eq!(
        net.iface
            .routes()
            .get_default_ipv6_route()
            .map(|route| route.via_router),
        None
    );
}

#[test]
fn duplicate_address_detection_by_others_is_answered() {
    let mut net = Net::with_server(automatic());
    net.run_ms(1000);
    let ask = |target_addr: Ipv6Address| {
        let [.., a, b, c] = target_addr.octets();
        let group = Ipv6Address::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
        let solicit = NdiscRepr::NeighborSolicit {
            target_addr,
            lladdr: None,
        };
        icmpv6(Ipv6Address::UNSPECIFIED, group, 255, solicit)
    };
    let adverts = |net: &Net| {
        let advert =
            |(_, frame): &&(Instant, Vec<u8>)| frame[12..14] == [0x86, 0xdd] && frame[54] == 136;
        net.sent
            .iter()
            .filter(advert)
            .map(|sent| sent.1.clone())
            .collect::<Vec<_>>()
    };
    net.receive(ask(ROUTER6));
    assert_eq!(adverts(&net).len(), 0);
    net.receive(ask(FE80));
    let packet = adverts(&net).remove(0);
    let packet = Ipv6Packet::new_checked(&packet[14..]).unwrap();
    let icmp = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    let parsed = Icmpv6Repr::parse(
        &packet.src_addr(),
        &packet.dst_addr(),
        &icmp,
        &ChecksumCapabilities::default(),
    )
    .unwrap();
    let flags = NdiscNeighborFlags::OVERRIDE;
    let expected = NdiscRepr::NeighborAdvert {
        flags,
        target_addr: FE80,
        lladdr: Some(MAC.into()),
    };
    assert_eq!(parsed, Icmpv6Repr::Ndisc(expected));
}

// Link

#[test]
fn a_short_loss_of_link_keeps_addresses_and_asks_again() {
    let mut net = Net::with_server(automatic());
    net.run_ms(5000);
    net.receive(router_advert(255, 1800, PREFIX, 64));
    net.run_ms(15_000);
    let (addrs, events, discovers) = (
        net.addrs(),
        net.events.len(),
        net.server.as_ref().unwrap().discovers().len(),
    );
    net.set_link(false);
    net.run_ms(3000);
    net.set_link(true);
    net.run_ms(2000);
    net.receive(router_advert(255, 1800, PREFIX, 64));
    net.run_ms(60_000);
    assert_eq!(net.addrs(), addrs);
    assert_eq!(
        net.server.as_ref().unwrap().discovers().len(),
        discovers + 1
    );
    assert_eq!(router_solicits(&net).len(), 2 + 1);
    let new: Vec<_> = net.events[events..]
        .iter()
        .map(|(_, event)| event.to_string())
        .collect();
    assert_eq!(new, ["name espresso.local"]);
}

#[test]
fn what_is_not_confirmed_after_a_short_loss_of_link_goes() {
    let mut net = Net::with_server(automatic());
    net.run_ms(5000);
    net.receive(router_advert(255, 1800, PREFIX, 64));
    net.set_link(false);
    net.run_ms(3000);
    net.server = None;
    net.set_link(true);
    net.run_ms(9900);
    assert!(net.addrs().contains(&"192.168.7.50/24".to_string()));
    net.run_ms(10_000);
    assert!(!net.addrs().contains(&"192.168.7.50/24".to_string()));
    assert!(!net.addrs().contains(&SLAAC_ADDR.to_string()));
    assert!(net.link_local().is_some());
}

#[test]
fn a_long_loss_of_link_leaves_only_what_is_fixed() {
    let mut net = Net::with_server(automatic());
    net.run_ms(1000);
    net.receive(router_advert(255, 1800, PREFIX, 64));
    net.run_ms(10_000);
    net.set_link(false);
    net.run_ms(3900);
    assert_eq!(net.addrs().len(), 3);
    net.run_ms(200);
    assert_eq!(net.addrs(), ["fe80::ff:fe00:1/64"]);
    assert_eq!(
        (
            net.gateway(),
            net.iface.routes().get_default_ipv6_route().is_none()
        ),
        (None, true)
    );
    // No work while the link is down.
    let steps = net.steps;
    net.run_ms(3_600_000);
    assert!(net.steps - steps <= 2);
    let server = net.server.as_mut().unwrap();
    server.offers = Ipv4Address::new(192, 168, 7, 60);
    net.set_link(true);
    let up = net.now;
    assert_eq!(net.server.as_ref().unwrap().discovers().last(), Some(&up));
    net.run_ms(1000);
    assert!(net.addrs().contains(&"192.168.7.60/24".to_string()));
}

#[test]
fn a_link_that_comes_late_starts_everything_then() {
    let mut net = Net::with_server(automatic());
    net.link_up = false;
    net.run_ms(60_000);
    assert_eq!(net.sent, []);
    net.set_link(true);
    assert_eq!(net.server.as_ref().unwrap().discovers(), [net.now]);
    net.run_ms(5000);
    assert!(net.addrs().contains(&"192.168.7.50/24".to_string()));
    assert!(net.has_event(|event| matches!(event, Event::NameClaimed { .. })));
}

#[test]
fn garbage_is_ignored() {
    let mut net = Net::with_server(automatic());
    net.run_ms(20_000);
    let addrs = net.addrs();
    let frames = [
        arp(ArpOperation::Request, LEASED, SERVER),
        router_advert(255, 1800, PREFIX, 64),
        udp_v4((SERVER, 5353), (LEASED, 5353), &[0xff; 40]),
    ];
    for frame in frames {
        for len in 0..frame.len() {
            assert_eq!(net.addrs(), addrs);
            net.addressing.on_frame(net.now, &frame[..len]);
            net.receive(frame[..len].to_vec());
        }
    }
}

// mDNS

fn query(id: u16, questions: &[(&[&str], u16, u16)], answers: &[u8], answer_count: u8) -> Vec<u8> {
    let mut message = vec![0; 12];
    message[..2].copy_from_slice(&id.to_be_bytes());
    (message[5], message[7]) = (questions.len() as u8, answer_count);
    for (labels, kind, class) in questions {
        for label in *labels {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&class.to_be_bytes());
    }
    message.extend_from_slice(answers);
    message
}

fn ready() -> Net {
    let mut net = Net::new(static_v4());
    net.run_ms(60_000);
    net.sent.clear();
    net
}

const HOST: &[&str] = &["espresso", "local"];
const GROUP: (Ipv4Address, u16) = (mdns::GROUP_V4, 5353);
const ASKER: Ipv4Address = Ipv4Address::new(192, 168, 7, 77);

/// `espresso.local` as on the wire.
const HOST_WIRE: &[u8] = b"\x08espresso\x05local\x00";

#[test]
fn the_name_is_probed_three_times_and_announced_twice_on_both_ip_versions() {
    let mut net = Net::new(static_v4());
    net.run_ms(60_000);
    for group in [
        IpAddress::Ipv4(mdns::GROUP_V4),
        IpAddress::Ipv6(mdns::GROUP_V6),
    ] {
        let sent: Vec<_> = net
            .mdns()
            .into_iter()
            .filter(|message| message.1 == group)
            .collect();
        assert!(
            sent.iter()
                .all(|message| message.2 == 5353 && message.3 == 255)
        );
        let kinds: Vec<bool> = sent
            .iter()
            .map(|message| message.4[2] & 0x80 != 0)
            .collect();
        assert_eq!(kinds, [false, false, false, true, true]);
        let waits: Vec<u64> = sent
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0).total_millis())
            .collect();
        assert_eq!(waits, [250, 250, 250, 1000]);
        // The probe asks for ANY with QU, and shows the records it is going to claim.
        let probe = &sent[0].4;
        assert_eq!(probe[4..12], [0, 1, 0, 0, 0, 2, 0, 0]);
        assert_eq!(
            probe[12..][..HOST_WIRE.len() + 4],
            [HOST_WIRE, &[0, 255, 0x80, 1]].concat()
        );
    }
    let claimed = Event::NameClaimed {
        label: HostLabel::try_from("espresso").unwrap(),
    };
    assert!(net.has_event(|event| *event == claimed));
}

#[test]
fn an_address_query_is_answered_by_multicast() {
    let mut net = ready();
    net.receive(udp_v4(
        (ASKER, 5353),
        GROUP,
        &query(0, &[(&["Espresso", "LOCAL"], 1, 1)], &[], 0),
    ));
    let [(_, to, port, ttl, answer)] = &net.mdns()[..] else {
        panic!("{:?}", net.mdns())
    };
    assert_eq!(
        (*to, *port, *ttl),
        (IpAddress::Ipv4(mdns::GROUP_V4), 5353, 255)
    );
    // Header: no id, response and authoritative, no question, one answer, one additional.
    assert_eq!(answer[..12], [0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    // A, class IN with cache flush, 120 s, four bytes.
    let a = [
        HOST_WIRE,
        &[0, 1, 0x80, 1, 0, 0, 0, 120, 0, 4, 192, 168, 7, 50],
    ]
    .concat();
    assert_eq!(answer[12..][..a.len()], a);
    let aaaa = [
        HOST_WIRE,
        &[0, 28, 0x80, 1, 0, 0, 0, 120, 0, 16],
        &FE80.octets(),
    ]
    .concat();
    assert_eq!(answer[12 + a.len()..], aaaa);
}

#[test]
fn the_same_question_within_a_second_is_answered_once() {
    let mut net = ready();
    let ask = udp_v4((ASKER, 5353), GROUP, &query(0, &[(HOST, 1, 1)], &[], 0));
    net.receive(ask.clone());
    net.run_ms(500);
    net.receive(ask.clone());
    assert_eq!(net.mdns().len(), 1);
    let other = query(0, &[(&["_http", "_tcp", "local"], 12, 1)], &[], 0);
    net.receive(udp_v4((ASKER, 5353), GROUP, &other));
    assert_eq!(net.mdns().len(), 2);
    net.run_ms(1000);
    net.receive(ask);
    assert_eq!(net.mdns().len(), 3);
}

#[test]
fn a_question_for_a_unicast_answer_gets_one() {
    let mut net = ready();
    // The asker's hardware address must be known, as after its own query over ARP.
    net.receive(arp(ArpOperation::Request, ASKER, LEASED));
    net.sent.clear();
    let ask = udp_v4(
        (ASKER, 5353),
        GROUP,
        &query(0, &[(HOST, 28, 0x8001)], &[], 0),
    );
    net.receive(ask.clone());
    // The first also goes to the group, for the announcement is long ago.
    let to: Vec<_> = net.mdns().iter().map(|message| message.1).collect();
    assert_eq!(
        to,
        [IpAddress::Ipv4(mdns::GROUP_V4), IpAddress::Ipv4(ASKER)]
    );
    net.sent.clear();
    net.run_ms(5000);
    net.receive(ask);
    let to: Vec<_> = net.mdns().iter().map(|message| message.1).collect();
    assert_eq!(to, [IpAddress::Ipv4(ASKER)]);
}

#[test]
fn a_plain_resolver_gets_its_id_and_question_back_and_a_short_ttl() {
    let mut net = ready();
    net.receive(arp(ArpOperation::Request, ASKER, LEASED));
    net.sent.clear();
    net.receive(udp_v4(
        (ASKER, 50_000),
        GROUP,
        &query(0x1234, &[(HOST, 1, 1)], &[], 0),
    ));
    let [(_, to, port, _, answer)] = &net.mdns()[..] else {
        panic!("{:?}", net.mdns())
    };
    assert_eq!((*to, *port), (IpAddress::Ipv4(ASKER), 50_000));
    let a = [HOST_WIRE, &[0, 1, 0, 1, 0, 0, 0, 10, 0, 4, 192, 168, 7, 50]].concat();
    let expected = [
        &[0x12, 0x34, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 1],
        HOST_WIRE,
        &[0, 1, 0, 1],
        &a,
    ]
    .concat();
    assert_eq!(answer[..expected.len()], expected);
}

#[test]
fn what_the_asker_knows_is_not_repeated() {
    let mut net = ready();
    let known = |ttl, last| {
        [
            HOST_WIRE,
            &[0, 1, 0, 1, 0, 0, 0, ttl, 0, 4, 192, 168, 7, last],
        ]
        .concat()
    };
    let mut ask = |known: &[u8]| {
        net.sent.clear();
        net.run_ms(2000);
        net.receive(udp_v4(
            (ASKER, 5353),
            GROUP,
            &query(0, &[(HOST, 1, 1)], known, 1),
        ));
        net.mdns().len()
    };
    assert_eq!(ask(&known(60, 50)), 0);
    assert_eq!(ask(&known(59, 50)), 1);
    assert_eq!(ask(&known(60, 51)), 1);
}

#[test]
fn a_missing_record_type_is_denied_by_nsec() {
    let mut net = Net::new(Config {
        ipv6: Ipv6Config::Off,
        ..static_v4()
    });
    net.run_ms(60_000);
    net.sent.clear();
    net.receive(udp_v4(
        (ASKER, 5353),
        GROUP,
        &query(0, &[(HOST, 28, 1)], &[], 0),
    ));
    let [(.., answer)] = &net.mdns()[..] else {
        panic!("{:?}", net.mdns())
    };
    let len = (HOST_WIRE.len() + 3) as u8;
    let nsec = [
        HOST_WIRE,
        &[0, 47, 0x80, 1, 0, 0, 0, 120, 0, len],
        HOST_WIRE,
        &[0, 1, 0x40],
    ]
    .concat();
    assert_eq!(answer[6..8], [0, 1]);
    assert_eq!(answer[12..][..nsec.len()], nsec);
}

#[test]
fn the_web_server_can_be_browsed_for() {
    let mut net = ready();
    net.receive(udp_v4(
        (ASKER, 5353),
        GROUP,
        &query(0, &[(&["_http", "_tcp", "local"], 12, 1)], &[], 0),
    ));
    let [(.., answer)] = &net.mdns()[..] else {
        panic!("{:?}", net.mdns())
    };
    // One pointer; SRV, TXT, A and AAAA with it.
    assert_eq!(answer[6..12], [0, 1, 0, 0, 0, 4]);
    let instance = b"\x08espresso\x05_http\x04_tcp\x05local\x00";
    let pointer = [
        &b"\x05_http\x04_tcp\x05local\x00"[..],
        &[0, 12, 0, 1, 0, 0, 17, 148, 0, 27],
        instance,
    ]
    .concat();
    assert_eq!(answer[12..][..pointer.len()], pointer);
    let srv = [
        &instance[..],
        &[0, 33, 0x80, 1, 0, 0, 0, 120, 0, 22, 0, 0, 0, 0, 0, 80],
        HOST_WIRE,
    ]
    .concat();
    assert!(answer.windows(srv.len()).any(|window| window == srv));
}

#[test]
fn names_of_others_and_askers_from_elsewhere_get_no_answer() {
    let mut net = ready();
    let far = Ipv4Address::new(10, 1, 2, 3);
    for (source, labels) in [
        (ASKER, &["espress", "local"][..]),
        (ASKER, &["espresso", "com"]),
        (far, HOST),
    ] {
        net.receive(udp_v4(
            (source, 5353),
            GROUP,
            &query(0, &[(labels, 1, 1)], &[], 0),
        ));
    }
    assert_eq!(net.mdns(), []);
}

/// Somebody's announcement that `espresso.local` is 192.168.7.77.
fn rival() -> Vec<u8> {
    let a = [
        HOST_WIRE,
        &[0, 1, 0x80, 1, 0, 0, 0, 120, 0, 4, 192, 168, 7, 77],
    ]
    .concat();
    let mut message = query(0, &[], &a, 1);
    message[2] = 0x84;
    udp_v4((ASKER, 5353), GROUP, &message)
}

#[test]
fn a_name_taken_while_probing_gets_a_number() {
    let mut net = Net::new(static_v4());
    net.run_ms(300);
    net.receive(rival());
    assert!(net.has_event(
        |event| matches!(event, Event::NameConflict { label, .. } if label == "espresso")
    ));
    net.run_ms(60_000);
    assert_eq!(net.addressing.hostname(), "espresso-2");
    let claimed: Vec<_> = net
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::NameClaimed { label } => Some(label.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(claimed, ["espresso-2"]);
}

#[test]
fn a_rival_later_on_is_probed_again_and_yields_if_it_is_gone() {
    let mut net = ready();
    net.receive(rival());
    net.run_ms(60_000);
    assert_eq!(net.addressing.hostname(), "espresso");
    // Three probes and two announcements for each IP version.
    assert_eq!(net.mdns().len(), 10);
}

#[test]
fn of_two_probers_the_greater_address_wins() {
    for (last, first_delay_ms) in [(77, 1000), (10, 0)] {
        let mut net = Net::new(Config {
            ipv6: Ipv6Config::Off,
            ..static_v4()
        });
        net.run_ms(300);
        let sent = net.mdns().len();
        assert!(sent > 0);
        let a = [
            HOST_WIRE,
            &[0, 1, 0, 1, 0, 0, 0, 120, 0, 4, 192, 168, 7, last],
        ]
        .concat();
        let mut probe = query(0, &[(HOST, 255, 0x8001)], &a, 0);
        probe[9] = 1;
        net.receive(udp_v4((ASKER, 5353), GROUP, &probe));
        let heard = net.now;
        net.run_ms(60_000);
        let wait_ms = (net.mdns()[sent].0 - heard).total_millis();
        if first_delay_ms > 0 {
            assert_eq!(wait_ms, first_delay_ms)
        } else {
            assert!(wait_ms <= 250)
        }
        assert_eq!(net.addressing.hostname(), "espresso");
    }
}

#[test]
fn a_probe_for_our_name_is_answered_at_once() {
    let mut net = ready();
    net.receive(udp_v4(
        (ASKER, 5353),
        GROUP,
        &query(0, &[(HOST, 255, 1)], &[], 0),
    ));
    assert_eq!(net.mdns().len(), 1);
    let a = [
        HOST_WIRE,
        &[0, 1, 0, 1, 0, 0, 0, 120, 0, 4, 192, 168, 7, 77],
    ]
    .concat();
    let mut probe = query(0, &[(HOST, 255, 1)], &a, 0);
    probe[9] = 1;
    net.receive(udp_v4((ASKER, 5353), GROUP, &probe));
    assert_eq!(net.mdns().len(), 2);
}

#[test]
fn goodbyes_echoes_and_plain_dns_answers_are_no_conflict() {
    let mut net = ready();
    let answer = |ttl: u8, last: u8| {
        let a = [
            HOST_WIRE,
            &[0, 1, 0x80, 1, 0, 0, 0, ttl, 0, 4, 192, 168, 7, last],
        ]
        .concat();
        let mut message = query(0, &[], &a, 1);
        message[2] = 0x84;
        message
    };
    net.receive(udp_v4((ASKER, 5353), GROUP, &answer(0, 77)));
    net.receive(udp_v4((ASKER, 5353), GROUP, &answer(120, 50)));
    net.receive(udp_v4((ASKER, 53), GROUP, &answer(120, 77)));
    net.run_ms(5000);
    assert_eq!(net.mdns(), []);
    net.receive(udp_v4((ASKER, 5353), GROUP, &answer(120, 77)));
    assert!(net.has_event(|event| matches!(event, Event::NameConflict { .. })));
}

#[test]
fn other_classes_and_operations_get_no_answer() {
    let mut net = ready();
    net.receive(udp_v4(
        (ASKER, 5353),
        GROUP,
        &query(0, &[(HOST, 1, 3)], &[], 0),
    ));
    let mut update = query(0, &[(HOST, 1, 1)], &[], 0);
    update[2] = 5 << 3;
    net.receive(udp_v4((ASKER, 5353), GROUP, &update));
    assert_eq!(net.mdns(), []);
    net.receive(udp_v4(
        (ASKER, 5353),
        GROUP,
        &query(0, &[(HOST, 1, 255)], &[], 0),
    ));
    assert_eq!(net.mdns().len(), 1);
}

#[test]
fn the_first_ipv4_address_is_probed_for_among_ipv4_hosts() {
    let mut net = Net::new(automatic());
    net.run_ms(60_000);
    assert!(net.link_local().is_some());
    let group = IpAddress::Ipv4(mdns::GROUP_V4);
    let sent: Vec<_> = net
        .mdns()
        .into_iter()
        .filter(|message| message.1 == group)
        .collect();
    let kinds: Vec<bool> = sent
        .iter()
        .map(|message| message.4[2] & 0x80 != 0)
        .collect();
    assert_eq!(kinds, [false, false, false, true, true]);
}

#[test]
fn a_neighbour_that_does_not_answer_arp_does_not_block_the_others() {
    let mut net = ready();
    // Nobody has this address; the answer to it can never leave.
    let nobody = Ipv4Address::new(192, 168, 7, 99);
    net.receive(udp_v4(
        (nobody, 50_000),
        GROUP,
        &query(1, &[(HOST, 1, 1)], &[], 0),
    ));
    net.run_ms(10_000);
    assert_eq!((net.mdns().len(), net.addressing.dropped()), (0, 1));
    assert_eq!(net.iface.poll_at(net.now, &net.sockets), None);
    assert_eq!(net.addressing.next_deadline(), None);
    net.receive(udp_v4(
        (ASKER, 5353),
        GROUP,
        &query(0, &[(HOST, 1, 1)], &[], 0),
    ));
    assert_eq!(net.mdns().len(), 1);
}

#[test]
fn names_that_loop_or_run_over_are_refused() {
    let mut net = ready();
    let start = query(0, &[], &[], 0);
    for tail in [
        &b"\xc0\x0c\0\x01\0\x01"[..],
        b"\xc0\x0e\xc0\x0c\0\x01\0\x01",
        b"\x08espresso\xc0\x0c\0\x01\0\x01",
        b"\x08espresso\x05local",
        b"\x3fespresso",
        b"\x80espresso\0\0\x01\0\x01",
        b"\xc0",
    ] {
        let mut message = [&start, tail].concat();
        message[5] = 1;
        net.receive(udp_v4((ASKER, 5353), GROUP, &message));
    }
    let mut counts_that_lie = query(0, &[(HOST, 1, 1)], &[], 0);
    counts_that_lie[4..12].fill(0xff);
    net.receive(udp_v4((ASKER, 5353), GROUP, &counts_that_lie));
    assert_eq!(net.mdns(), []);
}

#[test]
fn new_addresses_are_announced_and_gone_ones_flushed() {
    let mut net = Net::with_server(automatic());
    net.run_ms(60_000);
    net.sent.clear();
    net.receive(router_advert(255, 1800, PREFIX, 64));
    net.run_ms(5000);
    // Two announcements for each IP version, no probe: IPv6 was there before.
    assert_eq!(net.mdns().len(), 4);
    let octets = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 7, 0, 0, 0, 0xff, 0xfe, 0, 0, 1];
    assert!(
        net.mdns()
            .iter()
            .all(|message| message.4.windows(16).any(|window| window == octets))
    );
}

#[test]
fn random_messages_do_not_panic_the_responder() {
    let mut random = Random::new(5);
    let known = [HOST_WIRE, &[0, 1, 0, 1, 0, 0, 0, 120, 0, 4, 192, 0, 2, 1]].concat();
    let pointer = b"\xc0\x25\0\x0c\0\x01\0\0\x11\x94\0\x02\xc0\x0c";
    let questions: [(&[&str], u16, u16); 2] =
        [(HOST, 255, 0x8001), (&["_http", "_tcp", "local"], 12, 1)];
    let seeds = [
        query(7, &questions, &[&known[..], pointer].concat(), 2),
        rival()[42..].to_vec(),
    ];
    seeds.iter().for_each(|seed| mdns::fuzz(seed));
    for round in 0..20_000 {
        let mut message = seeds[round % 2].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(message.len() as u32) as usize;
            message[at] = random.below(256) as u8;
        }
        if random.below(4) == 0 {
            message.truncate(random.below(message.len() as u32 + 1) as usize);
        }
        mdns::fuzz(&message);
    }
}
