//! A paced stream of numbered datagrams to an echo, and what came back of it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, failure};

/// How often a receiver that hears nothing looks whether it is over.
const TICK: Duration = Duration::from_millis(20);

/// What came of a trial, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Frames per second, as sent.
    pub rate: f64,
    /// Frames sent.
    pub sent: usize,
    /// Of these, frames that did not come back in time.
    pub lost: usize,
}

/// Round trips, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// The shortest.
    pub min_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// Half took no longer.
    pub p50_us: f64,
    /// All but one in a hundred took no longer.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// One stream that was sent.
pub struct Trial {
    sent: usize,
    took: Duration,
    /// Round trips of those that came back, in nanoseconds, in order of size.
    trips_ns: Vec<u64>,
}

impl Trial {
    /// Frames sent.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Frames that did not come back in time.
    pub fn lost(&self) -> usize {
        self.sent - self.trips_ns.len()
    }

    /// Frames per second, as sent.
    pub fn rate(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// All three.
    pub fn summary(&self) -> Summary {
        Summary {
            rate: self.rate(),
            sent: self.sent,
            lost: self.lost(),
        }
    }

    /// How long they took; zeros if none came back.
    pub fn latency(&self) -> Latency {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |share: f64| {
            let index = (self.trips_ns.len() as f64 * share) as usize;
            self.trips_ns
                .get(index)
                .or(self.trips_ns.last())
                .map_or(0.0, |ns| us(*ns))
        };
        let sum: u64 = self.trips_ns.iter().sum();
        Latency {
            min_us: at(0.0),
            mean_us: us(sum) / (self.trips_ns.len() as f64).max(1.0),
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: self.trips_ns.last().map_or(0.0, |ns| us(*ns)),
        }
    }
}

/// A sender with one size of payload.
pub struct Load {
    socket: UdpSocket,
    payload: Vec<u8>,
    settle: Duration,
    /// Of the trial at hand: late ones of another are told apart by it.
    trial: u32,
}

impl Load {
    /// Payloads of at least 16 bytes.
    ///
    /// # Errors
    ///
    /// If this host has no socket for it.
    pub fn new(target: SocketAddr, payload: usize, settle: Duration) -> Result<Self> {
        let any = if target.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).map_err(network)?;
        socket.connect(target).map_err(network)?;
        socket.set_read_timeout(Some(TICK)).map_err(network)?;
        Ok(Load {
            socket,
            payload: (0..=u8::MAX).cycle().take(payload.max(16)).collect(),
            settle,
            trial: 0,
        })
    }

    /// Waits until the echo answers: neighbours are found, and flows known.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn greet(&mut self) -> Result<()> {
        for _ in 0..20 {
            if self.stream(3, |_| Duration::ZERO)?.lost() == 0 {
                return Ok(());
            }
        }
        failure("the target does not answer UDP echoes of this size")
    }

    /// Sends at this rate for this time.
    ///
    /// # Errors
    ///
    /// If this host cannot send.
    pub fn trial(&mut self, rate: f64, time: Duration) -> Result<Trial> {
        let count = (rate * time.as_secs_f64()).round().max(1.0) as usize;
        let trial = self.stream(count, |number| {
            Duration::from_secs_f64(number as f64 / rate)
        })?;
        println!(
            "  {:.0} frames/s: {} of {} lost",
            trial.rate(),
            trial.lost(),
            trial.sent()
        );
        Ok(trial)
    }

    /// Sends so many without a pause.
    ///
    /// # Errors
    ///
    /// If this host cannot send.
    pub fn burst(&mut self, count: usize) -> Result<Trial> {
        self.stream(count, |_| Duration::ZERO)
    }

    /// Sends so many, each at its time, and waits for them.
    fn stream(&mut self, count: usize, due: impl Fn(usize) -> Duration) -> Result<Trial> {
        self.trial = self.trial.wrapping_add(1);
        let (start, trial) = (Instant::now(), self.trial);
        let over = AtomicBool::new(false);
        // What nobody has received yet is not there; the receiver alone writes.
        let trips = Mutex::new(vec![None; count]);
        let socket = &self.socket;
        let mut payload = self.payload.clone();
        let took = thread::scope(|scope| {
            scope.spawn(|| receive(socket, trial, self.payload.len(), start, &over, &trips));
            let mut outcome = Ok(());
            for number in 0..count {
                wait_until(start + due(number));
                payload[..4].copy_from_slice(&trial.to_be_bytes());
                payload[4..8].copy_from_slice(&(number as u32).to_be_bytes());
                let now_ns = start.elapsed().as_nanos() as u64;
                payload[8..16].copy_from_slice(&now_ns.to_be_bytes());
                match socket.send(&payload) {
                    Ok(_) => {}
                    // Somebody on the way has said that there is nobody: it is lost.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                    Err(error) => {
                        outcome = Err(network(error));
                        break;
                    }
                }
            }
            let took = start.elapsed().max(due(count));
            let end = Instant::now() + self.settle;
            let complete = || {
                trips
                    .lock()
                    .is_ok_and(|trips| trips.iter().all(Option::is_some))
            };
            while Instant::now() < end && !complete() {
                thread::sleep(Duration::from_millis(2));
            }
            over.store(true, Ordering::Relaxed);
            outcome.map(|()| took)
        })?;
        let trips = trips.into_inner().unwrap_or_default();
        let mut trips_ns: Vec<u64> = trips.into_iter().flatten().collect();
        trips_ns.sort_unstable();
        Ok(Trial {
            sent: count,
            took,
            trips_ns,
        })
    }
}

/// Notes the first answer to each datagram of the trial.
fn receive(
    socket: &UdpSocket,
    trial: u32,
    len: usize,
    start: Instant,
    over: &AtomicBool,
    trips: &Mutex<Vec<Option<u64>>>,
) {
    let mut answer = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        let Ok(received) = socket.recv(&mut answer) else {
            continue;
        };
        let now_ns = start.elapsed().as_nanos() as u64;
        let word = |at: usize| {
            let bytes = answer.get(at..).and_then(|bytes| bytes.first_chunk::<4>());
            bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        if received != len || word(0) != trial {
            continue;
        }
        let sent_ns = u64::from(word(8)) << 32 | u64::from(word(12));
        if let Ok(mut trips) = trips.lock()
            && let Some(trip) = trips.get_mut(word(4) as usize)
        {
            trip.get_or_insert(now_ns.saturating_sub(sent_ns));
        }
    }
}

/// Sleeps for what is long, and spins for the rest.
fn wait_until(at: Instant) {
    const SPIN: Duration = Duration::from_micros(200);
    while let Some(left) = at.checked_duration_since(Instant::now()) {
        match left.checked_sub(SPIN) {
            Some(long) if !long.is_zero() => thread::sleep(long),
            _ => std::hint::spin_loop(),
        }
        if left.is_zero() {
            break;
        }
    }
}

fn network(error: std::io::Error) -> Error {
    Error::Failure(format!("this host's network: {error}"))
}
