//! Shows the running network as a [`Status`]: the facts behind the pages, collected when one is asked for.

use core::fmt::Write;
use core::iter;

use hal::net::capture::Tapped;
use hal::net::drops::{Reason, Samples};
use hal::net::{Count, Nic};
use heapless::{String, Vec};
use smoltcp::wire::IpAddress;

use crate::capture::{self, Capture};
use crate::connections::{Connections, SERVICES};
use crate::http::{Access, AnswerCounters, Verdict};
use crate::latency::Latency;
use crate::network::Port;
use crate::services::Services;
use crate::status::{
    Address, Counter, Device, Discards, Duplex, Interface, Link, MAX_ADDRESSES, MAX_COUNTERS,
    MAX_INTERFACES, Service, ShowLog, Status, StatusSource, Table,
};

/// What does not change after start-up.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// The name the machine answers to.
    pub hostname: String<63>,
    /// `model` of the devicetree.
    pub board: &'static str,
    /// The processor, from the devicetree.
    pub cpu: &'static str,
    /// Memory according to the devicetree, in bytes.
    pub memory_bytes: u64,
    /// The image from its first to its last byte, heap included.
    pub image_bytes: u64,
    /// Bytes in use of the heap and bytes it has, since it was sealed.
    pub heap_bytes: (u64, u64),
    /// The last start that ended badly, if there is a record of it: how many starts ago, and what it said.
    pub bad_end: Option<(u64, String<96>)>,
    /// Shows the last lines of the log, oldest first.
    pub log: Option<ShowLog>,
}

/// The network at one moment.
pub struct Snapshot<'a, N: Nic> {
    /// The interfaces.
    pub ports: &'a [Port<N>],
    /// TCP connections by service.
    pub open: [usize; SERVICES],
    /// What happened to connections.
    pub connections: crate::connections::ConnectionCounters,
    /// HTTP answers by code.
    pub answers: &'a AnswerCounters,
    /// The measuring services.
    pub services: &'a Services,
    /// The rest.
    pub system: &'a System,
    /// Who may change something.
    pub access: &'a Access,
    /// How long answers take.
    pub latency: &'a Latency,
    /// Where frames may be captured.
    pub capture: Option<&'static Capture>,
    /// What discarded frames looked like.
    pub samples: &'a Samples,
    /// The moment, in microseconds since start.
    pub now_us: u64,
}

impl<'a, N: Nic> Snapshot<'a, N> {
    /// Counts of the connection pool, taken before one of its connections is borrowed to be answered.
    pub fn counts(
        connections: &Connections,
    ) -> ([usize; SERVICES], crate::connections::ConnectionCounters) {
        (connections.open_by_service(), connections.counters)
    }
}

impl<N: Nic> StatusSource for Snapshot<'_, N> {
    fn with_status(&self, show: &mut dyn FnMut(&Status<'_>)) {
        // Filled where they stand: they are large.
        let mut addresses: [Vec<Address, MAX_ADDRESSES>; MAX_INTERFACES] =
            [const { Vec::new() }; MAX_INTERFACES];
        let mut counters: [Vec<Counter<'_>, MAX_COUNTERS>; MAX_INTERFACES] =
            [const { Vec::new() }; MAX_INTERFACES];
        let mut tables: Vec<PortTable<'_, N>, MAX_INTERFACES> = Vec::new();
        let mut devices: Vec<DeviceTable<'_, Tapped<N>>, MAX_INTERFACES> = Vec::new();
        let mut urls: Vec<String<64>, { MAX_INTERFACES * 2 }> = Vec::new();
        let facts = addresses.iter_mut().zip(&mut counters);
        for (port, (addresses, counters)) in self.ports.iter().zip(facts) {
            for cidr in port.iface.ip_addrs() {
                let ip = match cidr.address() {
                    IpAddress::Ipv4(address) => address.into(),
                    IpAddress::Ipv6(address) => address.into(),
                };
                // The stack holds at most eight addresses; what does not fit below is only left out of a page.
                let _ = addresses.push(Address {
                    ip,
                    prefix_len: cidr.prefix_len(),
                    origin: port.addressing.origin(cidr),
                });
                let mut url = String::new();
                let written = match cidr.address() {
                    IpAddress::Ipv4(address) => write!(url, "http://{address}/"),
                    IpAddress::Ipv6(address) if address.is_unicast_link_local() => continue,
                    IpAddress::Ipv6(address) => write!(url, "http://[{address}]/"),
                };
                if written.is_ok() {
                    let _ = urls.push(url);
                }
            }
            // What was received stands beside what was delivered: they are to be of the same moment wherever they are shown.
            let [delivered, more @ ..] = port.counters.each();
            let all = iter::once(delivered)
                .chain(port.nic.counters().each())
                .chain(more);
            // What does not fit is left out; a test sees that it fits.
            let all = all.map(|(name, help, value)| Counter { name, help, value });
            counters.extend(all.take(MAX_COUNTERS));
            port.nic.refresh_counters();
            let _ = tables.push(PortTable(port));
            let nic = &port.nic;
            for (number, name) in (0..).map_while(|number| Some((number, nic.device(number)?))) {
                if devices.iter().all(|device| device.name != name) {
                    let _ = devices.push(DeviceTable { nic, number, name });
                }
            }
        }
        let devices: Vec<Device<'_>, MAX_INTERFACES> = devices
            .iter()
            .map(|device| Device {
                name: device.name,
                counters: device,
            })
            .collect();
        let interfaces: Vec<Interface<'_>, MAX_INTERFACES> = self
            .ports
            .iter()
            .zip(addresses.iter().zip(&counters).zip(&tables))
            .map(|(port, ((addresses, counters), table))| Interface {
                name: &port.name,
                driver: port.nic.driver(),
                mac: port.nic.mac(),
                link: link(port.nic.link()),
                addresses,
                counters,
                port: table,
                port_age_us: port
                    .nic
                    .port_counters_at_us()
                    .map(|at_us| self.now_us.saturating_sub(at_us)),
                drops: table,
            })
            .collect();
        let count = |name, help, value| Counter { name, help, value };
        let (iperf3, irtt) = (&self.services.iperf3.counters, &self.services.irtt.counters);
        let services = [
            Service {
                name: "echo",
                connections: Some(self.open[0] as u32),
                counters: &[],
            },
            Service {
                name: "http",
                connections: Some(self.open[1] as u32),
                counters: &[],
            },
            Service {
                name: "iperf3",
                connections: Some(self.open[2] as u32),
                counters: &[
                    count(
                        "completed",
                        "Tests that ended with results",
                        iperf3.completed,
                    ),
                    count("aborted", "Tests refused or given up", iperf3.aborted),
                    count(
                        "denied",
                        "Connections turned away while a test was on",
                        iperf3.denied,
                    ),
                ],
            },
            Service {
                name: "discard",
                connections: Some(self.open[3] as u32),
                counters: &[],
            },
            Service {
                name: "chargen",
                connections: Some(self.open[4] as u32),
                counters: &[],
            },
            Service {
                name: "reflector",
                connections: None,
                counters: &[count("frames", "Frames sent back", self.services.reflected)],
            },
            Service {
                name: "irtt",
                connections: None,
                counters: &[
                    count("opened", "Sessions opened", irtt.opened),
                    count("refused", "Sessions refused", irtt.refused),
                    count("echoes", "Requests answered", irtt.echoes),
                    count(
                        "dropped",
                        "Datagrams dropped: malformed, of no session, too many",
                        irtt.dropped,
                    ),
                ],
            },
        ];
        let own = [
            count(
                "connections_opened",
                "TCP handshakes begun",
                self.connections.opened,
            ),
            count(
                "connections_evicted",
                "TCP connections reset to make room for newer ones",
                self.connections.evicted,
            ),
            count(
                "connections_refused",
                "SYNs dropped because every place was taken",
                self.connections.refused,
            ),
            count(
                "frames_refused",
                "Frames too long, for others, or with an impossible sender or receiver",
                self.ports.iter().map(|port| port.counters.refused()).sum(),
            ),
        ];
        let urls: Vec<&str, { MAX_INTERFACES * 2 }> = urls.iter().map(String::as_str).collect();
        show(&Status {
            hostname: &self.system.hostname,
            board: self.system.board,
            version: env!("CARGO_PKG_VERSION"),
            uptime_us: self.now_us,
            cpu: self.system.cpu,
            memory_bytes: self.system.memory_bytes,
            image_bytes: self.system.image_bytes,
            heap_used_bytes: self.system.heap_bytes.0,
            heap_size_bytes: self.system.heap_bytes.1,
            interfaces: &interfaces,
            devices: &devices,
            services: &services,
            counters: &own,
            http_answers: self.answers,
            urls: &urls,
            bad_end: self
                .system
                .bad_end
                .as_ref()
                .map(|(ago, message)| (*ago, message.as_str())),
            latency: self.latency,
            log: self.system.log.unwrap_or(|_| ()),
            samples: Some(self.samples),
        });
    }

    fn is_public(&self) -> bool {
        self.access.is_public()
    }

    fn is_own_name(&self, name: &[u8]) -> bool {
        // An interface on whose network somebody else had the name has another.
        let names = self.ports.iter().map(|port| port.addressing.hostname());
        names
            .chain(iter::once(self.system.hostname.as_str()))
            .any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    fn admits_to_capture(&self, query: &str) -> bool {
        self.capture
            .is_some_and(|capture| capture.admits(query, self.now_us))
    }

    fn order_capture(&self, query: &str) -> Result<(), capture::Refusal> {
        let capture = self.capture.ok_or(capture::Refusal::Off)?;
        capture.order(query, |name| {
            self.ports.iter().any(|port| port.name == name)
        })
    }

    fn judge(&self, authorization: Option<&[u8]>) -> Verdict {
        self.access.judge(authorization, self.now_us)
    }
}

/// Counters of a card's port in a switch.
struct PortTable<'a, N: Nic>(&'a Port<N>);

impl<N: Nic> Table for PortTable<'_, N> {
    fn get(&self, index: usize) -> Option<Counter<'_>> {
        self.0.nic.port_counter(index).map(counter)
    }
}

impl<N: Nic> Discards for PortTable<'_, N> {
    fn count(&self, reason: Reason) -> u64 {
        let by_driver = reason.counted_in(self.0.nic.counters());
        self.0.counters.drops.get(reason) + by_driver
    }
}

/// Counters of a device that cards share.
struct DeviceTable<'a, N> {
    nic: &'a N,
    number: usize,
    name: &'static str,
}

impl<N: Nic> Table for DeviceTable<'_, N> {
    fn get(&self, index: usize) -> Option<Counter<'_>> {
        self.nic.device_counter(self.number, index).map(counter)
    }
}

fn counter((name, help, value): Count) -> Counter<'static> {
    Counter { name, help, value }
}

fn link(link: hal::net::Link) -> Link {
    match link {
        hal::net::Link::Down => Link::Down,
        hal::net::Link::Up { speed_mbps: 0, .. } => Link::Up {
            speed_mbps: None,
            duplex: None,
            pause: None,
        },
        hal::net::Link::Up {
            speed_mbps,
            full_duplex,
            pause,
        } => Link::Up {
            speed_mbps: Some(speed_mbps),
            duplex: Some(if full_duplex {
                Duplex::Full
            } else {
                Duplex::Half
            }),
            pause: Some(match (pause.rx, pause.tx) {
                (true, true) => "rx/tx",
                (true, false) => "rx",
                (false, true) => "tx",
                (false, false) => "none",
            }),
        },
    }
}
