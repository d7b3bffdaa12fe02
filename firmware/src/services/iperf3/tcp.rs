//! The connections of the iperf3 server: who they are, and what flows in them.

use super::{COOKIE, Role, STAGE_LIMIT_US, Server, state};
use crate::connections::Connection;
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time::Duration;

/// A client that does not acknowledge for so long is gone; it is asked often enough to notice.
const GONE: Duration = Duration::from_secs(4);
const ASK: Duration = Duration::from_secs(1);

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When to look again, in microseconds.
    pub deadline_us: u64,
    /// Whether other connections of the test have something to do.
    pub others: bool,
}

/// Lets the connection at `place` read and write.
pub fn serve(
    server: &mut Server,
    place: usize,
    connection: &mut Connection,
    input: &mut [u8],
    output: &mut [u8],
    now_us: u64,
) -> Turn {
    let mut turn = Turn {
        deadline_us: u64::MAX,
        others: false,
    };
    if connection.socket().state() == State::SynReceived {
        return turn;
    }
    if connection.iperf3 == Role::Fresh {
        turn.deadline_us = greet(server, place, connection, now_us);
    }
    let before = connection.socket().recv_queue() + connection.socket().send_queue();
    match connection.iperf3 {
        Role::Fresh => {}
        Role::Control(_) => control(server, connection, input, output, now_us, &mut turn),
        Role::Stream(test, number) => {
            turn.deadline_us = stream(server, test, number, connection.socket(), now_us);
            turn.others = server.is_complete();
        }
        Role::Leaving => leave(connection.socket()),
    }
    if connection.socket().recv_queue() + connection.socket().send_queue() != before {
        connection.active_us = now_us;
    }
    turn
}

/// Finds out who it is.
fn greet(server: &mut Server, place: usize, connection: &mut Connection, now_us: u64) -> u64 {
    let since_us = *connection.request_since_us.get_or_insert(now_us);
    let limit_us = since_us + STAGE_LIMIT_US;
    let socket = connection.socket();
    let peer = socket.remote_endpoint().map(|endpoint| endpoint.addr);
    let mut cookie = [0; COOKIE];
    let role = match server.is_welcome() {
        true if socket.recv_queue() >= COOKIE => {
            // There are as many bytes.
            let _ = socket.recv_slice(&mut cookie);
            server.admit(place as u8, peer, &cookie, now_us)
        }
        true if now_us < limit_us && socket.may_recv() => return limit_us,
        // Who has said nothing for so long gets no answer either.
        true => Role::Leaving,
        false => server.admit(place as u8, peer, &cookie, now_us),
    };
    match role {
        Role::Control(_) => {
            socket.set_timeout(Some(GONE));
            socket.set_keep_alive(Some(ASK));
            // There is room: nothing was sent so far. The same below.
            let _ = socket.send_slice(&[state::PARAM_EXCHANGE]);
        }
        Role::Leaving if now_us < limit_us && socket.may_send() => {
            let _ = socket.send_slice(&[state::ACCESS_DENIED]);
        }
        _ => {}
    }
    connection.iperf3 = role;
    u64::MAX
}

fn control(
    server: &mut Server,
    connection: &mut Connection,
    input: &mut [u8],
    output: &mut [u8],
    now_us: u64,
    turn: &mut Turn,
) {
    let role = connection.iperf3;
    if role != Role::Control(server.test) || !server.is_busy() {
        connection.iperf3 = Role::Leaving;
        leave(connection.socket());
        return;
    }
    let socket = connection.socket();
    // Each step is a message; there are never many.
    for _ in 0..8 {
        let len = socket.peek_slice(input).unwrap_or(0);
        let at_eof = !matches!(socket.state(), State::Established);
        let room = (socket.send_capacity() - socket.send_queue()).min(output.len());
        let step = server.control(&input[..len], at_eof, &mut output[..room], now_us);
        let _ = socket.recv_slice(&mut input[..step.consumed]);
        let _ = socket.send_slice(&output[..step.written]);
        turn.others |= step.streams;
        if step.close {
            connection.iperf3 = Role::Leaving;
            leave(connection.socket());
            return;
        }
        if step.consumed + step.written == 0 {
            break;
        }
    }
    turn.deadline_us = server.wake_us();
}

/// Moves data while the test runs. Returns when to look again.
fn stream(server: &mut Server, test: u32, number: u8, socket: &mut Socket<'_>, now_us: u64) -> u64 {
    let sends = server.sends(number);
    let (all_sent, rate) = (sends && server.has_sent_all(), server.params.rate);
    let block = server.params.len as usize;
    let is_over = test != server.test || matches!(server.stage, super::Stage::Idle);
    let Some(stream) = server.running(test, number, now_us) else {
        // Before the start nothing counts; after the end, what was under way is taken and forgotten.
        if is_over || !matches!(server.stage, super::Stage::Streams) {
            leave(socket);
        }
        return u64::MAX;
    };
    while socket.can_recv() {
        let len = socket.recv(|data| (data.len(), data.len())).unwrap_or(0);
        if !sends {
            stream.bytes += len as u64;
        }
    }
    if !socket.may_recv() {
        socket.close();
    }
    if !sends || all_sent {
        return u64::MAX;
    }
    let now_ns = now_us * 1000;
    while socket.can_send() {
        if let Err(at_us) = stream.due(now_ns) {
            return at_us;
        }
        let (most, clean) = (if rate > 0 { block } else { usize::MAX }, stream.clean);
        let capacity = socket.send_capacity();
        let len = socket.send(|buffer| {
            let len = buffer.len().min(most);
            if clean < capacity {
                // Whoever had the buffer before must not be heard; after one turn all of it is zero.
                buffer[..len].fill(0);
            }
            (len, len)
        });
        let len = len.unwrap_or(0);
        stream.clean += len;
        stream.sent(len, rate, now_ns);
    }
    u64::MAX
}

/// Says goodbye, and listens to nothing.
fn leave(socket: &mut Socket<'_>) {
    while socket.can_recv() {
        let _ = socket.recv(|data| (data.len(), ()));
    }
    socket.close();
}
