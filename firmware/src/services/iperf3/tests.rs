//! Tests of the control connection, without a network.

use super::*;
use smoltcp::wire::IpAddress;

const SECOND_US: u64 = 1_000_000;

/// A server, and what a client does with it.
struct Bench {
    server: Server,
    now_us: u64,
}

fn params(more: &str) -> Vec<u8> {
    let text = format!(
        "{{\"tcp\":true,\"omit\":0,\"time\":10,\"num\":0,\"parallel\":1,\"len\":131072{more}}}"
    );
    message(text.as_bytes())
}

fn message(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text].concat()
}

fn read(more: &str) -> Result<Params, Refusal> {
    Params::read(&params(more)[4..])
}

fn source(port: u16) -> Source {
    Source {
        interface: 0,
        address: IpAddress::v4(10, 0, 0, 1),
        port,
    }
}

const PEER: Option<IpAddress> = Some(IpAddress::v4(10, 0, 0, 1));
const COOKIE_A: [u8; COOKIE] = [b'a'; COOKIE];
const COOKIE_B: [u8; COOKIE] = [b'b'; COOKIE];

impl Bench {
    fn new() -> Self {
        let mut bench = Bench {
            server: Server::default(),
            now_us: SECOND_US,
        };
        assert_eq!(
            bench.server.admit(5, PEER, &COOKIE_A, bench.now_us),
            Role::Control(1)
        );
        bench
    }

    /// Everything the server makes of the input, and whether it closes.
    fn say(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let (mut said, mut at) = (Vec::new(), 0);
        let mut output = vec![0; 16 * 1024];
        loop {
            let step = self
                .server
                .control(&input[at..], false, &mut output, self.now_us);
            said.extend(&output[..step.written]);
            at += step.consumed;
            if step.close || step.written + step.consumed == 0 {
                assert!(step.close || at == input.len() || step.consumed == 0);
                return (said, step.close);
            }
        }
    }

    fn start(&mut self, more: &str, streams: u8) {
        assert_eq!(
            self.say(&params(more)),
            (vec![state::CREATE_STREAMS], false)
        );
        for number in 0..streams {
            let role = self.server.admit(6 + number, PEER, &COOKIE_A, self.now_us);
            assert_eq!(role, Role::Stream(1, number));
        }
        let running = vec![state::TEST_START, state::TEST_RUNNING];
        assert_eq!(self.say(&[]), (running, false));
    }

    fn refused(&mut self, input: &[u8], refusal: Refusal) {
        let mut expected = vec![state::SERVER_ERROR];
        expected.extend((refusal as u32).to_be_bytes());
        expected.extend([0; 4]);
        assert_eq!(self.say(input), (expected, true));
        assert!(!self.server.is_busy());
        assert_eq!(self.server.counters.aborted, 1);
    }

    fn results(&mut self) -> String {
        assert_eq!(
            self.say(&[state::TEST_END]),
            (vec![state::EXCHANGE_RESULTS], false)
        );
        let (said, close) = self.say(&message(b"{\"streams\":[]}"));
        assert!(!close);
        let (len, text) = said.split_first_chunk::<4>().unwrap();
        let (last, text) = text.split_last().unwrap();
        assert_eq!(
            (u32::from_be_bytes(*len) as usize, *last),
            (text.len(), state::DISPLAY_RESULTS)
        );
        assert!(json::members(text, |_, _| {}).is_some());
        assert_eq!(self.say(&[state::IPERF_DONE]), (vec![], true));
        assert!(!self.server.is_busy());
        assert_eq!(
            (self.server.counters.completed, self.server.counters.aborted),
            (1, 0)
        );
        String::from_utf8(text.to_vec()).unwrap()
    }
}

#[test]
fn a_test_from_cookie_to_results() {
    let mut bench = Bench::new();
    bench.start(",\"parallel\":3", 3);
    assert_eq!(
        bench.server.admit(9, PEER, &COOKIE_A, bench.now_us),
        Role::Leaving
    );
    bench.server.running(1, 1, bench.now_us).unwrap().bytes = 1234;
    assert!(bench.server.running(2, 1, bench.now_us).is_none());
    bench.now_us += 2_500_000;
    let text = bench.results();
    for stream in [
        "{\"id\":1,\"bytes\":0,",
        "{\"id\":3,\"bytes\":1234,",
        "{\"id\":4,\"bytes\":0,",
        "\"end_time\":2.500000}]}",
    ] {
        assert!(text.contains(stream), "{text}");
    }
    assert_eq!(
        bench.server.admit(5, PEER, &COOKIE_B, bench.now_us),
        Role::Control(2)
    );
}

#[test]
fn parameters_are_understood() {
    let one = read("").unwrap();
    assert_eq!((one.receive, one.send, one.udp, one.rate), (1, 0, false, 0));
    let back = read(",\"reverse\":true,\"parallel\":32,\"bandwidth\":1000").unwrap();
    assert_eq!((back.receive, back.send, back.rate), (0, 32, 1000));
    let both = read(",\"bidirectional\":true,\"parallel\":16").unwrap();
    assert_eq!((both.receive, both.send), (16, 16));
    assert_eq!(read(",\"blockcount\":3,\"len\":1000").unwrap().bytes, 3000);
    assert_eq!(read(",\"bandwidth\":1e15").unwrap().rate, 0);
    assert_eq!(read(",\"fqrate\":5").unwrap().rate, 5);
    let udp = Params::read(b"{\"udp\":true,\"len\":1448,\"udp_counters_64bit\":1}").unwrap();
    assert!(udp.udp && udp.wide_counters);
}

#[test]
fn absurd_parameters_are_refused_by_name() {
    for (more, refusal) in [
        (",\"time\":86401", Refusal::Duration),
        (",\"time\":-1", Refusal::Duration),
        (",\"time\":1e300", Refusal::Duration),
        (",\"omit\":601", Refusal::Omit),
        (",\"parallel\":0", Refusal::Streams),
        (",\"parallel\":33", Refusal::Streams),
        (",\"parallel\":17,\"bidirectional\":true", Refusal::Streams),
        (",\"len\":0", Refusal::Block),
        (",\"len\":1048577", Refusal::Block),
        (",\"udp\":true", Refusal::Protocol),
        (",\"tcp\":false", Refusal::Protocol),
        (",\"tcp\":false,\"sctp\":true", Refusal::Protocol),
        (
            ",\"tcp\":false,\"udp\":true,\"len\":1473",
            Refusal::Datagram,
        ),
        (",\"tcp\":false,\"udp\":true,\"len\":15", Refusal::Datagram),
        (",\"num\":-1", Refusal::Params),
        (",\"bandwidth\":-1", Refusal::Params),
        (",\"blockcount\":-5", Refusal::Params),
        (",\"reverse\":true,\"bidirectional\":true", Refusal::Params),
        (",", Refusal::Params),
    ] {
        assert_eq!(read(more), Err(refusal), "{more}");
        Bench::new().refused(&params(more), refusal);
    }
}

#[test]
fn impossible_messages_are_refused() {
    Bench::new().refused(&[0, 0, 0, 0], Refusal::Params);
    Bench::new().refused(&4097_u32.to_be_bytes(), Refusal::Params);
    Bench::new().refused(&u32::MAX.to_be_bytes(), Refusal::Params);
    Bench::new().refused(&message(b"not JSON"), Refusal::Params);
    for state in [state::TEST_START, state::PARAM_EXCHANGE, 0, 77, 0xff] {
        let mut bench = Bench::new();
        bench.start("", 1);
        bench.refused(&[state], Refusal::Message);
    }
    for results in [
        vec![0, 0, 0, 1],
        vec![0, 1, 0, 1],
        message(b"[1]"),
        vec![0xff; 4],
    ] {
        let mut bench = Bench::new();
        bench.start("", 1);
        bench.say(&[state::TEST_END]);
        bench.refused(&results, Refusal::Results);
    }
}

#[test]
fn messages_may_come_byte_by_byte() {
    let mut bench = Bench::new();
    let whole = params("");
    for end in 0..whole.len() {
        assert_eq!(bench.say(&whole[..end]), (vec![], false));
    }
    assert_eq!(bench.say(&whole), (vec![state::CREATE_STREAMS], false));
    assert_eq!(
        bench.server.admit(6, PEER, &COOKIE_A, bench.now_us),
        Role::Stream(1, 0)
    );
    bench.say(&[]);
    bench.say(&[state::TEST_END]);
    let results = message(b"{\"streams\":[]}");
    bench.say(&results[..4]);
    for byte in &results[4..results.len() - 1] {
        assert_eq!(bench.say(&[*byte]), (vec![], false));
    }
    let (said, _) = bench.say(&results[results.len() - 1..]);
    assert_eq!(said.last(), Some(&state::DISPLAY_RESULTS));
}

#[test]
fn one_test_at_a_time() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        assert!(!bench.server.is_welcome());
        assert_eq!(
            bench.server.admit(7, PEER, &COOKIE_B, bench.now_us),
            Role::Leaving
        );
    }
    bench.say(&params(""));
    assert_eq!(
        bench.server.admit(7, PEER, &COOKIE_B, bench.now_us),
        Role::Leaving
    );
    assert_eq!(bench.server.counters.denied, 101);
    assert!(bench.server.gone(Role::Control(1)));
    assert_eq!(
        bench.server.admit(7, PEER, &COOKIE_B, bench.now_us),
        Role::Control(2)
    );
    assert!(!bench.server.gone(Role::Control(1)));
}

#[test]
fn silence_ends_a_test_within_five_seconds() {
    for stage in 0..4 {
        let mut bench = Bench::new();
        if stage > 0 {
            bench.say(&params(""));
        }
        if stage > 1 {
            bench.server.admit(6, PEER, &COOKIE_A, bench.now_us);
            bench.say(&[]);
            bench.say(&[state::TEST_END]);
        }
        if stage > 2 {
            bench.say(&message(b"{\"streams\":[]}")[..8]);
        }
        bench.now_us += STAGE_LIMIT_US - 1;
        assert_eq!(bench.say(&[]), (vec![], false));
        bench.now_us = bench.server.deadline_us();
        bench.refused(&[], Refusal::Silent);
    }
}

#[test]
fn a_run_has_an_end() {
    let mut bench = Bench::new();
    bench.start("", 1);
    assert_eq!(bench.server.deadline_us(), SECOND_US + 20 * SECOND_US);
    bench.now_us = bench.server.deadline_us();
    bench.refused(&[], Refusal::Silent);
}

#[test]
fn a_client_that_goes_takes_its_test_along() {
    let mut bench = Bench::new();
    bench.start("", 1);
    let step = bench.server.control(&[], true, &mut [0; 64], bench.now_us);
    assert!(step.close && step.streams);
    assert!(!bench.server.is_busy());
    assert_eq!(bench.server.counters.aborted, 1);
}

const UDP: &str = ",\"tcp\":false,\"udp\":true,\"len\":1000,\"udp_counters_64bit\":1";

fn datagram(us: u64, number: u64) -> Vec<u8> {
    let mut payload = ((us / SECOND_US) as u32).to_be_bytes().to_vec();
    payload.extend(((us % SECOND_US) as u32).to_be_bytes());
    payload.extend(number.to_be_bytes());
    payload.resize(1000, 0);
    payload
}

fn udp_bench(more: &str, streams: u16) -> Bench {
    let mut bench = Bench::new();
    bench.say(&params(&format!("{UDP}{more}")));
    for port in 0..streams {
        let number = bench.server.datagram(source(port), b"9876", bench.now_us);
        assert_eq!(number, Some(port.into()));
        assert_eq!(
            bench.server.datagram(source(port), b"9876", bench.now_us),
            number
        );
    }
    assert!(bench.server.is_complete());
    assert_eq!(
        bench.server.datagram(source(99), b"9876", bench.now_us),
        None
    );
    bench.say(&[]);
    bench
}

#[test]
fn datagrams_are_counted_with_loss_and_jitter() {
    let mut bench = udp_bench("", 1);
    let mut arrive = |number: u64, delay_us: u64| {
        let sent_us = SECOND_US + number * 1000;
        let payload = datagram(sent_us, number);
        bench
            .server
            .datagram(source(0), &payload, sent_us + delay_us);
    };
    arrive(1, 50);
    arrive(2, 50);
    arrive(5, 50);
    arrive(4, 50);
    arrive(6, 66);
    bench
        .server
        .datagram(source(1), &datagram(0, 100), SECOND_US);
    bench.server.datagram(source(0), b"short", SECOND_US);
    let text = bench.results();
    let stream =
        "\"bytes\":5005,\"retransmits\":-1,\"jitter\":0.000001000,\"errors\":1,\"packets\":6,";
    assert!(text.contains(stream), "{text}");
}

#[test]
fn numbers_that_jump_do_no_harm() {
    let mut bench = udp_bench("", 1);
    for number in [u64::MAX, 0, u64::MAX, 1] {
        bench
            .server
            .datagram(source(0), &datagram(u64::MAX >> 12, number), SECOND_US);
    }
    bench.results();
}

#[test]
fn datagrams_are_sent_at_their_rate() {
    // 1000 bytes each, 800 kbit/s: one each 10 ms.
    let mut bench = udp_bench(",\"reverse\":true,\"parallel\":2,\"bandwidth\":800000", 2);
    let mut pool = hal::net::Pool::new(1);
    let (mut sent, end_us) = (0, bench.now_us + 10 * SECOND_US);
    while bench.now_us < end_us {
        while let Some(datagram) = bench.server.next_datagram(bench.now_us) {
            let mut frame = pool.take().unwrap();
            datagram.write(&mut frame);
            assert_eq!(frame.bytes().len(), 62 + 1000);
            pool.put(frame);
            sent += 1;
        }
        let due_us = bench.server.datagrams_due_us();
        assert!(due_us > bench.now_us);
        bench.now_us = due_us;
    }
    assert!((2000..2003).contains(&sent), "{sent}");
    bench.now_us = end_us;
    let text = bench.results();
    assert!(text.contains("\"packets\":100"), "{text}");
    assert_eq!(bench.server.datagrams_due_us(), u64::MAX);
}

#[test]
fn a_number_of_bytes_ends_the_sending() {
    let mut bench = udp_bench(",\"reverse\":true,\"num\":2500", 1);
    let mut pool = hal::net::Pool::new(1);
    let mut sent = 0;
    while let Some(datagram) = bench.server.next_datagram(bench.now_us) {
        let mut frame = pool.take().unwrap();
        datagram.write(&mut frame);
        pool.put(frame);
        sent += 1;
    }
    assert_eq!(sent, 3);
}

#[test]
fn what_is_omitted_does_not_count() {
    let mut bench = udp_bench(",\"omit\":2", 1);
    let mut arrive = |at_us: u64, number: u64| {
        bench
            .server
            .datagram(source(0), &datagram(at_us, number), at_us);
    };
    arrive(SECOND_US, 1);
    arrive(SECOND_US, 5);
    arrive(3 * SECOND_US, 6);
    bench.now_us = 4 * SECOND_US;
    let text = bench.results();
    for part in [
        "\"bytes\":1000,",
        "\"errors\":0,",
        "\"omitted_packets\":5,",
        "\"end_time\":1.0",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn either_constant_is_answered_by_its_other() {
    assert_eq!(
        Server::welcome(0x3637_3839_u32.to_le_bytes()),
        0x3938_3736_u32.to_le_bytes()
    );
    assert_eq!(
        Server::welcome(0x3637_3839_u32.to_be_bytes()),
        0x3938_3736_u32.to_be_bytes()
    );
    assert_eq!(
        Server::welcome(123_456_789_u32.to_le_bytes()),
        987_654_321_u32.to_le_bytes()
    );
}

#[test]
fn results_of_the_most_streams_fit() {
    let mut bench = Bench::new();
    bench.start(",\"parallel\":32", 32);
    for number in 0..32 {
        let stream = bench.server.running(1, number, bench.now_us).unwrap();
        (stream.bytes, stream.packets, stream.lost) = (u64::MAX, u64::MAX, u64::MAX);
    }
    assert!(bench.results().matches("\"id\"").count() == 32);
}

#[test]
fn bytes_that_their_end_has_overtaken_count() {
    for late in [false, true] {
        let mut bench = Bench::new();
        bench.start(",\"num\":2000", 1);
        bench.server.running(1, 0, bench.now_us).unwrap().bytes = 1000;
        assert_eq!(bench.say(&[state::TEST_END]), (vec![], false));
        assert!(!bench.server.is_complete());
        if late {
            bench.now_us = bench.server.wake_us();
        } else {
            bench.server.running(1, 0, bench.now_us).unwrap().bytes = 2000;
            assert!(bench.server.is_complete());
        }
        let text = bench.results();
        assert!(
            text.contains(if late {
                "\"bytes\":1000"
            } else {
                "\"bytes\":2000"
            }),
            "{text}"
        );
    }
}

#[test]
fn datagrams_go_only_to_who_asked_for_them() {
    let mut bench = Bench::new();
    bench.say(&params(&format!("{UDP},\"reverse\":true")));
    let victim = Source {
        address: IpAddress::v4(10, 0, 0, 9),
        ..source(0)
    };
    assert_eq!(bench.server.datagram(victim, b"9876", bench.now_us), None);
    assert!(!bench.server.is_complete());
}
