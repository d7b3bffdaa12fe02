//! Cables that are pulled, plugged, moved, and partners that can do less.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::board::{Board, End, Running, SOCKETS};
use super::services::served_at_once;
use crate::check::{During, Random, Result, ensure, fail};
use crate::clients::{connect, curl};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "espressobin-hundred-link-flaps",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 400,
        run: hundred_link_flaps,
    },
    Test {
        name: "espressobin-partners-of-one-mode",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 300,
        run: partners_of_one_mode,
    },
    Test {
        name: "espressobin-cable-moves-and-leases-follow",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 300,
        run: cable_moves,
    },
];

/// How often the line stands on the console.
fn count(board: &Running, line: &str) -> usize {
    board.console().matches(line).count()
}

/// Sends and takes back numbered blocks until told to stop. Returns how many.
fn transfer(service: SocketAddr, stop: &AtomicBool) -> Result<u32> {
    let mut stream = connect(service)?;
    // A flap, the negotiation after it, and the retransmission after that.
    stream.set_read_timeout(Some(Duration::from_secs(150)))?;
    let mut number = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let block: Vec<u8> = (0..700)
            .flat_map(|at| (number + at).to_le_bytes())
            .collect();
        stream.write_all(&block)?;
        let mut back = vec![0; block.len()];
        stream
            .read_exact(&mut back)
            .during(format!("block {number}"))?;
        ensure!(back == block, "block {number} is changed");
        number += 1;
    }
    Ok(number)
}

/// Pulls a cable three times at moments by chance: in the middle of the transfer, and while the PHYs negotiate.
fn flaps(board: &Mutex<Running>, socket: usize, cycles: usize) -> Result {
    let mut random = Random::new(socket as u64);
    let line = format!("{}: link up", SOCKETS[socket]);
    let locked = || match board.lock() {
        Ok(board) => Ok(board),
        Err(_) => fail!("another thread broke"),
    };
    let mut pause = |most_ms| thread::sleep(Duration::from_millis(random.next() % most_ms));
    for cycle in 0..cycles {
        let before = count(&*locked()?, &line);
        for _ in 0..3 {
            pause(400);
            locked()?.cable(socket, false)?;
            pause(100);
            locked()?.cable(socket, true)?;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while count(&*locked()?, &line) == before {
            ensure!(
                Instant::now() < deadline,
                "no link after flap {}",
                3 * cycle
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// TCP connections through all three sockets survive every flap, and no byte is lost or changed.
fn hundred_link_flaps(cx: &Context) -> Result {
    let cycles = cx.scaled(12, 12, 100);
    let mut board = Board::new(cx);
    for (id, name) in SOCKETS.iter().enumerate() {
        let net = 2 + id;
        board = board.append(&format!(
            "ip=10.0.{net}.15::10.0.{net}.2:255.255.255.0::{name}:off"
        ));
    }
    let mut board = board.boot()?;
    for name in SOCKETS {
        board.line(&format!("{name}: link up"))?;
    }
    let services = [board.services(0)?, board.services(1)?, board.services(2)?];
    let board = Mutex::new(board);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut transfers = Vec::new();
        let mut pullers = Vec::new();
        for (id, services) in services.iter().enumerate() {
            transfers.push(scope.spawn(|| transfer(services.echo_tcp, &stop)));
            let board = &board;
            pullers.push(scope.spawn(move || flaps(board, id, cycles)));
        }
        let mut outcome = Ok(());
        for (puller, name) in pullers.into_iter().zip(SOCKETS) {
            let pulled = puller.join().unwrap_or_else(|_| fail!("it broke"));
            outcome = outcome.and(pulled.during(name));
        }
        stop.store(true, Ordering::Relaxed);
        for (transfer, name) in transfers.into_iter().zip(SOCKETS) {
            let blocks = transfer.join().unwrap_or_else(|_| fail!("it broke"));
            let blocks = blocks.during(format!("{name}, {} flaps", 3 * cycles))?;
            println!("{name}: {blocks} blocks through {} flaps", 3 * cycles);
            ensure!(blocks as usize > cycles, "{name}: only {blocks} blocks");
        }
        outcome
    })?;
    let Ok(mut board) = board.into_inner() else {
        fail!("a thread broke")
    };
    served_at_once(&board, &[0, 1, 2], 1)?;
    board.sound()?;
    board.untroubled()
}

/// Each socket with each kind of partner: the line says what was agreed on, and everything works at that speed.
fn partners_of_one_mode(cx: &Context) -> Result {
    const ROUNDS: &[[(&str, &str); 3]] = &[
        [
            ("10-half", "10 Mb/s half duplex"),
            ("100-full", "100 Mb/s full duplex"),
            ("1000-full", "1000 Mb/s full duplex"),
        ],
        [
            ("100-full!", "100 Mb/s half duplex"),
            ("10-half!", "10 Mb/s half duplex"),
            ("100-half", "100 Mb/s half duplex"),
        ],
        [
            ("10-full", "10 Mb/s full duplex"),
            ("100-half!", "100 Mb/s half duplex"),
            ("10-full!", "10 Mb/s half duplex"),
        ],
    ];
    let mut board = Board::new(cx).boot()?;
    board.leases(&[0, 1, 2])?;
    for round in ROUNDS {
        let mark = board.mark();
        let partners: Vec<String> = SOCKETS
            .iter()
            .zip(round)
            .map(|(name, (mode, _))| format!("partner={name}:{mode}"))
            .collect();
        board.faults(&partners.join(","))?;
        for (name, (mode, agreed)) in SOCKETS.iter().zip(round) {
            board
                .line_from(mark, &format!("{name}: link up, {agreed}"))
                .during(mode)?;
        }
        served_at_once(&board, &[0, 1, 2], 1).during(partners.join(","))?;
    }
    board.sound()?;
    board.untroubled()
}

/// One network, and one cable that is moved from `wan` to `lan0` and back: the lease of the socket that lost it goes,
/// the other gets one, and serves.
fn cable_moves(cx: &Context) -> Result {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listeners = [TcpListener::bind(any)?, TcpListener::bind(any)?];
    let http = [listeners[0].local_addr()?, listeners[1].local_addr()?];
    drop(listeners);
    let network = format!(
        "user,id=u,net=10.0.2.0/24,hostfwd=tcp:{}-10.0.2.15:80,hostfwd=tcp:{}-10.0.2.16:80",
        http[0], http[1]
    );
    let socket = |id| End::Netdev(format!("hubport,id=n{id},hubid=0"));
    let mut board = Board::new(cx)
        .end(0, socket(0))
        .end(1, socket(1))
        .arg("-netdev")
        .arg(&network)
        .arg("-netdev")
        .arg("hubport,id=h,hubid=0,netdev=u")
        .boot_held()?;
    board.cable(1, false)?;
    board.go()?;
    let hello = |at: SocketAddr| {
        let page = curl(&[&format!("http://{at}/hello")])?;
        ensure!(page == "Hello, world!", "curl: `{page}`");
        Ok(())
    };
    board.line("wan: address 10.0.2.15/24 (dhcp)")?;
    hello(http[0])?;
    let moves = [(0, 1, 1), (1, 0, 0), (0, 1, 1)];
    for (number, (from, to, address)) in moves.into_iter().enumerate() {
        let mark = board.mark();
        board.cable(from, false)?;
        board.cable(to, true)?;
        let (loser, winner) = (SOCKETS[from], SOCKETS[to]);
        let moved = |board: &mut Running| {
            board.line_from(mark, &format!("{loser}: link down"))?;
            board.line_from(
                mark,
                &format!("{winner}: address 10.0.2.{}/24 (dhcp)", 15 + address),
            )?;
            board.line_from(
                mark,
                &format!("{loser}: address 10.0.2.{}/24 (dhcp) removed", 16 - address),
            )?;
            hello(http[address])
        };
        moved(&mut board).during(format!("move {number}, from {loser} to {winner}"))?;
    }
    board.sound()?;
    board.untroubled()
}
