//! The whole of it against servers of the test, which are slow, wrong or silent when they are told to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::thread;
use std::time::Instant;

use super::*;

fn plan(service: Service, server: SocketAddr, rate: usize, ms: u64) -> Plan {
    Plan {
        service,
        server,
        size: 64,
        rate,
        time: Duration::from_millis(ms),
        warm_up: Duration::from_millis(50),
        patience: Duration::from_millis(500),
    }
}

/// An echo server that does this to each datagram, by its number; `false` swallows it.
fn udp_server(treat: impl Fn(u64, &mut [u8]) -> bool + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        let mut number = 0;
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if treat(number, &mut buffer[..len]) {
                let _ = socket.send_to(&buffer[..len], from);
            }
            number += 1;
        }
    });
    address
}

fn measured(plan: &Plan) -> Result<Record> {
    client::measure(plan, &|| ())
}

#[test]
fn a_stall_costs_every_request_that_had_to_wait_for_it() {
    // Once, for 200 ms, in a run of 400 requests in 400 ms.
    let stalls = || {
        udp_server(|number, _| {
            if number == 100 {
                thread::sleep(Duration::from_millis(200));
            }
            true
        })
    };
    let open = measured(&plan(Service::Udp, stalls(), 1_000, 400)).unwrap();
    assert_eq!((open.answered(), open.lost), (400, 0));
    // About 200 requests were due during the stall; half of them waited for more than 100 ms.
    let waited: u64 = open
        .steps()
        .filter(|step| step.0 > 50_000_000)
        .map(|step| step.1)
        .sum();
    assert!((100..300).contains(&waited), "{waited}");
    let closed = measured(&plan(Service::Udp, stalls(), 0, 400)).unwrap();
    let waited: u64 = closed
        .steps()
        .filter(|step| step.0 > 50_000_000)
        .map(|step| step.1)
        .sum();
    assert!(waited <= 3, "a closed loop sees it once: {waited}");
}

#[test]
fn lost_and_wrong_answers_are_told_apart() {
    let server = udp_server(|number, _| number % 10 != 3);
    let record = measured(&plan(Service::Udp, server, 500, 400)).unwrap();
    assert!((15..=25).contains(&record.lost), "{}", record.lost);
    assert_eq!(record.answered() + record.lost, record.sent);
    let server = udp_server(|number, bytes| {
        bytes[20] ^= u8::from(number == 30);
        true
    });
    assert!(measured(&plan(Service::Udp, server, 500, 400)).is_err());
}

#[test]
fn a_silent_target_ends_the_run() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let start = Instant::now();
    for rate in [0, 100] {
        let plan = plan(Service::Udp, silent.local_addr().unwrap(), rate, 20_000);
        let record = measured(&Plan {
            time: Duration::from_secs(if rate == 0 { 20 } else { 1 }),
            ..plan
        })
        .unwrap();
        assert_eq!(record.answered(), 0);
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn streams_are_measured_and_checked() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut buffer = [0; 512];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                // In pieces: an answer need not come at once.
                let _ = stream.write_all(&buffer[..len / 2]);
                let _ = stream.write_all(&buffer[len / 2..len]);
            }
        }
    });
    for rate in [0, 500] {
        let record = measured(&plan(Service::Tcp, server, rate, 200)).unwrap();
        assert!(
            record.answered() >= 50 && record.lost == 0,
            "{}",
            record.answered()
        );
        assert!(record.min_ns() <= record.percentile_ns(50.0));
        assert!(record.percentile_ns(50.0) <= record.max_ns());
    }
    // It echoes requests: that is no HTTP.
    assert!(
        measured(&plan(Service::Http, server, 0, 200)).is_err() || {
            let record = measured(&plan(Service::Http, server, 0, 200)).unwrap();
            record.answered() == 0
        }
    );
}

#[test]
fn the_account_of_a_target_is_read_in_its_unit() {
    let account = Account::of(
        r#"{"time":"emulated","unit":"ns","kinds":{"udp":{"total":{"count":7,"min":1000,"p50":2000,"p90":3000,
        "p99":4000,"p99_9":5000,"p99_99":6000,"max":7000}},"icmp":{}}}"#,
    );
    let row = account.row("udp").unwrap();
    assert_eq!((row.count, row.min_us, row.max_us), (7, 1.0, 7.0));
    assert_eq!(row.percentiles_us, [2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(account.row("icmp").is_none() && account.row("http").is_none());
    assert!(Account::of("[1]").row("udp").is_none());
}

#[test]
fn every_report_has_every_run() {
    let server = udp_server(|_, _| true);
    let runs: Vec<Run> = [0, 300]
        .into_iter()
        .map(|rate| {
            let plan = plan(Service::Udp, server, rate, 200);
            let record = measured(&plan).unwrap();
            Run {
                plan,
                record,
                account: None,
            }
        })
        .collect();
    let table = table(&runs);
    assert_eq!(table.lines().count(), 1 + 2 * 2, "{table}");
    let csv = csv(&runs);
    assert!(csv.lines().skip(1).all(|line| line.split(',').count() == 6));
    assert!(csv.contains("udp,64,300,") && csv.trim_end().ends_with(",1.000000"));
    let json = as_json("here", &runs);
    assert_eq!(json["runs"][1]["loop"], "open");
    assert_eq!(json["runs"][1]["answered"], 60);
    let svg = plot::svg(&runs);
    assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    assert!(svg.contains("udp 64 B, 300/s") && !svg.contains("NaN") && !svg.contains("inf"));
}
