//! The echo service (RFC 862) where it goes through the stack.

use smoltcp::iface::Interface;
use smoltcp::socket::{tcp, udp};

use crate::fast_path::may_answer_port;

/// Returns what came in, as far as there is room. Whether anything moved.
pub fn serve_tcp(socket: &mut tcp::Socket, scratch: &mut [u8]) -> bool {
    let mut moved = false;
    loop {
        let room = socket.send_capacity() - socket.send_queue();
        let room = room.min(scratch.len());
        if room == 0 || !socket.can_recv() || !socket.may_send() {
            break;
        }
        let Ok(len) = socket.recv_slice(&mut scratch[..room]) else {
            break;
        };
        // There is room for all of it.
        let _ = socket.send_slice(&scratch[..len]);
        moved = true;
    }
    if socket.state() == tcp::State::CloseWait && socket.recv_queue() == 0 {
        socket.close();
    }
    moved
}

/// Answers datagrams sent to an address of ours (not to a broadcast or a group), from ports that cannot start a loop.
/// Returns how many.
pub fn serve_udp(socket: &mut udp::Socket, iface: &Interface, scratch: &mut [u8]) -> u64 {
    let mut answered = 0;
    while socket.can_recv() && socket.can_send() {
        let Ok((len, metadata)) = socket.recv_slice(scratch) else {
            continue;
        };
        let ours = metadata
            .local_address
            .is_some_and(|address| iface.has_ip_addr(address));
        if ours
            && may_answer_port(metadata.endpoint.port)
            && metadata.endpoint.addr.is_unicast()
            && socket.send_slice(&scratch[..len], metadata).is_ok()
        {
            answered += 1;
        }
    }
    answered
}
