//! The network as the bench's commands see it.

use core::net::Ipv4Addr;

use hal::net::smoltcp::MAX_FRAME;
use hal::net::{Link, MacAddr, Nic};
use smoltcp::socket::udp;

use super::Network;
use crate::ping::Run;
use crate::services::{iperf3, irtt};
use crate::shell::Refusal;
use crate::shell::net::{self, Ask, Net, Port, Served, Socket};

/// What listens on all interfaces. The last one must be asked for.
static SERVED: [Served; 9] = [
    ("tcp", 7, "echo"),
    ("tcp", 9, "discard"),
    ("tcp", 19, "chargen"),
    ("tcp", 80, "http"),
    ("tcp", iperf3::PORT, "iperf3"),
    ("udp", 9, "discard"),
    ("udp", irtt::PORT, "irtt"),
    ("udp", iperf3::PORT, "iperf3"),
    ("udp", 19, "chargen"),
];
/// Ethernet's shortest frame without the FCS.
const SHORTEST: usize = 60;

impl<N: Nic> Net for Network<N> {
    fn port(&self, index: usize) -> Option<Port<'_>> {
        let port = self.ports.get(index)?;
        let echo = port.sockets.get::<udp::Socket>(port.udp_echo);
        Some(Port {
            name: &port.name,
            mac: port.nic.mac(),
            iface: &port.iface,
            addressing: &port.addressing,
            neighbours: &port.neighbours,
            up: port.link.is_some_and(Link::is_up),
            serves: port.serves,
            echo: [echo.recv_queue(), echo.send_queue()],
        })
    }

    fn flows(&self, index: usize, show: &mut dyn FnMut(Ipv4Addr, MacAddr, u64)) {
        if let Some(port) = self.ports.get(index) {
            let now_us = self.services.now_us(port.flows.now_us);
            for (peer, mac, age_us) in port.flows.each(now_us) {
                show(peer, mac, age_us);
            }
        }
    }

    fn served(&self) -> &'static [Served] {
        let left_out = usize::from(!self.services.chargen);
        &SERVED[..SERVED.len() - left_out]
    }

    fn connections(&self, show: &mut dyn FnMut(&Socket)) {
        for (interface, service, tcp, opened_us) in self.connections.each() {
            let port = self.ports.get(interface);
            let local = tcp.local_endpoint();
            let peer = tcp.remote_endpoint();
            show(&Socket {
                protocol: "tcp",
                interface: port.map(|port| port.name.as_str()),
                local: local.map_or((None, 0), |end| (Some(end.addr.into()), end.port)),
                peer: peer.map(|end| (end.addr.into(), end.port)),
                state: Some(tcp.state()),
                queued: Some([tcp.recv_queue(), tcp.send_queue()]),
                service: service.word(),
                opened_us: Some(opened_us),
            });
        }
    }

    fn begin_ping(&mut self, ask: &Ask, now_us: u64) -> Result<(), Refusal> {
        net::begin_ping(self, ask, now_us)
    }

    fn go_on_with_ping(&mut self, now_us: u64) -> Option<u64> {
        net::go_on_with_ping(self, now_us)
    }

    fn ping(&mut self) -> &mut Option<Run> {
        &mut self.ping
    }

    fn send(&mut self, index: usize, write: &dyn Fn(&mut [u8]) -> Option<usize>) {
        let Some(port) = self.ports.get_mut(index) else {
            return;
        };
        let Some(mut frame) = self.pool.take() else {
            port.nic.counters_mut().tx_no_buffer += 1;
            return;
        };
        frame.set_len(MAX_FRAME);
        frame.bytes_mut()[..SHORTEST].fill(0);
        let len = write(frame.bytes_mut()).unwrap_or(0);
        frame.set_len(len.max(SHORTEST));
        port.nic.transmit(frame, &mut self.pool);
        port.nic.flush();
    }

    fn reset_latency(&mut self, now_us: u64) {
        self.latency.reset(now_us);
    }
}
