//! Owns a host name on one link: probes, announces, answers, and gives way.
//!
//! Works on byte slices: [`Responder::receive`] judges one datagram, [`Responder::write`] builds one
//! message, [`Responder::poll`] says what is due.
//!
//! ```text
//! name                          type   answer
//! HOSTNAME.local                A, AAAA, NSEC (for the one that is missing)
//! _http._tcp.local              PTR    HOSTNAME._http._tcp.local
//! HOSTNAME._http._tcp.local     SRV    HOSTNAME.local:80     TXT  path=/
//! _services._dns-sd._udp.local  PTR    _http._tcp.local
//! ```
//!
//! Probe three times, announce twice, then be silent until asked. Left out: goodbyes, random delay before
//! shared answers, known answers spread over several packets, and probing for the service name (it
//! contains the host name, which is probed).

use core::fmt::Write as _;

use heapless::Vec;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpAddress, IpCidr, IpVersion};

use super::PORT;
use super::wire::{HEADER_LEN, Header, Name, Reader, Record, Writer, read_name, wire_name};
use crate::addressing::random::Random;

/// The largest message [`Responder::write`] makes, in bytes: fits an IPv6 packet of the smallest MTU.
pub(super) const MAX_MESSAGE_LEN: usize = 1232;

/// A host name without domain, in lower case: one DNS label.
pub type HostLabel = heapless::String<63>;

const PROBES: u8 = 3;
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
const PROBE_INTERVAL_MS: u32 = 250;
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
const LOST_TIE_WAIT: Duration = Duration::from_secs(1);
/// Spec: RFC 6762, section 8.1: fifteen conflicts, then five seconds between tries.
const MANY_CONFLICTS: u16 = 15;
const MANY_CONFLICTS_WAIT: Duration = Duration::from_secs(5);
/// Spec: RFC 6762, section 6: no record is multicast twice within a second.
const MULTICAST_INTERVAL: Duration = Duration::from_secs(1);
/// A quarter of [`HOST_TTL_S`]: by then peers are to hear the record again (RFC 6762, section 5.4).
const MULTICAST_STALE: Duration = Duration::from_secs(30);

/// Spec: RFC 6762, section 10: records with a host name or address, and the others.
const HOST_TTL_S: u32 = 120;
const OTHER_TTL_S: u32 = 4500;
/// Spec: RFC 6762, section 6.7.
const LEGACY_TTL_S: u32 = 10;

const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const OPCODE_AND_RCODE: u16 = 0x780f;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
/// Cache flush in a record, "unicast answer please" in a question.
const TOP_BIT: u16 = 0x8000;

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_TXT: u16 = 16;
const TYPE_AAAA: u16 = 28;
const TYPE_SRV: u16 = 33;
const TYPE_NSEC: u16 = 47;
const TYPE_ANY: u16 = 255;

/// A set of our records, one bit each.
type Records = u8;
const A: Records = 1;
const AAAA: Records = 2;
const NSEC: Records = 4;
const SERVICE: Records = 8;
const SRV: Records = 16;
const TXT: Records = 32;
const ENUMERATION: Records = 64;
const EVERYTHING: Records = A | AAAA | SERVICE | SRV | TXT | ENUMERATION;

/// A message to be built by [`Responder::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    kind: Kind,
    answers: Records,
    additional: Records,
    /// Bit n: the n-th address need not be sent, the other side knows it.
    known_addrs: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Probe,
    Answer,
    /// To a resolver that is no multicast one: its identifier and question come back.
    Legacy {
        id: u16,
        name: Owner,
        qtype: u16,
        qclass: u16,
    },
}

impl Message {
    const PROBE: Self = Self {
        kind: Kind::Probe,
        answers: A | AAAA,
        additional: 0,
        known_addrs: 0,
    };
    const ANNOUNCEMENT: Self = Self {
        kind: Kind::Answer,
        answers: EVERYTHING,
        additional: 0,
        known_addrs: 0,
    };
}

/// What a datagram asks us to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reaction {
    /// Send this back to where it came from.
    pub(super) unicast: Option<Message>,
    /// Send this to the group of the same IP version.
    pub(super) multicast: Option<Message>,
    /// Somebody else has our name. The responder has dealt with it, by a new name or a new probe.
    pub(super) conflict: bool,
}

/// What is due now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Send this to both groups.
    Multicast(Message),
    /// The same, and the name is ours from now on.
    Claimed(Message),
}

/// One of the names we own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Host,
    Service,
    Instance,
    Enumeration,
}

/// Our names as on the wire.
#[derive(Debug)]
struct Names {
    host: Name,
    service: Name,
    instance: Name,
    enumeration: Name,
}

impl Names {
    fn new(label: &str) -> Self {
        let label = label.as_bytes();
        Self {
            host: wire_name(&[label, b"local"]),
            service: wire_name(&[b"_http", b"_tcp", b"local"]),
            instance: wire_name(&[label, b"_http", b"_tcp", b"local"]),
            enumeration: wire_name(&[b"_services", b"_dns-sd", b"_udp", b"local"]),
        }
    }

    fn get(&self, owner: Owner) -> &Name {
        match owner {
            Owner::Host => &self.host,
            Owner::Service => &self.service,
            Owner::Instance => &self.instance,
            Owner::Enumeration => &self.enumeration,
        }
    }

    fn find(&self, name: &Name) -> Option<Owner> {
        [
            Owner::Host,
            Owner::Service,
            Owner::Instance,
            Owner::Enumeration,
        ]
        .into_iter()
        .find(|owner| self.get(*owner) == name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    Probing { sent: u8, at: Instant },
    Announcing { sent: u8, at: Instant },
    Ready,
}

/// The last multicast to one group, for the limits of RFC 6762.
#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Instant,
    records: Records,
}

/// Owns one host name on one link.
#[derive(Debug)]
pub(super) struct Responder {
    wanted: HostLabel,
    label: HostLabel,
    names: Names,
    state: State,
    /// How many names were tried.
    number: u16,
    conflicts: u16,
    sent: [Option<Sent>; 2],
}

impl Responder {
    /// Wants the name, claims nothing yet.
    pub(super) fn new(label: HostLabel) -> Self {
        let names = Names::new(&label);
        Self {
            wanted: label.clone(),
            label,
            names,
            state: State::Off,
            number: 1,
            conflicts: 0,
            sent: [None; 2],
        }
    }

    /// The name as it stands, without `.local`.
    pub(super) fn label(&self) -> &HostLabel {
        &self.label
    }

    /// Probes for the name, then announces it: the link came up, or the first address of a family.
    pub(super) fn start(&mut self, now: Instant, random: &mut Random) {
        self.sent = [None; 2];
        self.conflicts = 0;
        self.state = State::Probing {
            sent: 0,
            at: now + random.between_ms(0, PROBE_INTERVAL_MS),
        };
    }

    /// Probes anew, if the name is in use or being probed for.
    pub(super) fn probe_again(&mut self, now: Instant, random: &mut Random) {
        if self.state != State::Off {
            self.start(now, random);
        }
    }

    /// Announces the addresses again, since they changed.
    pub(super) fn announce_again(&mut self, now: Instant) {
        if matches!(self.state, State::Announcing { .. } | State::Ready) {
            self.state = State::Announcing { sent: 0, at: now };
        }
    }

    pub(super) fn stop(&mut self) {
        self.state = State::Off;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Off | State::Ready => None,
            State::Probing { at, .. } | State::Announcing { at, .. } => Some(at),
        }
    }

    /// The next probe or announcement, if one is due.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Due> {
        match self.state {
            State::Probing { sent, at } if at <= now => {
                if sent < PROBES {
                    self.state = State::Probing {
                        sent: sent + 1,
                        at: now + PROBE_INTERVAL,
                    };
                    return Some(Due::Multicast(Message::PROBE));
                }
                self.state = State::Announcing {
                    sent: 1,
                    at: now + ANNOUNCE_INTERVAL,
                };
                Some(Due::Claimed(self.announcement(now)))
            }
            State::Announcing { sent, at } if at <= now => {
                self.state = if sent + 1 < ANNOUNCEMENTS {
                    State::Announcing {
                        sent: sent + 1,
                        at: now + ANNOUNCE_INTERVAL,
                    }
                } else {
                    State::Ready
                };
                Some(Due::Multicast(self.announcement(now)))
            }
            _ => None,
        }
    }

    fn announcement(&mut self, now: Instant) -> Message {
        self.sent = [Some(Sent {
            at: now,
            records: EVERYTHING,
        }); 2];
        Message::ANNOUNCEMENT
    }

    /// Judges one datagram. `addrs` are the addresses of the interface; only neighbours are answered.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        message: &[u8],
        source: IpAddress,
        source_port: u16,
        addrs: &[IpCidr],
    ) -> Reaction {
        let on_link = addrs.iter().any(|cidr| cidr.contains_addr(&source));
        let Some(header) = Header::read(message).filter(|_| on_link && self.state != State::Off)
        else {
            return Reaction::default();
        };
        if header.flags & OPCODE_AND_RCODE != 0 {
            return Reaction::default();
        }
        if header.flags & FLAG_RESPONSE == 0 {
            return self.receive_query(now, message, &header, source.version(), source_port, addrs);
        }
        let conflict =
            source_port == PORT && self.contradicts(message, &header, addrs) == Some(true);
        if conflict {
            self.conflict(now);
        }
        Reaction {
            conflict,
            ..Reaction::default()
        }
    }

    fn receive_query(
        &mut self,
        now: Instant,
        message: &[u8],
        header: &Header,
        version: IpVersion,
        source_port: u16,
        addrs: &[IpCidr],
    ) -> Reaction {
        let Some(query) = self.read_query(message, header, addrs) else {
            return Reaction::default();
        };
        if let State::Probing { .. } = self.state {
            // Two hosts probe for one name at a time: the greater records win (RFC 6762, 8.2).
            if query.probe && loses_tie(message, header, &self.names.host, addrs) {
                self.state = State::Probing {
                    sent: 0,
                    at: now + LOST_TIE_WAIT,
                };
            }
            return Reaction::default();
        }
        let Some((name, qtype, qclass)) = query.first else {
            return Reaction::default();
        };
        let answers = query.answers & !query.known;
        let additional = query.additional & !query.answers & !query.known;
        let mut answer = Message {
            kind: Kind::Answer,
            answers,
            additional,
            known_addrs: query.known_addrs,
        };
        if source_port != PORT {
            answer.kind = Kind::Legacy {
                id: header.id,
                name,
                qtype,
                qclass,
            };
            return Reaction {
                unicast: Some(answer),
                ..Reaction::default()
            };
        }
        if !self.says_anything(&answer, addrs) {
            return Reaction::default();
        }
        let fresh = |limit| {
            self.sent[version as usize]
                .is_some_and(|sent| now < sent.at + limit && answers & !sent.records == 0)
        };
        let multicast = if query.unicast {
            !fresh(MULTICAST_STALE)
        } else {
            query.probe || !fresh(MULTICAST_INTERVAL)
        };
        if multicast {
            let sent = &mut self.sent[version as usize];
            let recent = sent
                .filter(|sent| now < sent.at + MULTICAST_INTERVAL)
                .map_or(0, |sent| sent.records);
            *sent = Some(Sent {
                at: now,
                records: recent | answers,
            });
        }
        Reaction {
            unicast: query.unicast.then_some(answer),
            multicast: multicast.then_some(answer),
            conflict: false,
        }
    }

    /// Whether anything is left to say after what the other side knows already.
    fn says_anything(&self, answer: &Message, addrs: &[IpCidr]) -> bool {
        answer.answers & !(A | AAAA) != 0
            || addrs.iter().enumerate().any(|(index, cidr)| {
                answer.known_addrs & bit(index) == 0 && answer.answers & record_of(cidr) != 0
            })
    }

    fn read_query(&self, message: &[u8], header: &Header, addrs: &[IpCidr]) -> Option<Query> {
        let mut query = Query {
            unicast: true,
            ..Query::default()
        };
        let mut reader = Reader {
            message,
            at: HEADER_LEN,
        };
        for _ in 0..header.questions {
            let (name, qtype, class) = reader.question()?;
            let Some(owner) = self
                .names
                .find(&name)
                .filter(|_| matches!(class & !TOP_BIT, CLASS_IN | CLASS_ANY))
            else {
                continue;
            };
            let (answers, additional) = answer_to(owner, qtype, addrs);
            query.answers |= answers;
            query.additional |= additional;
            if answers != 0 {
                query.unicast &= class & TOP_BIT != 0;
                query.first.get_or_insert((owner, qtype, class & !TOP_BIT));
            }
            query.probe |= owner == Owner::Host && header.authorities > 0;
        }
        for _ in 0..header.answers {
            let record = reader.record()?;
            self.note_known(&mut query, message, &record, addrs);
        }
        Some(query)
    }

    /// Known-answer suppression (RFC 6762, 7.1): a record the asker holds for at least half its lifetime.
    fn note_known(&self, query: &mut Query, message: &[u8], record: &Record, addrs: &[IpCidr]) {
        let points_to = |name: &Name| {
            read_name(message, record.data_at).is_some_and(|(target, _)| target == *name)
        };
        match (self.names.find(&record.name), record.kind) {
            (Some(Owner::Host), TYPE_A | TYPE_AAAA) if record.ttl_s >= HOST_TTL_S / 2 => {
                if let Some(index) = position(record, addrs) {
                    query.known_addrs |= bit(index);
                }
            }
            (Some(Owner::Service), TYPE_PTR)
                if record.ttl_s >= OTHER_TTL_S / 2 && points_to(&self.names.instance) =>
            {
                query.known |= SERVICE;
            }
            (Some(Owner::Enumeration), TYPE_PTR)
                if record.ttl_s >= OTHER_TTL_S / 2 && points_to(&self.names.service) =>
            {
                query.known |= ENUMERATION;
            }
            _ => {}
        }
    }

    /// Whether a response gives our name to somebody else; `None` if it is damaged.
    fn contradicts(&self, message: &[u8], header: &Header, addrs: &[IpCidr]) -> Option<bool> {
        let mut reader = Reader {
            message,
            at: HEADER_LEN,
        };
        for _ in 0..header.questions {
            reader.question()?;
        }
        for _ in 0..header.records() {
            let record = reader.record()?;
            if matches!(record.kind, TYPE_A | TYPE_AAAA)
                && record.class & !TOP_BIT == CLASS_IN
                // Zero takes a record back.
                && record.ttl_s > 0
                && record.name == self.names.host
                && position(&record, addrs).is_none()
            {
                return Some(true);
            }
        }
        Some(false)
    }

    /// While probing the name is lost; afterwards it is worth another probe (RFC 6762, 9).
    fn conflict(&mut self, now: Instant) {
        self.conflicts = self.conflicts.saturating_add(1);
        let wait = if self.conflicts >= MANY_CONFLICTS {
            MANY_CONFLICTS_WAIT
        } else {
            Duration::ZERO
        };
        if let State::Probing { .. } = self.state {
            self.number = self.number.saturating_add(1);
            self.label = numbered(&self.wanted, self.number);
            self.names = Names::new(&self.label);
        }
        self.state = State::Probing {
            sent: 0,
            at: now + wait,
        };
    }

    /// Builds `message` in `out` and returns its length. What does not fit is left out, whole records at
    /// a time.
    pub(super) fn write(&self, message: &Message, addrs: &[IpCidr], out: &mut [u8]) -> usize {
        let limit = out.len().min(MAX_MESSAGE_LEN);
        let mut writer = Writer {
            out: &mut out[..limit],
            at: HEADER_LEN,
        };
        let mut header = Header {
            flags: FLAG_RESPONSE | FLAG_AUTHORITATIVE,
            ..Header::default()
        };
        let put = |writer: &mut Writer, records| self.put_records(writer, message, records, addrs);
        match message.kind {
            Kind::Probe => {
                header.flags = 0;
                header.questions = writer.question(&self.names.host, TYPE_ANY, CLASS_IN | TOP_BIT);
                header.authorities = put(&mut writer, message.answers);
            }
            Kind::Answer => {
                header.answers = put(&mut writer, message.answers);
                header.additional = put(&mut writer, message.additional);
            }
            Kind::Legacy {
                id,
                name,
                qtype,
                qclass,
            } => {
                header.id = id;
                header.questions = writer.question(self.names.get(name), qtype, qclass);
                header.answers = put(&mut writer, message.answers);
                header.additional = put(&mut writer, message.additional);
            }
        }
        let len = writer.at;
        match out.first_chunk_mut::<HEADER_LEN>() {
            Some(bytes) => {
                *bytes = header.bytes();
                len
            }
            None => 0,
        }
    }

    /// Writes the records and returns how many.
    fn put_records(
        &self,
        writer: &mut Writer,
        message: &Message,
        records: Records,
        addrs: &[IpCidr],
    ) -> u16 {
        // Only a finished claim may flush caches; a resolver that is no multicast one knows no such bit.
        let unique = if message.kind == Kind::Answer {
            CLASS_IN | TOP_BIT
        } else {
            CLASS_IN
        };
        let ttl = |ttl_s: u32| {
            if let Kind::Legacy { .. } = message.kind {
                ttl_s.min(LEGACY_TTL_S)
            } else {
                ttl_s
            }
        };
        let names = &self.names;
        let mut count = 0;
        for (index, cidr) in addrs.iter().enumerate() {
            if records & record_of(cidr) != 0 && message.known_addrs & bit(index) == 0 {
                let (kind, octets) = rdata(cidr);
                count += writer.record(&names.host, kind, unique, ttl(HOST_TTL_S), &[&octets]);
            }
        }
        if records & NSEC != 0 {
            let have = families(addrs);
            // The bitmap of types below 32 that exist: bit 1 is A, bit 28 is AAAA.
            let bitmap = [
                if have & A != 0 { 0x40 } else { 0 },
                0,
                0,
                if have & AAAA != 0 { 0x08 } else { 0 },
            ];
            let used = if have & AAAA != 0 {
                &bitmap[..]
            } else {
                &bitmap[..1]
            };
            let data: [&[u8]; 3] = [&names.host, &[0, used.len() as u8], used];
            count += writer.record(&names.host, TYPE_NSEC, unique, ttl(HOST_TTL_S), &data);
        }
        if records & SERVICE != 0 {
            count += writer.record(
                &names.service,
                TYPE_PTR,
                CLASS_IN,
                ttl(OTHER_TTL_S),
                &[&names.instance],
            );
        }
        if records & SRV != 0 {
            // Priority 0, weight 0, port 80.
            let data: [&[u8]; 2] = [&[0, 0, 0, 0, 0, 80], &names.host];
            count += writer.record(&names.instance, TYPE_SRV, unique, ttl(HOST_TTL_S), &data);
        }
        if records & TXT != 0 {
            count += writer.record(
                &names.instance,
                TYPE_TXT,
                unique,
                ttl(OTHER_TTL_S),
                &[b"\x06path=/"],
            );
        }
        if records & ENUMERATION != 0 {
            count += writer.record(
                &names.enumeration,
                TYPE_PTR,
                CLASS_IN,
                ttl(OTHER_TTL_S),
                &[&names.service],
            );
        }
        count
    }
}

/// The questions of one message that are ours.
#[derive(Debug, Default)]
struct Query {
    answers: Records,
    additional: Records,
    known: Records,
    known_addrs: u8,
    /// All of them ask for a unicast answer.
    unicast: bool,
    /// Somebody probes for our host name.
    probe: bool,
    first: Option<(Owner, u16, u16)>,
}

/// The records that answer a question, and those that will be asked for next.
fn answer_to(owner: Owner, qtype: u16, addrs: &[IpCidr]) -> (Records, Records) {
    let have = families(addrs);
    let only = |kind: u16, record: Records| {
        if qtype == kind || qtype == TYPE_ANY {
            record
        } else {
            0
        }
    };
    match owner {
        Owner::Host => {
            let answers = have & (only(TYPE_A, A) | only(TYPE_AAAA, AAAA));
            // The name is ours alone, so we know what does not exist.
            if answers == 0 {
                (NSEC, have)
            } else {
                (answers, have)
            }
        }
        Owner::Service => (only(TYPE_PTR, SERVICE), SRV | TXT | have),
        Owner::Instance => (only(TYPE_SRV, SRV) | only(TYPE_TXT, TXT), have),
        Owner::Enumeration => (only(TYPE_PTR, ENUMERATION), 0),
    }
}

fn families(addrs: &[IpCidr]) -> Records {
    addrs
        .iter()
        .fold(0, |records, cidr| records | record_of(cidr))
}

fn record_of(cidr: &IpCidr) -> Records {
    match cidr {
        IpCidr::Ipv4(_) => A,
        IpCidr::Ipv6(_) => AAAA,
    }
}

/// Addresses past the eighth cannot be marked, and the interface holds eight.
fn bit(index: usize) -> u8 {
    1u8.checked_shl(index as u32).unwrap_or(0)
}

/// The record type and data of an address.
fn rdata(cidr: &IpCidr) -> (u16, Vec<u8, 16>) {
    let mut octets = Vec::new();
    // Sixteen bytes always fit.
    let kind = match cidr.address() {
        IpAddress::Ipv4(addr) => octets.extend_from_slice(&addr.octets()).map(|()| TYPE_A),
        IpAddress::Ipv6(addr) => octets.extend_from_slice(&addr.octets()).map(|()| TYPE_AAAA),
    };
    (kind.unwrap_or_default(), octets)
}

/// Which of our addresses the record holds.
fn position(record: &Record, addrs: &[IpCidr]) -> Option<usize> {
    addrs.iter().position(|cidr| {
        let (kind, octets) = rdata(cidr);
        kind == record.kind && octets == record.data
    })
}

/// Whether the records of another prober beat ours: compared by class, type and bytes, in order.
fn loses_tie(message: &[u8], header: &Header, host: &Name, addrs: &[IpCidr]) -> bool {
    let mut reader = Reader {
        message,
        at: HEADER_LEN,
    };
    let mut theirs: Vec<(u16, u16, &[u8]), 8> = Vec::new();
    for _ in 0..header.questions {
        if reader.question().is_none() {
            return false;
        }
    }
    for index in 0..u32::from(header.answers) + u32::from(header.authorities) {
        let Some(record) = reader.record() else {
            return false;
        };
        if index >= header.answers.into() && record.name == *host {
            // More than eight do not change who is first in any case that occurs.
            let _ = theirs.push((record.class & !TOP_BIT, record.kind, record.data));
        }
    }
    let rdata: Vec<_, 8> = addrs.iter().take(8).map(rdata).collect();
    let mut ours: Vec<(u16, u16, &[u8]), 8> = rdata
        .iter()
        .map(|(kind, octets)| (CLASS_IN, *kind, octets.as_slice()))
        .collect();
    sort(&mut theirs);
    sort(&mut ours);
    !theirs.is_empty() && theirs > ours
}

/// Insertion sort: for eight records the standard library's 8 KiB of sorting are out of proportion.
fn sort<T: Ord>(records: &mut [T]) {
    for end in 1..records.len() {
        let mut at = end;
        while at > 0 && records[at - 1] > records[at] {
            records.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// `name-2`, cut so that it stays a label.
fn numbered(base: &str, number: u16) -> HostLabel {
    let mut suffix: heapless::String<8> = heapless::String::new();
    let _ = write!(suffix, "-{number}");
    let mut label = HostLabel::new();
    for character in base
        .chars()
        .take(label.capacity() - suffix.len())
        .chain(suffix.chars())
    {
        let _ = label.push(character);
    }
    label
}

/// Feeds one hostile datagram to a responder in every state and writes what it wants to say.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let addrs = [
        IpCidr::new(IpAddress::v4(192, 0, 2, 1), 24),
        IpCidr::new(IpAddress::v6(0xfe80, 0, 0, 0, 0, 0, 0, 1), 64),
    ];
    let now = Instant::from_secs(60);
    let states = [
        State::Probing { sent: 1, at: now },
        State::Announcing { sent: 1, at: now },
        State::Ready,
    ];
    for state in states {
        for port in [PORT, 1024] {
            let mut responder = Responder::new(numbered("ristretto", 2));
            responder.state = state;
            let reaction = responder.receive(now, data, IpAddress::v4(192, 0, 2, 9), port, &addrs);
            for message in [reaction.unicast, reaction.multicast].into_iter().flatten() {
                let mut out = [0; MAX_MESSAGE_LEN];
                let len = responder.write(&message, &addrs, &mut out);
                // What we write we can read.
                let mut other = Responder::new(numbered("other", 2));
                other.state = State::Ready;
                other.receive(now, &out[..len], IpAddress::v4(192, 0, 2, 9), PORT, &addrs);
            }
        }
    }
}
